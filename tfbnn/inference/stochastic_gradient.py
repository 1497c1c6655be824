"""Stochastic-gradient Markov chains: gradients of batches, and noise, so that the weights wander as the posterior."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import (
    finite_number,
    invalid,
    positive_integer,
    positive_number,
    whole_number,
)
from tfbnn.core.draws import Draws
from tfbnn.core.noise import check_seed, counted_bits, standard_normal
from tfbnn.core.serialization import register
from tfbnn.inference.base import Inference, setting_of, spread_over_time, stored
from tfbnn.prediction.stored_draws import StoredDraws
from tfbnn.training import BayesianModel, arrays
from tfbnn.training.callbacks import check_callbacks

FEWEST = 2  # draws: one has no spread
DECAY, EPSILON = 0.99, 1e-5  # alpha and lambda of Li 2016, section 5
PLAN, DRAW = "sampling.json", "draw-{:06d}.npz"  # files beside the checkpoints


# --- the chain --------------------------------------------------------------------------------------------------------


@register
class LangevinDynamics(keras.optimizers.Optimizer):
    """Steps of a Markov chain whose stationary law, for small steps, is exp(-N loss(w) / T).

        v' = (1 - a) v - l G g + sqrt(2 a l G T / N) z,    w' = w + v',    z ~ Normal(0, I)

    g is the gradient of the loss a row, (1/N) times that of -log p(y, w | x), l the learning rate and a the friction.
    a = 1 forgets v: Langevin dynamics. G = 1, or where preconditioned 1 / (lambda + sqrt(V)), V the running mean of
    g^2; the term of dG/dw that an exact chain would need is left out, as is usual. The noise is a function of (seed,
    step, number of the variable) alone. What is not sampled moves without noise.

    Args:
        learning_rate: l.
        num_data: N, training rows.
        friction: a, above 0, 1 at most.
        preconditioned: whether G is that of RMSprop.
        temperature: T; 0: no noise.
        sampled: numbers of the variables that have noise, in the order of `build`; None: all.
        seed: of the noise.

    Reference: Welling & Teh 2011, equation 4; Chen, Fox & Guestrin 2014, equation 15; Li et al. 2016, equation 5.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        num_data: int = 1,
        friction: float = 1.0,
        preconditioned: bool = False,
        temperature: float = 1.0,
        sampled: Sequence[int] | None = None,
        seed: int = 0,
        name: str = "langevin_dynamics",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.num_data = positive_integer("num_data", num_data)
        self.friction = _friction(friction)
        self.preconditioned = bool(preconditioned)
        self.temperature = finite_number("temperature", temperature, smallest=0.0)
        self.sampled = None if sampled is None else [int(number) for number in sampled]
        self.seed = check_seed("seed", seed)

    def build(self, variables):
        """Adds v, where friction leaves some, V, where preconditioned, and the present temperature."""
        if self.built:
            return
        super().build(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity") if self.friction < 1.0 else []
        self._squares = self.add_optimizer_variables(variables, "squares") if self.preconditioned else []
        self._temperature = self.add_variable((), keras.initializers.Constant(self.temperature), name="temperature")

    def heat(self, temperature: float) -> None:
        """Sets the present temperature."""
        self._temperature.assign(temperature)

    def update_step(self, gradient, variable, learning_rate):
        """One step of one variable."""
        number = self._get_variable_index(variable)  # as Keras' own optimizers find it: no public way is there
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        rate = tf.cast(learning_rate, variable.dtype)
        metric = self._metric(number, gradient)
        change = -rate * metric * gradient
        if self.sampled is None or number in self.sampled:
            change += self._noise(number, variable, rate, metric)
        if self._velocities:
            velocity = self._velocities[number]
            change += (1.0 - self.friction) * velocity.value
            self.assign(velocity, change)
        self.assign_add(variable, change)

    def _metric(self, number: int, gradient: tf.Tensor) -> tf.Tensor:
        if not self._squares:
            return tf.ones([], gradient.dtype)
        squares = DECAY * self._squares[number].value + (1.0 - DECAY) * tf.square(gradient)
        self.assign(self._squares[number], squares)
        return 1.0 / (EPSILON + tf.sqrt(squares))

    def _noise(self, number: int, variable: keras.Variable, rate: tf.Tensor, metric: tf.Tensor) -> tf.Tensor:
        key = np.uint32(self.seed % 2**32), np.uint32(number)
        z = standard_normal(counted_bits(variable.shape, key, self.iterations.value))
        variance = 2.0 * self.friction * rate * metric * tf.cast(self._temperature.value, rate.dtype) / self.num_data
        return tf.sqrt(variance) * tf.cast(z, rate.dtype)

    def get_config(self):
        """The constructor's arguments."""
        own = ("num_data", "friction", "preconditioned", "temperature", "sampled", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What each epoch, counted from 0, is for.

    Without cycles: burn-in, then sampling, at one step size. With C cycles of L epochs: in each the step size falls by
    (cos(pi t / L) + 1) / 2, t = 0 ... L - 1; it is explored without noise first, then sampled.

    Attributes:
        epochs: of all.
        burn_in: before sampling, of all or of each cycle: a share below 1, or epochs.
        thinning: epochs from one kept draw to the next.
        cycles: C, or 0.

    Reference: Zhang et al. 2020, "Cyclical stochastic gradient MCMC", equation 1 and algorithm 1 (its k: our epoch).
    """

    epochs: int
    burn_in: float = 0.5
    thinning: int = 1
    cycles: int = 0

    def place(self, epoch: int) -> tuple[int, int]:
        """(t, L): it is epoch t of a cycle of L."""
        ends = [round(self.epochs * c / max(self.cycles, 1)) for c in range(max(self.cycles, 1) + 1)]
        end = next(end for end in ends if end > epoch)
        begin = max(other for other in ends if other <= epoch)
        return epoch - begin, end - begin

    def share_of_step(self, epoch: int) -> float:
        """Of the step size."""
        t, length = self.place(epoch)
        return 0.5 * (math.cos(math.pi * t / length) + 1.0) if self.cycles else 1.0

    def sampled(self, epoch: int) -> int:
        """Epochs of sampling in this cycle, this one included; 0 or less in burn-in."""
        t, length = self.place(epoch)
        return t + 1 - (int(self.burn_in) if self.burn_in >= 1.0 else math.floor(self.burn_in * length))

    def has_noise(self, epoch: int) -> bool:
        """Whether the weights wander in it."""
        return not self.cycles or self.sampled(epoch) > 0

    def keeps(self, epoch: int) -> bool:
        """Whether the weights at its end are a draw."""
        sampled = self.sampled(epoch)
        return sampled > 0 and sampled % self.thinning == 0

    @property
    def draws(self) -> list[int]:
        """The epochs whose ends are draws."""
        return [epoch for epoch in range(self.epochs) if self.keeps(epoch)]

    @property
    def plan(self) -> dict[str, Any]:
        """JSON-able: what chains have in common of which one goes on where the other stopped."""
        return {
            "burn_in": 1 - self.sampled(0),
            "thinning": self.thinning,
            "cycles": self.cycles,
            "epochs": self.epochs if self.cycles else None,
        }


class Chain(keras.callbacks.Callback):
    """Sets step size and temperature of each epoch, and keeps the weights at the ends of those that are draws.

    Args:
        schedule: of the epochs.
        step_size: its largest.
        temperature: while sampling.
        folder: of the checkpoints, in which each draw is written too; None: nothing is.
        resume: whether the draws that lie there are taken back.

    Attributes:
        kept: epoch, counted from 0 -> weights at its end.
    """

    def __init__(self, schedule: Schedule, step_size: float, temperature: float, folder: Any, resume: bool):
        super().__init__()
        self.kept: dict[int, list[np.ndarray]] = {}
        self._schedule = schedule
        self._step_size = step_size
        self._temperature = temperature
        self._folder = None if folder is None else Path(folder)
        self._resume = resume
        self._began = False

    def on_train_begin(self, logs=None):
        """Takes the draws of an earlier run, or removes them."""
        if self._folder is None:
            return
        plan = self._folder / PLAN
        files = sorted(self._folder.glob("draw-*.npz"))
        if self._resume and plan.exists():
            self._refuse_other_plan(json.loads(plan.read_text()))
            self.kept = {int(path.stem.split("-")[1]) - 1: _read(path) for path in files}
        else:
            for path in files:
                path.unlink()
        self._write(plan, lambda file: file.write(json.dumps(self._schedule.plan).encode()))

    def _refuse_other_plan(self, begun: dict[str, Any]) -> None:
        if begun != self._schedule.plan:
            mend = "Resume with the options and epochs of the first call, or sample anew."
            raise invalid("resume", f"a chain as it was begun: {begun}", self._schedule.plan, mend)

    def on_epoch_begin(self, epoch, logs=None):
        """Sets step size and temperature."""
        if not self._began:
            self._began = True
            self.kept = {e: setting for e, setting in self.kept.items() if e < epoch}  # the others come again
            self.refuse_gaps(epoch)
        self.model.optimizer.learning_rate = self._step_size * self._schedule.share_of_step(epoch)
        self.model.optimizer.heat(self._temperature if self._schedule.has_noise(epoch) else 0.0)

    def on_epoch_end(self, epoch, logs=None):
        """Keeps a draw."""
        if not self._schedule.keeps(epoch):
            return
        self.kept[epoch] = setting = setting_of(self.model)
        if self._folder is not None:
            named = {f"value_{i:05d}": np.asarray(value, np.float32) for i, value in enumerate(setting)}
            self._write(self._folder / DRAW.format(epoch + 1), lambda file: np.savez(file, allow_pickle=False, **named))

    def refuse_gaps(self, epochs_done: int) -> None:
        """Raises where a draw of the epochs done is not there."""
        missing = [epoch + 1 for epoch in self._schedule.draws if epoch < epochs_done and epoch not in self.kept]
        if missing:
            expected = f"the draws of all epochs done, beside their checkpoints in {self._folder}"
            raise invalid("resume", expected, f"none of epochs {missing}", "Sample anew, without resume.")

    @staticmethod
    def _write(path: Path, write: Any) -> None:
        """Whole or not at all."""
        temporary = path.with_name(f".writing-{path.stem}.{uuid.uuid4().hex[:8]}")
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise invalid("checkpoint", "a folder that can be written to", str(path), f"{error.strerror}.") from error
        finally:
            temporary.unlink(missing_ok=True)


def _read(path: Path) -> list[np.ndarray]:
    with np.load(path, allow_pickle=False) as named:
        return [named[name] for name in sorted(named.files)]


# --- the methods ------------------------------------------------------------------------------------------------------


class StochasticGradientMCMC(Inference):
    """What the chains share; see `SGLD` and `SGHMC`."""

    takes_optimizer = False

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any,
        step_size: float,
        friction: float,
        preconditioned: bool,
        cycles: int,
        burn_in: float,
        thinning: int,
        temperature: float,
        seed: int | None,
        **kwargs: Any,
    ):
        if optimizer is not None:
            raise invalid("optimizer", "None: the chain itself moves the weights", optimizer, "Choose step_size.")
        super().__init__(network, likelihood, "sgd", seed, **kwargs)
        self.step_size = positive_number("step_size", step_size)
        self.friction = _friction(friction)
        self.preconditioned = bool(preconditioned)
        self.cycles = 0 if whole_number(cycles) == 0 else positive_integer("cycles", cycles)
        self.burn_in = _burn_in(burn_in)
        self.thinning = positive_integer("thinning", thinning)
        self.temperature = finite_number("temperature", temperature, smallest=0.0)
        self._chain: Chain | None = None

    def fit(self, x, y=None, epochs=1, batch_size=32, **training) -> Draws:
        """Runs the chain; returns the kept draws, in an order whose first few are spread over all.

        Args:
            x, y, epochs, batch_size: of `tfbnn.train`; the last batch of an epoch should not be much smaller.
            **training: its further arguments. With `checkpoint`, draws are written beside the checkpoints, and with
                `resume` the draws are, to the last bit, those of a chain that was never interrupted.

        Raises:
            InvalidInput: for too few epochs, or a network without a prior.
            FloatingPointError: where the chain diverges.
            KeyboardInterrupt: at Ctrl-C; `draws_so_far` returns what was drawn.
        """
        schedule = Schedule(positive_integer("epochs", epochs), self.burn_in, self.thinning, self.cycles)
        self._refuse_too_few(schedule)
        self.model = model = self._model(x, y, training.get("num_data"))
        folder, resume = training.get("checkpoint"), bool(training.get("resume", False))
        self._chain = chain = Chain(schedule, self.step_size, self.temperature, folder, resume)
        callbacks = [*check_callbacks(training.pop("callbacks", None)), chain]
        try:
            self.train(model, x, y, epochs=epochs, batch_size=batch_size, callbacks=callbacks, **training)
        except KeyboardInterrupt as stop:
            told = f"{len(chain.kept)} draws are there; in Python, draws_so_far() returns them."
            raise KeyboardInterrupt(f"{stop} {told}".strip()) from None
        except FloatingPointError as error:
            told = f"Here the learning rate is step_size, {self.step_size:g}: the chain has diverged, lower it."
            raise FloatingPointError(f"{error} {told}") from None
        chain.refuse_gaps(len(self.history["loss"]))
        return self.draws_so_far()

    def draws_so_far(self) -> StoredDraws:
        """The draws that are there: after `fit`, or after Ctrl-C.

        Raises:
            InvalidInput: where there is none.
        """
        kept = self._chain.kept if self._chain else {}
        if not kept:
            raise invalid("draws_so_far", "a chain past its burn-in", "one without draws yet", "Call fit.")
        epochs = sorted(kept)
        epochs = [
            epochs[-1 - i] for i in spread_over_time(len(epochs))
        ]  # the last is the surest to have forgotten its start
        metadata = {"method": type(self).__name__, "epochs": [epoch + 1 for epoch in epochs]}
        return stored(self.model, [kept[epoch] for epoch in epochs], metadata=metadata)

    def _model(self, x: Any, y: Any, num_data: int | None) -> BayesianModel:
        """A model whose optimizer is the chain."""
        model = BayesianModel(self.points(takes_dropout=False), self.likelihood, seed=self.seed, **self.model_arguments)
        x, _, rows = arrays.prepare(x, y, self.likelihood)
        model.build_for(x)
        model.num_data = model.choose_num_data(num_data, arrays.training_rows(x, rows))
        chain = LangevinDynamics(self.step_size, model.num_data or 1, self.friction, self.preconditioned,
                                 self.temperature, _sampled(model), self.seed)  # fmt: skip
        model.compile(chain)
        return model

    def _refuse_too_few(self, schedule: Schedule) -> None:
        found = len(schedule.draws)
        if found < FEWEST:
            others = (dataclasses.replace(schedule, epochs=epochs) for epochs in itertools.count(1))
            enough = next(other.epochs for other in others if len(other.draws) >= FEWEST)
            received = f"{schedule.epochs}, of which {found} would be kept"
            raise invalid("epochs", f"{enough} or more, so that {FEWEST} draws are kept", received,
                          "Or lower burn_in or thinning.")  # fmt: skip


class SGLD(StochasticGradientMCMC):
    """Stochastic-gradient Langevin dynamics: w' = w - l g + sqrt(2 l T / N) z, whose draws are the posterior's.

    g is the gradient of -log p(y, w | x) / N on a batch, so that l is a learning rate as of SGD (epsilon = 2 l / N in
    the paper). Steps are not corrected: the error is of the order of l times the curvature of the loss, and of l
    times the variance of g between batches. l stays where it is but for cycles.

    Weights with a prior are sampled: those of tfbnn's layers. Weights of Keras' own layers, and what the likelihood
    learns (a noise scale), have none; they follow g without noise: point estimates, kept with each draw, as are
    running statistics.

    Args:
        network, likelihood, seed, **kwargs: of `Inference`.
        optimizer: None, because the chain itself moves the weights.
        step_size: l.
        preconditioned: each weight has its own step, as in RMSprop (Li 2016, without its term Gamma).
        cycles: C, 1 or more: the step size falls from l to 0 by a cosine, C times, and each fall ends in sampling;
            0: it is constant. The step size changes from epoch to epoch.
        burn_in: what is not kept, of the epochs or of each cycle: a share below 1, or a number of epochs. With cycles
            there is no noise in it.
        thinning: epochs from one kept draw to the next.
        temperature: T of exp(-N loss / T); 1: the posterior.

    Example:
        >>> draws = tfbnn.inference.SGLD(network, "Normal", step_size=1e-3, seed=0).fit(x, y, epochs=400)

    Reference: Welling & Teh 2011; Li et al. 2016 (preconditioned); Zhang et al. 2020 (cycles).
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any = None,
        step_size: float = 0.01,
        preconditioned: bool = False,
        cycles: int = 0,
        burn_in: float = 0.5,
        thinning: int = 1,
        temperature: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, step_size, 1.0, preconditioned, cycles, burn_in, thinning,
                         temperature, seed, **kwargs)  # fmt: skip


class SGHMC(StochasticGradientMCMC):
    """Stochastic-gradient Hamiltonian Monte Carlo: v' = (1 - a) v - l g + sqrt(2 a l T / N) z,  w' = w + v'.

    As `SGLD`, which it is at a = 1, with a memory of about 1 / a steps, by which the chain moves faster; eta = l / N in
    the paper, whose estimate of the gradient's own noise (beta) is 0.

    Args:
        network, likelihood, optimizer, preconditioned, cycles, burn_in, thinning, temperature, seed, **kwargs: of
            `SGLD`.
        step_size: l, as the learning rate of SGD with momentum 1 - a.
        friction: a, above 0, 1 at most.

    Example:
        >>> draws = tfbnn.inference.SGHMC(network, "Normal", friction=0.1, seed=0).fit(x, y, epochs=400)

    Reference: Chen, Fox & Guestrin 2014, "Stochastic gradient Hamiltonian Monte Carlo", equation 15.
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any = None,
        step_size: float = 0.01,
        friction: float = 0.1,
        preconditioned: bool = False,
        cycles: int = 0,
        burn_in: float = 0.5,
        thinning: int = 1,
        temperature: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, step_size, friction, preconditioned, cycles, burn_in,
                         thinning, temperature, seed, **kwargs)  # fmt: skip


def _friction(value: Any) -> float:
    if positive_number("friction", value) > 1.0:
        raise invalid("friction", "a number above 0, 1 at most", value)
    return float(value)


def _burn_in(value: Any) -> float:
    number = finite_number("burn_in", value, smallest=0.0)
    if number >= 1.0 and number != int(number):
        raise invalid("burn_in", "a share below 1, or a whole number of epochs", value)
    return number


def _sampled(model: BayesianModel) -> list[int]:
    """Numbers of the trainable variables that have a prior."""
    terms = [term for layer in model.variational_layers for term in layer.weight_terms if term.p is not None]
    with_prior = {id(_weight(term.q)) for term in terms}
    found = [number for number, variable in enumerate(model.trainable_variables) if id(variable) in with_prior]
    if not found:
        raise invalid(
            "network",
            "one or more layers of tfbnn.layers, whose weights have a prior: the others are not sampled",
            [type(layer).__name__ for layer in model.network.layers],
            "Use tfbnn.layers.DenseReparameterization for Dense, Conv2DFlipout for Conv2D, and so on.",
        )
    return found


def _weight(q: Any) -> keras.Variable:
    """The variable of a point."""
    if not hasattr(q, "loc"):
        raise invalid("posterior_fn", "tfbnn.posteriors.Deterministic, or a posterior that is no point", q.name)
    return q.loc
