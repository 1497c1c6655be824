"""Markov chains of the weights: advanced chunk by chunk in one graph, kept in a folder, and taken back."""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import positive_integer
from tfbnn.core.noise import fold_in, seed_pair
from tfbnn.training.checkpoint import Checkpoint, Checkpoints
from tfbnn.training.description import described
from tfbnn.training.joint import LogJoint
from tfbnn.training.loop import checksum
from tfbnn.training.warmup import RunningVariance, StepSize, windows

NUMBERS_AT_ONCE = 2**25  # of a chunk's draws
BEGINNINGS = 2**30  # what the seed is folded with, beside the numbers of steps
SHORTEST_TO_JUDGE = 10  # steps in which a chain that can move does


class Kernel(abc.ABC):
    """How chains step, and what is told of a step."""

    @abc.abstractmethod
    def of(self, target: Any) -> Any:
        """The TFP kernel for the log density `target`, [C, D] -> [C]; its step size is set before each step."""

    @abc.abstractmethod
    def with_step_size(self, results: Any, step_size: tf.Tensor, seed: tf.Tensor) -> Any:
        """The TFP kernel's results with the step size for its next step, whose seed is int32 [2]."""

    @abc.abstractmethod
    def told(self, results: Any) -> dict[str, tf.Tensor]:
        """Of the last step, each [C]: lp, acceptance_rate, accepted, diverging, n_steps, ..."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What a method is told of its chains; see `tfbnn.inference.NUTS`."""

    chains: int
    num_draws: int
    warmup: int
    thinning: int
    step_size: float
    target_accept: float
    spread: float
    chunk: int
    seed: int

    @property
    def total(self) -> int:
        """Steps of each chain."""
        return self.warmup + self.num_draws * self.thinning


@dataclasses.dataclass
class State:
    """Where the chains are: all that the next chunk depends on, and what was drawn.

    Attributes:
        steps: made by each chain.
        position: [C, D].
        scale: [D]: coordinates are divided by it, which is a diagonal mass.
        step_size: of the divided coordinates.
        variance: of the draws since the scale was set.
        draws: kept ones, [t, C, D] of each chunk.
        told: of the kept ones, name -> [t, C] of each chunk.
        seconds: of sampling.
    """

    steps: int
    position: np.ndarray
    scale: np.ndarray
    step_size: StepSize
    variance: RunningVariance
    draws: list[np.ndarray] = dataclasses.field(default_factory=list)
    told: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


class Chains:
    """Chains that advance together, chunk by chunk; step n of all chains draws from (seed, n) alone.

    Each chunk asks the density anew where the chains are, so that it depends on `state` alone.

    Args:
        joint: the density.
        kernel: how they step.
        schedule: how often, and from where.
        jit_compile: whether XLA compiles the steps.
        verbose: 0: silent; 1 or "auto": a bar that moves; 2: one line at its end.

    Attributes:
        state: where they are, and what they drew.
        history: of the training that found the mode; it is kept with the chains.
    """

    def __init__(self, joint: LogJoint, kernel: Kernel, schedule: Schedule, jit_compile: bool, verbose: Any):
        self.joint = joint
        self.kernel = kernel
        self.schedule = schedule
        self.history: dict[str, list[float]] = {}
        self.state = State(0, *self._nowhere())
        self.jit_compile = jit_compile
        self._ends = sorted({*windows(schedule.warmup), schedule.warmup, schedule.total})
        self._chunk = min(schedule.chunk, max(1, NUMBERS_AT_ONCE // (schedule.chains * joint.size)))
        self._advance: Any = None  # the graph of a chunk, made by the first
        self._verbose = verbose

    def _nowhere(self) -> tuple:
        C, D = self.schedule.chains, self.joint.size
        return np.zeros((C, D), np.float32), np.ones(D, np.float32), StepSize.begin(1.0), RunningVariance.begin(C, D)

    # --- in the graph ------------------------------------------------------------------------------------------------

    def _advance_in_graph(self, position, scale, step_size, first, count, adapting):
        """`count` steps from number `first`: the last position [C, D], the step size, all positions, what was told."""
        kernel, told_of = self.kernel, self.kernel.told
        steps = kernel.of(lambda scaled: self.joint(scaled * scale))
        seed = seed_pair(self.schedule.seed)
        results = kernel.with_step_size(steps.bootstrap_results(position / scale), tf.ones([]), seed)
        arrays = [tf.TensorArray(value.dtype, self._chunk, element_shape=value.shape)
                  for value in (position, *told_of(results).values())]  # fmt: skip

        def step(i, scaled, results, step_size, arrays):
            own = fold_in(seed, first + i)
            eps = tf.exp(tf.where(adapting, step_size.log_step, step_size.log_average))
            scaled, results = steps.one_step(scaled, kernel.with_step_size(results, eps, own), seed=own)
            told = told_of(results)
            acceptance = tf.reduce_mean(told["acceptance_rate"])
            acceptance = tf.where(tf.math.is_finite(acceptance), acceptance, 0.0)
            learned = step_size.next(acceptance, self.schedule.target_accept)
            step_size = StepSize(*(tf.where(adapting, a, b) for a, b in zip(learned, step_size, strict=True)))
            written = zip(arrays, (scaled * scale, *told.values()), strict=True)
            return i + 1, scaled, results, step_size, [array.write(i, value) for array, value in written]

        begin = 0, position / scale, results, step_size, arrays
        _, scaled, _, step_size, arrays = tf.while_loop(lambda i, *_: i < count, step, begin)
        draws, *told = [array.stack() for array in arrays]
        return scaled * scale, step_size, draws, dict(zip(told_of(results), told, strict=True))

    # --- chunks ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Sets the chains between the present weights and draws of the prior.

        Raises:
            FloatingPointError: where the density is not finite there.
        """
        schedule, joint = self.schedule, self.joint
        mode = joint.present()
        drawn = joint.prior_draws(schedule.chains, fold_in(seed_pair(schedule.seed), BEGINNINGS))
        position = mode + schedule.spread * (drawn - mode)
        if not np.isfinite(joint(position).numpy()).all():
            raise FloatingPointError(
                "The log joint density is not finite where a chain would begin. Give a smaller spread (0: all begin at "
                "the mode), a prior with a smaller scale, or standardised inputs."
            )
        self.state = State(0, position.numpy(), *self._nowhere()[1:])
        self.state.step_size = StepSize.begin(schedule.step_size)

    def run(self, after_chunk: Any) -> None:
        """Makes the steps that are left; calls after_chunk(steps made, what to tell)."""
        bar = _Bar(self.schedule.total, self._verbose)
        while self.state.steps < self.schedule.total:
            began = time.monotonic()
            told = self._one_chunk()
            self.state.seconds += time.monotonic() - began
            bar.move(self.state.steps, told)
            after_chunk(self.state.steps, told)

    def _one_chunk(self) -> dict[str, float]:
        state, warmup = self.state, self.schedule.warmup
        count = min(self._chunk, next(end for end in self._ends if end > state.steps) - state.steps)
        warming = state.steps < warmup
        arguments = (state.position, state.scale, state.step_size, state.steps, count, warming)
        tensors = tf.nest.map_structure(tf.convert_to_tensor, arguments)
        if self._advance is None:  # called as it is, it never warns of retracing from chains to chains
            graph = tf.function(self._advance_in_graph, autograph=False, jit_compile=self.jit_compile)
            self._advance = graph.get_concrete_function(*tensors)
        position, step_size, draws, told = self._advance(*tensors)
        state.position, state.step_size = position.numpy(), StepSize(*(value.numpy() for value in step_size))
        draws, told = draws.numpy()[:count], {name: values.numpy()[:count] for name, values in told.items()}
        told["step_size"] = np.full(told["lp"].shape, np.exp(state.step_size.log_average))
        if warming:
            state.variance = state.variance.next(draws)
        else:
            self._keep(draws, told)
        state.steps += count
        if warming:
            self._learn_scale()
        if state.steps >= warmup:
            self._refuse_stuck(told if warming else self.told())
        return {
            "step size": float(told["step_size"][-1, 0]),
            "acceptance": float(told["acceptance_rate"].mean()),
            "divergences": float(sum(values.sum() for values in state.told.get("diverging", []))),
        }

    def _keep(self, draws: np.ndarray, told: dict[str, np.ndarray]) -> None:
        done = np.arange(self.state.steps + 1, self.state.steps + len(draws) + 1) - self.schedule.warmup
        kept = done % self.schedule.thinning == 0
        if not kept.any():
            return
        self.state.draws.append(draws[kept])
        for name, values in told.items():
            self.state.told.setdefault(name, []).append(values[kept])

    def _learn_scale(self) -> None:
        """At the end of a window: the scale becomes that of its draws, and the step size is learned anew."""
        ends, state = windows(self.schedule.warmup), self.state
        if state.steps not in ends:
            return
        if state.steps != ends[0]:
            state.scale = state.variance.scale()
            state.step_size = StepSize.begin(float(np.exp(state.step_size.log_average)))
        state.variance = RunningVariance.begin(*state.position.shape)

    def _refuse_stuck(self, told: Mapping[str, np.ndarray]) -> None:
        """Raises where a chain has accepted nothing in the last chunk of the warm-up, or in all its draws."""
        accepted = told.get("accepted", np.ones([0, 1], bool))
        stuck = np.flatnonzero(~accepted.any(axis=0))
        if not stuck.size or len(accepted) < SHORTEST_TO_JUDGE:
            return
        raise FloatingPointError(
            f"Chain {stuck[0]} of {self.schedule.chains} did not move in {len(accepted)} steps (step size "
            f"{told['step_size'][-1, 0]:.3g}, {told['diverging'][:, stuck[0]].mean():.0%} of them diverged). Give a "
            "smaller step_size and a longer warmup, begin nearer to the mode (a smaller spread, more epochs), or use "
            "priors with a smaller scale."
        )

    def kept(self) -> np.ndarray:
        """The draws, [T, C, D]."""
        return np.concatenate(self.state.draws)

    def told(self) -> dict[str, np.ndarray]:
        """What the kernel told of the draws: name -> [T, C]."""
        return {name: np.concatenate(values) for name, values in self.state.told.items()}


class _Bar:
    """Keras' bar, a step a step of the chains."""

    def __init__(self, steps: int, verbose: Any):
        shown = ["step size", "acceptance", "divergences"]
        level = 1 if verbose in ("auto", True) else int(verbose)
        self._bar = (
            keras.utils.Progbar(steps, verbose=level, stateful_metrics=shown, unit_name="step") if level else None
        )

    def move(self, steps: int, told: Mapping[str, float]) -> None:
        """To `steps`."""
        if self._bar is not None:
            self._bar.update(steps, list(told.items()))


class KeptChains:
    """Keeps chains in a folder, and takes them back; `finishing_epochs` calls it after each chunk.

    Args:
        chains: which.
        folder: of the checkpoints; None: nothing is written.
        every: chunks between checkpoints.
        of: JSON-able: what chains that go on must have in common with those that were begun, beside `chains`.
    """

    def __init__(self, chains: Chains, folder: Any, every: int, of: Mapping[str, Any]):
        self._chains = chains
        self._every = positive_integer("checkpoint_every", every)
        self._chunks = 0
        self._checkpoints = None if folder is None else Checkpoints(folder, {**of, **_told_apart_by(chains)})

    def found(self) -> Checkpoint | None:
        """The newest checkpoint of these chains."""
        return None if self._checkpoints is None else self._checkpoints.newest()

    def begin(self, found: Checkpoint | None) -> None:
        """Takes `found` back, or begins the chains and removes what was kept of others."""
        if self._checkpoints is not None:
            self._checkpoints.lock()
        if found is not None:
            self._take(found)
            return
        self._chains.begin()
        if self._checkpoints is not None:
            self._checkpoints.remove()

    def end(self) -> None:
        """Lets others use the folder."""
        if self._checkpoints is not None:
            self._checkpoints.unlock()

    def after_epoch(self, steps: int, at_once: bool = False) -> None:
        """Writes a checkpoint where it is time for one."""
        self._chunks += 1
        due = at_once or self._chunks % self._every == 0 or steps == self._chains.schedule.total
        if self._checkpoints is None or not due:
            return
        state = self._chains.state
        told, draws = self._chains.told(), [self._chains.kept()] if state.draws else []
        weights = [variable.numpy() for variable in self._weights()]
        values = [state.position, state.scale, *state.step_size, *state.variance, *weights, *told.values(), *draws]
        about = {"told": list(told), "seconds": state.seconds, "history": self._chains.history}
        self._checkpoints.save(Checkpoint(steps, [np.asarray(value) for value in values], about))

    def _take(self, found: Checkpoint) -> None:
        position, scale, *rest = found.values
        step_size, variance, rest = StepSize(*rest[:5]), RunningVariance(*rest[5:8]), rest[8:]
        for variable in self._weights():
            variable.assign(rest.pop(0))
        told = {name: [rest.pop(0)] for name in found.about["told"]}
        seconds = found.about["seconds"]
        self._chains.state = State(found.epoch, position, scale, step_size, variance, rest, told, seconds)
        self._chains.history = found.about["history"]

    def _weights(self) -> list[keras.Variable]:
        """All that training may have changed."""
        model = self._chains.joint.model
        return [*model.network.variables, *model.likelihood.variables]

    def told(self, steps: int) -> str:
        """Where interrupted chains stand."""
        schedule = self._chains.schedule
        stands = f"Sampling stopped after step {steps} of {schedule.total} ({schedule.warmup} of them warm-up)"
        drawn = "In Python, draws_so_far() gives what was drawn." if steps > schedule.warmup else ""
        if self._checkpoints is None:
            return f"{stands}. {drawn} With checkpoint=FOLDER it could go on.".replace("  ", " ")
        go_on = "To go on: resume=True, or `tfbnn train ... --resume`."
        return f"{stands}; its state is kept in {self._checkpoints.folder}. {go_on} {drawn}".rstrip()


def _told_apart_by(chains: Chains) -> dict[str, Any]:
    """What tells chains of one problem from those of another; their number of draws may grow."""
    schedule = {name: value for name, value in dataclasses.asdict(chains.schedule).items() if name != "num_draws"}
    joint = chains.joint
    return {
        **schedule,
        "jit_compile": chains.jit_compile,
        "sampled variables": [list(variable.shape) for variable in joint.variables],
        "rows (checksum)": checksum(joint.rows),
        "prior of the likelihood (checksum)": checksum(joint.free_locs),
        "model": described(joint.model),
    }
