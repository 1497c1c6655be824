"""SWAG: a Gaussian fitted to the weights that stochastic gradient descent passes through; multi-SWAG: a mixture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput, finite_number, invalid, positive_integer, positive_number
from tfbnn.core.draws import Draws
from tfbnn.core.serialization import register
from tfbnn.core.traversal import sublayers
from tfbnn.inference.base import (
    Inference,
    callbacks_of_each,
    mean_history,
    own_likelihood,
    own_optimizer,
    refuse_datasets,
)
from tfbnn.layers.convert import as_points
from tfbnn.prediction.swag_draws import SWAGDraws
from tfbnn.training import BayesianModel, arrays, train_many
from tfbnn.training.callbacks import check_callbacks


class SWAG(Inference):
    """q(w) = Normal(mean, (scale^2 / 2) (diag + D D^T / (K - 1))), the moments of snapshots of w; or M of those.

    In the last epochs the learning rate is constant, and w at the end of each is a snapshot; diag holds the variances
    of the snapshots w_1 ... w_T, and D their last K deviations, column t being w_t minus the mean of w_1 ... w_t. All
    that is trained is drawn: the weights of the network and what the likelihood learns, as it is trained (the noise
    scale, say, before softplus). The network ends with the mean for its weights.

    Args:
        network, likelihood, optimizer, seed, **kwargs: of `Inference`. Priors of layers of tfbnn are penalties. Layers
            of batch normalisation are refused: their statistics would belong to none of the drawn weights.
        members: M; 2 or more: multi-SWAG, a mixture of M Gaussians from M beginnings, draw i being of member i mod M.
        start: share of the epochs after which the rate is constant and snapshots are taken, 0 or more, below 1.
        swag_learning_rate: of those epochs; None: the optimizer's.
        every: epochs between snapshots.
        rank: K at most, 2 or more; fewer snapshots give a smaller one.
        scale: of the deviations of draws from the mean; 1: as in the paper, sqrt(2): the snapshots' own spread.

    Example:
        >>> draws = tfbnn.inference.SWAG(network, "Normal", members=3, seed=0).fit(x, y, epochs=200)

    Reference: Maddox et al. 2019, "A simple baseline for Bayesian uncertainty in deep learning", algorithm 1;
    Wilson & Izmailov 2020 (multi-SWAG).
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any = "adam",
        members: int = 1,
        start: float = 0.75,
        swag_learning_rate: float | None = None,
        every: int = 1,
        rank: int = 20,
        scale: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, seed, **kwargs)
        self.members = positive_integer("members", members)
        self.keeps_checkpoints = self.members == 1
        self.start = finite_number("start", start, smallest=0.0)
        if self.start >= 1.0:
            raise invalid("start", "a share of the epochs, below 1", start)
        rate = swag_learning_rate
        self.swag_learning_rate = None if rate is None else positive_number("swag_learning_rate", rate)
        self.every = positive_integer("every", every)
        self.rank = positive_integer("rank", rank)
        if self.rank < 2:
            raise invalid("rank", "2 or more, because a covariance of K deviations is divided by K - 1", rank)
        self.scale = finite_number("scale", scale, smallest=0.0)
        _refuse_running_statistics(network)

    def fit(self, x, y=None, epochs=1, batch_size=32, **training) -> Draws:
        """Trains and collects; returns endless draws.

        Args:
            x, y, epochs, batch_size: of `tfbnn.train`.
            **training: further arguments of `tfbnn.train` (checkpoints keep the moments, too); of `train_many`, where
                there are several members (`callbacks` then is a function of a member's number, or the first member's).
        """
        first = self._first(positive_integer("epochs", epochs))
        if (epochs - first) // self.every < 2:
            raise self._too_few(epochs)
        fit = self._fit_one if self.members == 1 else self._fit_all
        moments = fit(x, y, epochs=epochs, batch_size=batch_size, **training)
        if any(one.count < 2 for one in moments):
            raise self._too_few(epochs, "Training was stopped before.")
        for variable, mean in zip(_trained(self.model), moments[0].mean, strict=True):
            variable.assign(mean)
        self.model.compile(own_optimizer(self.optimizer))  # the old one's memory is of other weights
        return SWAGDraws(self.model.network, self.model.likelihood, moments, scale=self.scale, seed=self.model.seed)

    def _fit_one(self, x: Any, y: Any, epochs: int, callbacks: Any = None, **training: Any) -> list[Moments]:
        first = self._first_step(x, epochs, training["batch_size"])
        self.model = model = self._model(self.points(), self.likelihood, self.seed, x, y, first)
        collector = self._collector(model, epochs)
        if training.get("checkpoint") is not None:
            collector.keep_in_optimizer(model)
        self.train(model, x, y, epochs=epochs, callbacks=[*check_callbacks(callbacks), collector], **training)
        return [collector.moments]

    def _fit_all(
        self, x: Any, y: Any, epochs: int, callbacks: Any = None, sample_weight: Any = None, **training: Any
    ) -> list[Moments]:
        if unknown := {"checkpoint", "checkpoint_every", "resume"} & set(training):
            raise invalid(min(unknown), "none with several members, which are trained at once", training[min(unknown)])
        seeds = [self.seed + m for m in range(self.members)]
        refuse_datasets(x, "SWAG with several members")
        first = self._first_step(x, epochs, training["batch_size"])
        models = [
            self._model(as_points(self.network, s), own_likelihood(self.likelihood), s, x, y, first) for s in seeds
        ]
        _share_what_is_fixed(models)
        self.model = models[0]
        collectors = [self._collector(model, epochs) for model in models]
        data = (x, y) if sample_weight is None else (x, y, sample_weight)

        own_callbacks = callbacks_of_each(callbacks)

        def of_member(m: int) -> list[keras.callbacks.Callback]:
            return [*check_callbacks(own_callbacks and own_callbacks(m)), collectors[m]]

        histories = train_many(models, data, epochs, callbacks=of_member, **training)
        self.history = mean_history(histories)
        return [collector.moments for collector in collectors]

    def _model(
        self,
        network: keras.Model,
        likelihood: likelihoods.Likelihood,
        seed: int,
        x: Any,
        y: Any,
        first_step: int | None,
    ) -> BayesianModel:
        model = self.compiled(network, likelihood, seed)
        model.compile(self._held(first_step))
        model.build_for(arrays.prepare(x, y, likelihood)[0])
        _refuse_running_statistics(network)  # a network may make its layers when it is built
        return model

    def _held(self, first_step: int | None) -> keras.optimizers.Optimizer:
        """The optimizer; where its rate is a schedule, one that is held from the first step that is collected on."""
        optimizer = own_optimizer(self.optimizer)
        config = optimizer.get_config()
        if not isinstance(config["learning_rate"], dict):
            return optimizer
        if first_step is None:
            mend = "To change it before the snapshots: keras.callbacks.LearningRateScheduler."
            raise invalid("optimizer", "a number for its learning rate, where rows are a dataset", "a schedule", mend)
        schedule = keras.optimizers.schedules.deserialize(config["learning_rate"])
        return type(optimizer)(**{**config, "learning_rate": Held(schedule, first_step, self.swag_learning_rate)})

    def _first_step(self, x: Any, epochs: int, batch_size: int) -> int | None:
        """The first step of the first epoch that may be collected; None where a dataset does not tell its rows."""
        if isinstance(x, tf.data.Dataset):
            return None
        return self._first(epochs) * math.ceil(len(keras.tree.flatten(x)[0]) / batch_size)

    def _collector(self, model: BayesianModel, epochs: int) -> Collector:
        is_number = any(variable is model.optimizer.learning_rate for variable in model.optimizer.variables)
        rate = self.swag_learning_rate or float(model.optimizer.learning_rate)
        return Collector(
            Moments(_trained(model), self.rank), self._first(epochs), self.every, rate if is_number else None
        )

    def _first(self, epochs: int) -> int:
        """The first epoch, counted from 0, whose end may be a snapshot."""
        return math.floor(self.start * epochs)

    def _too_few(self, epochs: int, why: str = "") -> InvalidInput:
        enough = next(e for e in itertools.count(1) if (e - self._first(e)) // self.every >= 2)
        expected = f"{enough} or more: snapshots begin after {self.start:g} of them, one every {self.every}, and a "
        return invalid("epochs", f"{expected}posterior needs 2", epochs, f"{why} Or choose a smaller start.".strip())


@register
class Held(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule before step `first`, a constant from there on.

    Args:
        schedule: of Keras.
        first: step.
        rate: the constant; None: what the schedule has at `first`.
    """

    def __init__(self, schedule: Any, first: int, rate: float | None = None):
        self.schedule = keras.optimizers.schedules.deserialize(schedule) if isinstance(schedule, dict) else schedule
        self.first = int(first)
        self.rate = rate

    def __call__(self, step):
        held = self.schedule(self.first) if self.rate is None else self.rate
        return tf.where(step < self.first, self.schedule(step), held)

    def get_config(self):
        """The constructor's arguments."""
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {"schedule": schedule, "first": self.first, "rate": self.rate}


class Moments:
    """Running mean and variance of snapshots of some variables, and the last deviations from the running mean.

    Args:
        variables: whose snapshots are added.
        rank: K, how many deviations are kept.

    Attributes:
        count: T, snapshots so far.
        mean: float64, one array a variable.
        squares: float64 sums of squared deviations from the mean (Welford's, which do not cancel).
        deviations: float32 [K, ...], a ring: snapshot t, from 0, stands in row t mod K.
    """

    def __init__(self, variables: Sequence[keras.Variable], rank: int):
        self.count = 0
        self.mean = [np.zeros(v.shape) for v in variables]
        self.squares = [np.zeros(v.shape) for v in variables]
        self.deviations = [np.zeros((rank, *v.shape), np.float32) for v in variables]
        self._variables = list(variables)
        self._rank = rank

    def add(self) -> None:
        """Takes the variables' present values as one more snapshot."""
        row, self.count = self.count % self._rank, self.count + 1
        parts = zip(self._variables, self.mean, self.squares, self.deviations, strict=True)
        for variable, mean, squares, deviations in parts:
            value = variable.numpy()
            before = value - mean
            mean += before / self.count
            after = value - mean
            squares += before * after
            deviations[row] = after

    @property
    def rank(self) -> int:
        """Deviations that are there."""
        return min(self.count, self._rank)

    @property
    def stddev(self) -> list[np.ndarray]:
        """sqrt(E[w^2] - E[w]^2) over all snapshots."""
        return [np.sqrt(squares / self.count) for squares in self.squares]

    @property
    def values(self) -> list[np.ndarray]:
        """All that is kept but the count."""
        return [*self.mean, *self.squares, *self.deviations]

    def take(self, count: int, values: Sequence[np.ndarray]) -> None:
        """Goes on from the `count` and `values` of another."""
        self.count = count
        for own, other in zip(self.values, values, strict=True):
            own[...] = other


class Collector(keras.callbacks.Callback):
    """Keeps the learning rate constant from epoch `first` on, and adds a snapshot at the end of every `every`th.

    Args:
        moments: take the snapshots.
        first: epoch, counted from 0.
        every: epochs.
        rate: the learning rate; None: the optimizer's schedule has it.
    """

    def __init__(self, moments: Moments, first: int, every: int, rate: float | None):
        super().__init__()
        self.moments = moments
        self._first = first
        self._every = every
        self._rate = rate
        self._kept: list[keras.Variable] = []

    def keep_in_optimizer(self, model: BayesianModel) -> None:
        """Keeps a copy of the moments where checkpoints find what training remembers: among the optimizer's numbers.

        So they are written and taken back with the weights, whole or not at all, as its moving averages are.
        """
        add = model.optimizer.add_variable
        self._kept = [add((3,), dtype="int64", name="swag_counts")]
        self._kept += [add(array.shape, dtype=str(array.dtype), name=f"swag_{i}")
                       for i, array in enumerate(self.moments.values)]  # fmt: skip

    def on_train_begin(self, logs=None):
        """Takes the moments of a checkpoint back, where training goes on from one."""
        if not self._kept:
            return
        count, first, every = (int(number) for number in self._kept[0].numpy())
        if count and (first, every) != (self._first, self._every):
            raise invalid(
                "resume",
                f"a training whose snapshots are of every {every} epochs from {first + 1} on, as they were begun",
                f"every {self._every} from {self._first + 1} on",
                "Resume with the epochs, start and every of the first call.",
            )
        self.moments.take(count, [variable.numpy() for variable in self._kept[1:]])

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the rate, and tells the loop whether it will read the weights, which many models give back slowly."""
        self.reads_weights = self._is_snapshot(epoch)
        if self._rate is not None and epoch >= self._first:
            self.model.optimizer.learning_rate = self._rate

    def on_epoch_end(self, epoch, logs=None):
        """Adds a snapshot."""
        if not self._is_snapshot(epoch):
            return
        self.moments.add()
        if self._kept:
            counts = np.array([self.moments.count, self._first, self._every])
            for variable, value in zip(self._kept, [counts, *self.moments.values], strict=True):
                variable.assign(value)

    def _is_snapshot(self, epoch: int) -> bool:
        done = epoch + 1 - self._first
        return done >= 1 and done % self._every == 0


def _trained(model: BayesianModel) -> list[keras.Variable]:
    """What is drawn, in the order of `SWAGDraws`."""
    return [*model.network.trainable_variables, *model.likelihood.trainable_variables]


def _share_what_is_fixed(models: Sequence[BayesianModel]) -> None:
    """Gives all members the frozen weights of the first, because the draws have one network."""
    for model in models[1:]:
        parts = zip(model.network.non_trainable_variables, models[0].network.non_trainable_variables, strict=True)
        for variable, of_first in parts:
            if tf.as_dtype(variable.dtype).is_floating:
                variable.assign(of_first)


def _refuse_running_statistics(network: keras.Model) -> None:
    for layer in sublayers(network):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            raise invalid(
                "network",
                "layers without running statistics, which would have to be computed anew for each draw of the weights",
                f"layer {layer.name}, a {type(layer).__name__}",
                "Use LayerNormalization or GroupNormalization, or freeze it (trainable = False).",
            )
