"""Deep ensembles: the same network, trained from several beginnings."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfbnn.core.checks import invalid, one_of, positive_integer
from tfbnn.core.draws import Draws
from tfbnn.inference.base import (
    Inference,
    callbacks_of_each,
    has_dropout,
    has_posteriors,
    mean_history,
    own_likelihood,
    refuse_datasets,
    setting_of,
    stored,
)
from tfbnn.layers.convert import anchored_points, copied, point_posteriors
from tfbnn.training import train_many

KINDS = ("points", "anchored", "variational")


class DeepEnsemble(Inference):
    """p(y|x) = (1/M) sum_m p(y|x, w_m), w_m found from M beginnings; trained at once on a stacked axis.

    Args:
        network, likelihood, optimizer, seed, **kwargs: of `Inference`.
        members: M, 2 or more.
        of: "points": each member is one network (its priors, where layers have them, are penalties: MAP);
            "anchored": as points, but each member's prior is centred on a draw of the prior, so that far from the data
            the members spread as the prior does (Normal priors only); "variational": each member keeps its
            posteriors, and draw i is one of member i mod M.
        snapshots: beginnings are ends: one network, trained by cyclical learning rates, gives one member at the end
            of each of M cycles (Huang 2017); the epochs are shared by all.

    Example:
        >>> draws = tfbnn.inference.DeepEnsemble(network, likelihood, members=5, seed=0).fit(x, y, epochs=100)

    Reference: Lakshminarayanan, Pritzel & Blundell 2017; Huang et al. 2017, "Snapshot ensembles"; anchored: Pearce,
    Leibfried & Brintrup 2020.
    """

    keeps_checkpoints = False

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any = "adam",
        members: int = 5,
        of: str = "points",
        snapshots: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, seed, **kwargs)
        self.members = positive_integer("members", members)
        if self.members < 2:
            mend = "One network alone has no spread: use VariationalInference, or more members."
            raise invalid("members", "2 or more", members, mend)
        self.of = one_of("of", of, KINDS)
        self.snapshots = bool(snapshots)
        if self.snapshots and self.of != "points":
            raise invalid("snapshots", f"False with of='{self.of}'", True, "Snapshots are of points.")

    def fit(self, x, y=None, epochs=1, batch_size=32, *, sample_weight=None, **training) -> Draws:
        """Trains all members; `training` holds further arguments of `tfbnn.train_many` (of `train`, for snapshots).

        A list of `callbacks` is the first member's; a function of a member's number gives each its own.
        """
        if self.snapshots:
            return self._snapshots(x, y, epochs, batch_size, sample_weight=sample_weight, **training)
        refuse_datasets(x, "DeepEnsemble")
        training["callbacks"] = callbacks_of_each(training.get("callbacks"))
        models = [self.compiled(self._network(m), own_likelihood(self.likelihood), self.seed + m)
                  for m in range(self.members)]  # fmt: skip
        rows = (x, y) if sample_weight is None else (x, y, sample_weight)
        histories = train_many(models, rows, epochs, batch_size, **training)
        self.history = mean_history(histories)
        self.model = models[0]
        is_random = has_posteriors(self.model.network) or has_dropout(self.model.network)
        return stored(self.model, [setting_of(model) for model in models], endless=is_random)

    def _network(self, m: int) -> keras.Model:
        """A copy with other initial weights, which are a function of the seed."""
        self.refuse_members()
        changes = {"points": point_posteriors, "anchored": anchored_points, "variational": None}
        return copied(self.network, self.seed + m, changes[self.of])

    def _snapshots(self, x: Any, y: Any, epochs: int, batch_size: int, **training: Any) -> Draws:
        if positive_integer("epochs", epochs) < self.members:
            raise invalid("epochs", f"{self.members} or more, one a snapshot", epochs)
        model = self.compiled(self.points(), own_likelihood(self.likelihood))
        if "learning_rate" not in {variable.name for variable in model.optimizer.variables}:
            raise invalid("optimizer", "a number for its learning rate, which snapshots schedule", "a schedule")
        cycle = _Cycle(float(model.optimizer.learning_rate), epochs, self.members)
        self.train(model, x, y, epochs=epochs, batch_size=batch_size,
                   callbacks=[*(training.pop("callbacks", None) or []), cycle], **training)  # fmt: skip
        self.model = model
        return stored(model, cycle.settings)


class _Cycle(keras.callbacks.Callback):
    """The rate of epoch t of a cycle of T: (rate / 2) (cos(pi t / T) + 1); keeps the weights at each cycle's end."""

    def __init__(self, rate: float, epochs: int, cycles: int):
        super().__init__()
        self.rate = rate
        self.settings: list[list[np.ndarray]] = []
        self.ends = [round(epochs * (k + 1) / cycles) for k in range(cycles)]

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the rate."""
        end = next(end for end in self.ends if end > epoch)
        begin = max([0, *(other for other in self.ends if other < end)])
        self.model.optimizer.learning_rate = 0.5 * self.rate * (np.cos(np.pi * (epoch - begin) / (end - begin)) + 1.0)

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the weights."""
        if epoch + 1 in self.ends:
            self.settings.append(setting_of(self.model))
