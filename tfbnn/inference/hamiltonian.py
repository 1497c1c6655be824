"""Hamiltonian Monte Carlo: draws of the weights from the posterior itself, by chains that follow its gradient."""

from __future__ import annotations

import abc
import dataclasses
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import check_share, finite_number, invalid, positive_integer, positive_number, whole_number
from tfbnn.core.noise import fold_in, seed_pair
from tfbnn.inference.base import Inference, own_likelihood, refuse_datasets, stored
from tfbnn.prediction import StoredDraws
from tfbnn.prediction.stored_draws import drawn_variables
from tfbnn.training.checkpoint import Checkpoint, Checkpoints
from tfbnn.training.convergence import NotConverged, judged, needed_arviz
from tfbnn.training.description import described
from tfbnn.training.joint import LogJoint
from tfbnn.training.loop import checksum, finishing_epochs
from tfbnn.training.warmup import Spread, StepSize, windows

MOST_WEIGHTS = 1_000_000
NUMBERS_AT_ONCE = 2**26  # of a chunk's draws
ROWS_TO_JUDGE = 50
DIVERGENT = 1000.0  # nats of energy that a trajectory may gain
BEGINNINGS, JITTER = 2**30, 1  # what seeds are folded with, beside the numbers of steps


class _Hamiltonian(Inference):
    """What both share: which weights move, where chains begin, the warm-up, and what is told of the draws."""

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any,
        chains: int,
        num_draws: int,
        warmup: int,
        thinning: int,
        step_size: float,
        target_accept: float,
        spread: float,
        chunk: int,
        force: bool,
        seed: int | None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, seed, **kwargs)
        self.chains = positive_integer("chains", chains)
        self.num_draws = positive_integer("num_draws", num_draws)
        self.warmup = _count("warmup", warmup)
        self.thinning = positive_integer("thinning", thinning)
        self.step_size = positive_number("step_size", step_size)
        self.target_accept = check_share("target_accept", target_accept)
        self.spread = finite_number("spread", spread, smallest=0.0)
        self.chunk = positive_integer("chunk", chunk)
        self.force = bool(force)
        self._sampling: _Sampling | None = None

    # --- what the kernel is ------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def _kernel(self, target: Any) -> Any:
        """The TFP kernel for the log density `target`, [C, D] -> [C]; its step size is set before each step."""

    @abc.abstractmethod
    def _with_step_size(self, results: Any, step_size: tf.Tensor, seed: tf.Tensor) -> Any:
        """The kernel's results with another step size for its next step."""

    @abc.abstractmethod
    def _told(self, results: Any) -> dict[str, tf.Tensor]:
        """Of the last step, each [C]: lp, acceptance_rate, accepted, diverging, n_steps, ..."""

    @abc.abstractmethod
    def _kernel_options(self) -> dict[str, Any]:
        """Options of the kernel alone."""

    # --- fit ---------------------------------------------------------------------------------------------------------

    def fit(
        self,
        x,
        y,
        epochs=1,
        batch_size=32,
        *,
        sample_weight=None,
        checkpoint=None,
        checkpoint_every=1,
        resume=False,
        jit_compile=None,
        verbose="auto",
        **training,
    ) -> StoredDraws:
        """Finds the mode, then samples.

        Args:
            x, y: arrays: all rows are needed at once.
            epochs: of training, which finds the mode near which chains begin; 0: they begin near the initial weights.
            batch_size: of that training.
            sample_weight: [N], as in `tfbnn.train`.
            checkpoint: folder for the state of training and chains; with it, `resume=True` goes on after an
                interruption, and ends with the draws of a run that was never interrupted, to the last bit.
            checkpoint_every: chunks between checkpoints of the chains; each one holds all draws so far.
            resume: goes on from the newest checkpoint, where there is one; `num_draws` may have grown.
            jit_compile: whether XLA compiles training and chains; None: yes, wherever it can.
            verbose: 0: silent; 1 or "auto": bars; 2: a line at the end of each.
            **training: further arguments of `tfbnn.train`, for the training alone.

        Returns:
            chains x num_draws `StoredDraws`, in an order of which every beginning is spread over chains and time;
            their `metadata` tell whether the chains have converged.

        Raises:
            InvalidInput: for arguments that cannot work; more than a million weights, unless `force`.
            FloatingPointError: where the density is not finite, or a chain never moves.
            KeyboardInterrupt: at Ctrl-C, after the chunk; `draws_so_far()` has what was drawn.

        Warns:
            NotConverged: where R-hat or effective sample sizes say so.
        """
        refuse_datasets(x, type(self).__name__)
        if resume and checkpoint is None:
            raise invalid("resume", "a folder of checkpoints to go on from", True, "Give checkpoint=FOLDER.")
        model = self.compiled(self.points(), own_likelihood(self.likelihood))
        joint = LogJoint(model, x, y, sample_weight)
        self._refuse_many(joint.size)
        self.model = model
        self._sampling = sampling = _Sampling(self, joint, jit_compile is not False, verbose)
        keeper = _Keeper(sampling, checkpoint, checkpoint_every, {"epochs": epochs, "batch size": batch_size})
        found = keeper.found() if resume else None
        if found is None and epochs:
            kept = {} if checkpoint is None else {"checkpoint": Path(checkpoint) / "training", "resume": resume}
            self.train(model, x, y, epochs=epochs, batch_size=batch_size, sample_weight=sample_weight, verbose=verbose,
                       jit_compile=jit_compile, **kept, **training)  # fmt: skip
        ending: Any = keeper
        with finishing_epochs(ending) as after_chunk:
            keeper.begin(found)
            sampling.run(after_chunk)
        draws = sampling.draws()
        if not draws.metadata["converged"]:
            warnings.warn(draws.metadata["message"], NotConverged, stacklevel=2)
        return draws

    def draws_so_far(self) -> StoredDraws:
        """What the last `fit` has drawn until now, the warm-up left out; after Ctrl-C, what was drawn before it.

        Raises:
            InvalidInput: where there is no draw yet.
        """
        return self._begun("draws_so_far").draws()

    def to_inference_data(self) -> Any:
        """All draws of the last `fit` as `arviz.InferenceData`: posterior, sample_stats and observed_data.

        The posterior has a variable for each sampled tensor, by its path, of shape [chains, draws, *shape].
        """
        sampling, az = self._begun("to_inference_data"), needed_arviz("to_inference_data")
        draws = np.swapaxes(sampling.kept(), 0, 1)
        joint = sampling.joint
        posterior = {variable.path: values
                     for variable, values in zip(joint.variables, joint.unstacked(draws), strict=True)}  # fmt: skip
        told = {name: np.swapaxes(values, 0, 1) for name, values in sampling.told_of_draws().items()}
        return az.from_dict(posterior, sample_stats=told, observed_data={"y": joint.rows["y"].numpy()})

    def _begun(self, where: str) -> _Sampling:
        if self._sampling is None or not self._sampling.state.draws:
            raise invalid(where, "a method that has drawn something", "one that has not", "Call fit first.")
        return self._sampling

    def _refuse_many(self, size: int) -> None:
        if size > MOST_WEIGHTS and not self.force:
            mend = ("Use SGHMC, Laplace, VariationalInference or DeepEnsemble, which were made for large networks; "
                    "force=True samples all the same.")  # fmt: skip
            raise invalid("network", f"at most {MOST_WEIGHTS:,} weights to sample", f"{size:,}", mend)


class HMC(_Hamiltonian):
    """Draws from p(w|X, y) by Hamiltonian Monte Carlo: `num_leapfrog_steps` along the gradient, then accept or not.

        w' , p' = leapfrogs of  H(w, p) = -log p(y, w | X) + p^T M^-1 p / 2,    p ~ Normal(0, M)
        accepted with probability min(1, exp(H(w, p) - H(w', p')))

    Weights with a prior (of layers of tfbnn, as points) are sampled, and what the likelihood learns (the rho of its
    noise scale), whose prior is Normal(its initial value, 3^2) on the scale on which it is free. Weights without a
    prior (plain Keras layers) stay where training leaves them; dropout is off. Chains begin between the mode and
    draws of the prior, wider than the posterior, so that R-hat can tell that they have not met. In the warm-up all
    share a step size (dual averaging) and a diagonal mass M (inverse variances of the weights).

    Args:
        network, likelihood, optimizer, seed, **kwargs: of `Inference`; the optimizer finds the mode.
        chains: C, run at once.
        num_draws: a chain, after warm-up and thinning.
        warmup: steps of a chain that are left out.
        thinning: steps for a draw.
        num_leapfrog_steps: of a step.
        step_size: at the beginning; without warm-up, at all times. Each step takes 0.8 to 1.2 of it, against
            trajectories that come back (Neal 2011, section 5.4.2.2).
        target_accept: mean acceptance probability that the warm-up aims at.
        spread: 0 ... 1, where chains begin: w_0 = mode + spread (draw of the prior - mode).
        chunk: steps in one graph: between them the bar moves, and Ctrl-C is heard.
        force: samples more than a million weights too.

    Example:
        >>> draws = tfbnn.inference.HMC(network, likelihood, seed=0).fit(x, y, epochs=100)
        >>> draws.metadata["message"], draws.predict_distribution(x_test).interval(0.9)

    Reference: Neal 2011, "MCMC using Hamiltonian dynamics"; for networks, Neal 1996, Izmailov et al. 2021.
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any = "adam",
        chains: int = 4,
        num_draws: int = 1000,
        warmup: int = 500,
        thinning: int = 1,
        num_leapfrog_steps: int = 32,
        step_size: float = 0.01,
        target_accept: float = 0.8,
        spread: float = 0.5,
        chunk: int = 50,
        force: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, chains, num_draws, warmup, thinning, step_size, target_accept,
                         spread, chunk, force, seed, **kwargs)  # fmt: skip
        self.num_leapfrog_steps = positive_integer("num_leapfrog_steps", num_leapfrog_steps)

    def _kernel(self, target):
        return tfp.mcmc.HamiltonianMonteCarlo(
            target, step_size=1.0, num_leapfrog_steps=self.num_leapfrog_steps, store_parameters_in_results=True
        )

    def _with_step_size(self, results, step_size, seed):
        share = tf.random.stateless_uniform([], fold_in(seed, JITTER), 0.8, 1.2)
        return results._replace(accepted_results=results.accepted_results._replace(step_size=share * step_size))

    def _told(self, results):
        return {
            "lp": results.accepted_results.target_log_prob,
            "acceptance_rate": tf.exp(tf.minimum(results.log_accept_ratio, 0.0)),
            "accepted": results.is_accepted,
            "diverging": ~(results.log_accept_ratio > -DIVERGENT),  # NaN too
            "n_steps": tf.fill(tf.shape(results.is_accepted), self.num_leapfrog_steps),
        }

    def _kernel_options(self):
        return {"num_leapfrog_steps": self.num_leapfrog_steps}


class NUTS(_Hamiltonian):
    """Draws from p(w|X, y) by the No-U-Turn sampler: Hamiltonian trajectories that double until they turn back.

    What is sampled, where chains begin and what the warm-up does is as in `HMC`; the length of trajectories needs no
    choice. Chains that run at once wait for the longest trajectory.

    Args:
        network, likelihood, optimizer, seed, **kwargs: of `Inference`; the optimizer finds the mode.
        chains: C, run at once.
        num_draws: a chain, after warm-up and thinning.
        warmup: steps of a chain that are left out.
        thinning: steps for a draw.
        max_tree_depth: at most 2^max_tree_depth - 1 leapfrogs a step.
        step_size: at the beginning; without warm-up, at all times.
        target_accept: mean acceptance probability that the warm-up aims at.
        spread: 0 ... 1, where chains begin: w_0 = mode + spread (draw of the prior - mode).
        chunk: steps in one graph: between them the bar moves, and Ctrl-C is heard.
        force: samples more than a million weights too.

    Example:
        >>> draws = tfbnn.inference.NUTS(network, likelihood, seed=0).fit(x, y, epochs=100)
        >>> draws.metadata["message"], draws.predict_distribution(x_test).interval(0.9)

    Reference: Hoffman & Gelman 2014, "The No-U-Turn Sampler"; Betancourt 2018, appendix A.
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any = "adam",
        chains: int = 4,
        num_draws: int = 1000,
        warmup: int = 500,
        thinning: int = 1,
        max_tree_depth: int = 8,
        step_size: float = 0.01,
        target_accept: float = 0.8,
        spread: float = 0.5,
        chunk: int = 50,
        force: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, chains, num_draws, warmup, thinning, step_size, target_accept,
                         spread, chunk, force, seed, **kwargs)  # fmt: skip
        self.max_tree_depth = positive_integer("max_tree_depth", max_tree_depth)

    def _kernel(self, target):
        return tfp.mcmc.NoUTurnSampler(
            target, step_size=1.0, max_tree_depth=self.max_tree_depth, max_energy_diff=DIVERGENT
        )

    def _with_step_size(self, results, step_size, seed):
        return results._replace(step_size=step_size)

    def _told(self, results):
        return {
            "lp": results.target_log_prob,
            "acceptance_rate": tf.exp(results.log_accept_ratio),
            "accepted": results.is_accepted,
            "diverging": results.has_divergence,
            "n_steps": results.leapfrogs_taken,
            "reached_max_treedepth": results.reach_max_depth,
        }

    def _kernel_options(self):
        return {"max_tree_depth": self.max_tree_depth}


# --- sampling ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _State:
    """Where the chains are: all that the next chunk depends on, and what was drawn.

    Attributes:
        steps: made by each chain.
        position: [C, D].
        scale: [D]: coordinates are divided by it, which is a diagonal mass.
        step_size: of the divided coordinates.
        spread: of the draws since the scale was set.
        draws: kept ones, [t, C, D] of each chunk.
        told: of the kept ones, name -> [t, C] of each chunk.
        seconds: of sampling.
    """

    steps: int
    position: np.ndarray
    scale: np.ndarray
    step_size: StepSize
    spread: Spread
    draws: list[np.ndarray] = dataclasses.field(default_factory=list)
    told: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


class _Sampling:
    """Chains of one `fit`, advanced chunk by chunk; step n of all chains draws from (seed, n) alone."""

    def __init__(self, method: _Hamiltonian, joint: LogJoint, jit_compile: bool, verbose: Any):
        self.method = method
        self.joint = joint
        self.state = _State(0, *self._nowhere())
        self.total = method.warmup + method.num_draws * method.thinning
        self._ends = sorted({*windows(method.warmup), method.warmup, self.total})
        self._chunk = min(method.chunk, max(1, NUMBERS_AT_ONCE // (method.chains * joint.size)))
        self._advance = tf.function(self._advance_in_graph, autograph=False, jit_compile=jit_compile)
        self._jit_compile = jit_compile
        self._verbose = verbose

    def _nowhere(self) -> tuple:
        C, D = self.method.chains, self.joint.size
        return np.zeros((C, D), np.float32), np.ones(D, np.float32), StepSize.begin(1.0), Spread.begin(C, D)

    # --- in the graph ------------------------------------------------------------------------------------------------

    def _advance_in_graph(self, position, scale, step_size, first, count, adapting):
        """`count` steps from number `first`: the last position [C, D], the step size, all positions, and `_told`."""
        method, size = self.method, self._chunk
        kernel = method._kernel(lambda scaled: self.joint(scaled * scale))
        seed = seed_pair(method.seed)
        results = kernel.bootstrap_results(position / scale)
        names = list(method._told(results))
        arrays = [tf.TensorArray(value.dtype, size, element_shape=value.shape)
                  for value in (position, *method._told(results).values())]  # fmt: skip

        def step(i, scaled, results, step_size, arrays):
            own = fold_in(seed, first + i)
            eps = tf.exp(tf.where(adapting, step_size.log_step, step_size.log_average))
            scaled, results = kernel.one_step(scaled, method._with_step_size(results, eps, own), seed=own)
            told = method._told(results)
            acceptance = tf.reduce_mean(told["acceptance_rate"])
            acceptance = tf.where(tf.math.is_finite(acceptance), acceptance, 0.0)
            learned = step_size.next(acceptance, method.target_accept)
            step_size = StepSize(*(tf.where(adapting, a, b) for a, b in zip(learned, step_size, strict=True)))
            written = zip(arrays, (scaled * scale, *told.values()), strict=True)
            return i + 1, scaled, results, step_size, [array.write(i, value) for array, value in written]

        _, scaled, _, step_size, arrays = tf.while_loop(
            lambda i, *_: i < count, step, (0, position / scale, self._as_in_loop(results, seed), step_size, arrays)
        )
        draws, *told = [array.stack() for array in arrays]
        return scaled * scale, step_size, draws, dict(zip(names, told, strict=True))

    def _as_in_loop(self, results: Any, seed: tf.Tensor) -> Any:
        """The first results with the step size as a tensor of the shape that it has in the loop."""
        return self.method._with_step_size(results, tf.ones([]), seed)

    # --- chunks ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Sets the chains between the present weights and draws of the prior.

        Raises:
            FloatingPointError: where the density is not finite there.
        """
        method, joint = self.method, self.joint
        mode = joint.present()
        drawn = joint.prior_draws(method.chains, fold_in(seed_pair(method.seed), BEGINNINGS))
        position = mode + method.spread * (drawn - mode)
        if not np.isfinite(joint(position).numpy()).all():
            raise FloatingPointError(
                "The log joint density is not finite where a chain would begin. Give a smaller spread (0: all begin at "
                "the mode), a prior with a smaller scale, or standardised inputs."
            )
        self.state = _State(0, position.numpy(), *self._nowhere()[1:])
        self.state.step_size = StepSize.begin(method.step_size)

    def run(self, after_chunk: Any) -> None:
        """Makes the steps that are left; calls after_chunk(steps made, what to tell)."""
        bar = _Bar(self.total, self._verbose)
        while self.state.steps < self.total:
            began = time.monotonic()
            told = self._one_chunk()
            self.state.seconds += time.monotonic() - began
            bar.move(self.state.steps, told)
            after_chunk(self.state.steps, told)

    def _one_chunk(self) -> dict[str, float]:
        state, warmup = self.state, self.method.warmup
        count = min(self._chunk, next(end for end in self._ends if end > state.steps) - state.steps)
        warming = state.steps < warmup
        arguments = (state.position, state.scale, state.step_size, state.steps, count, warming)
        position, step_size, draws, told = self._advance(*tf.nest.map_structure(tf.convert_to_tensor, arguments))
        state.position, state.step_size = position.numpy(), StepSize(*(value.numpy() for value in step_size))
        draws, told = draws.numpy()[:count], {name: values.numpy()[:count] for name, values in told.items()}
        told["step_size"] = np.full(told["lp"].shape, np.exp(state.step_size.log_average))
        self._refuse_stuck(told)
        if warming:
            state.spread = state.spread.next(draws)
        else:
            self._keep(draws, told)
        state.steps += count
        if warming:
            self._learn_scale()
        return {
            "step size": float(told["step_size"][-1, 0]),
            "acceptance": float(told["acceptance_rate"].mean()),
            "divergences": float(sum(values.sum() for values in state.told.get("diverging", []))),
        }

    def _keep(self, draws: np.ndarray, told: dict[str, np.ndarray]) -> None:
        done = np.arange(self.state.steps + 1, self.state.steps + len(draws) + 1) - self.method.warmup
        kept = done % self.method.thinning == 0
        self.state.draws.append(draws[kept])
        for name, values in told.items():
            self.state.told.setdefault(name, []).append(values[kept])

    def _learn_scale(self) -> None:
        """At the end of a window: the scale becomes that of its draws, and the step size is learned anew."""
        ends, state = windows(self.method.warmup), self.state
        if state.steps not in ends:
            return
        if state.steps != ends[0]:
            state.scale = state.spread.scale()
            state.step_size = StepSize.begin(float(np.exp(state.step_size.log_average)))
        state.spread = Spread.begin(*state.position.shape)

    def _refuse_stuck(self, told: Mapping[str, np.ndarray]) -> None:
        """Raises where a chain has accepted nothing in a chunk of the draws, or in one of the late warm-up."""
        late = self.state.steps >= self.method.warmup // 2
        stuck = np.flatnonzero(~told["accepted"].any(axis=0))
        if not late or not stuck.size or len(told["accepted"]) < 10:
            return
        raise FloatingPointError(
            f"Chain {stuck[0]} of {self.method.chains} did not move in {len(told['accepted'])} steps (step size "
            f"{told['step_size'][-1, 0]:.3g}, {told['diverging'][:, stuck[0]].mean():.0%} of them diverged). Give a "
            "smaller step_size and a longer warmup, begin nearer to the mode (a smaller spread, more epochs), or use "
            "priors with a smaller scale."
        )

    # --- what was drawn ----------------------------------------------------------------------------------------------

    def kept(self) -> np.ndarray:
        """[T, C, D]."""
        return np.concatenate(self.state.draws)

    def told_of_draws(self) -> dict[str, np.ndarray]:
        """name -> [T, C]."""
        return {name: np.concatenate(values) for name, values in self.state.told.items()}

    def draws(self) -> StoredDraws:
        """All that was kept, each beginning of it spread over time and chains, with its metadata."""
        kept, model = self.kept(), self.method.model
        times = spread_over_time(len(kept))
        ordered = kept[times].reshape(-1, self.joint.size)
        draws = stored(model, self._settings(ordered))
        draws.metadata = {**self._metadata(), **self._judged(draws, times)}
        return draws

    def _settings(self, positions: np.ndarray) -> list[list[np.ndarray]]:
        sampled = {id(v): values for v, values in zip(self.joint.variables, self.joint.unstacked(positions))}
        variables = drawn_variables(self.method.model.network, self.method.model.likelihood)
        fixed = {id(v): v.numpy() for v in variables if id(v) not in sampled}
        return [[sampled[id(v)][i] if id(v) in sampled else fixed[id(v)] for v in variables]
                for i in range(len(positions))]  # fmt: skip

    def _judged(self, draws: StoredDraws, times: np.ndarray) -> dict[str, Any]:
        """Convergence of what the draws predict for some training rows, and of the log joint density."""
        chosen = np.unique(np.linspace(0, len(self.joint.rows["y"]) - 1, ROWS_TO_JUDGE).astype(int))
        rows = keras.tree.map_structure(lambda part: tf.gather(part, chosen), self.joint.rows["x"])
        parameters = draws.predict_distribution(rows, draws.num_draws, coupling="coherent").parameters
        in_order = np.empty((len(times), self.method.chains, parameters[0].size), np.float32)
        in_order[times] = parameters.reshape(in_order.shape)
        log_joint = np.swapaxes(self.told_of_draws()["lp"], 0, 1)
        return judged(np.swapaxes(in_order, 0, 1), log_joint)

    def _metadata(self) -> dict[str, Any]:
        told = self.told_of_draws()
        return {
            "method": type(self.method).__name__,
            "chains": self.method.chains,
            "draws": len(told["lp"]),
            "divergences": int(told["diverging"].sum()),
            "accept": float(told["acceptance_rate"].mean()),
            "step_size": float(told["step_size"][-1, 0]),
            "leapfrogs": float(told["n_steps"].mean()),
            "seconds": round(self.state.seconds, 1),
        }

    def settings(self) -> dict[str, Any]:
        """What chains that go on must have in common with those that were begun."""
        method = self.method
        names = ("seed", "chains", "warmup", "thinning", "step_size", "target_accept", "spread", "chunk")
        return {
            "method": type(method).__name__,
            **{name: getattr(method, name) for name in names},
            **method._kernel_options(),
            "jit_compile": self._jit_compile,
            "sampled variables": [list(variable.shape) for variable in self.joint.variables],
            "rows (checksum)": checksum(self.joint.rows),
            "likelihood (checksum)": checksum([tf.constant(v) for v in method.likelihood.get_weights()]),
            "model": described(method.model),
        }


def spread_over_time(count: int) -> np.ndarray:
    """0 ... count - 1 in the order of their reversed bits (van der Corput): each beginning is spread over all.

    Reference: van der Corput 1935; Niederreiter 1992, "Random Number Generation", section 3.1.
    """
    bits = max(1, (count - 1).bit_length())
    reversed_bits = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits)]
    return np.array([i for i in reversed_bits if i < count])


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


class _Keeper:
    """Keeps the chains in a folder, and takes them back; `finishing_epochs` calls it after each chunk.

    Args:
        sampling: of the `fit`.
        folder: of the checkpoints; None: nothing is written.
        every: chunks between checkpoints.
        training: what the search of the mode must have in common.
    """

    def __init__(self, sampling: _Sampling, folder: Any, every: int, training: Mapping[str, Any]):
        self._sampling = sampling
        self._every = positive_integer("checkpoint_every", every)
        self._chunks = 0
        of = {**sampling.settings(), **training} if folder is not None else {}
        self._checkpoints = None if folder is None else Checkpoints(folder, of)

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
        self._sampling.begin()
        if self._checkpoints is not None:
            self._checkpoints.remove()

    def end(self) -> None:
        """Lets others use the folder."""
        if self._checkpoints is not None:
            self._checkpoints.unlock()

    def after_epoch(self, steps: int, at_once: bool = False) -> None:
        """Writes a checkpoint where it is time for one."""
        self._chunks += 1
        if self._checkpoints is None or not (at_once or self._chunks % self._every == 0 or self._at_end(steps)):
            return
        state = self._sampling.state
        told = {name: np.concatenate(values) for name, values in state.told.items()}
        draws = [self._sampling.kept()] if state.draws else []
        weights = [variable.numpy() for variable in self._weights()]
        values = [state.position, state.scale, *state.step_size, *state.spread, *weights, *told.values(), *draws]
        about = {"told": list(told), "seconds": state.seconds, "history": self._sampling.method.history}
        self._checkpoints.save(Checkpoint(steps, [np.asarray(value) for value in values], about))

    def _at_end(self, steps: int) -> bool:
        return steps == self._sampling.total

    def _take(self, found: Checkpoint) -> None:
        position, scale, *rest = found.values
        step_size, spread, rest = StepSize(*rest[:5]), Spread(*rest[5:8]), rest[8:]
        for variable in self._weights():
            variable.assign(rest.pop(0))
        told = {name: [rest.pop(0)] for name in found.about["told"]}
        seconds = found.about["seconds"]
        self._sampling.state = _State(found.epoch, position, scale, step_size, spread, rest, told, seconds)
        self._sampling.method.history = found.about["history"]

    def _weights(self) -> list[keras.Variable]:
        """All that training may have changed."""
        model = self._sampling.method.model
        return [*model.network.variables, *model.likelihood.variables]

    def told(self, steps: int) -> str:
        """Where an interrupted sampling stands."""
        sampling = self._sampling
        stands = f"Sampling stopped after step {steps} of {sampling.total} ({sampling.method.warmup} of them warm-up)"
        if self._checkpoints is None:
            return f"{stands}; draws_so_far() gives what was drawn. With checkpoint=FOLDER it could go on."
        return (f"{stands}; its state is kept in {self._checkpoints.folder}. To go on: the same call with resume=True; "
                "draws_so_far() gives what was drawn.")  # fmt: skip


def _count(where: str, value: Any) -> int:
    number = whole_number(value)
    if number is None or number < 0:
        raise invalid(where, "a whole number, 0 or more", value)
    return number
