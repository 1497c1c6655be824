"""The protocols of calibration: maps of the likelihood's parameters, and conformal outputs."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid
from tfbnn.core.serialization import Configurable
from tfbnn.likelihoods import Likelihood
from tfbnn.prediction import Prediction, summary
from tfbnn.prediction.prediction import check_level


class Recalibration(Configurable, abc.ABC):
    """A map of the likelihood's parameters, [S, B, P'] -> [S, B, P'], that makes predictions more or less sure.

    What follows from the parameters (densities, intervals, entropies, the split of the uncertainty) changes with them.
    """

    @abc.abstractmethod
    def fit(self, prediction: Prediction, y: Any) -> Self:
        """A new one of the same kind, whose number maximises the log likelihood of calibration rows."""

    @abc.abstractmethod
    def parameters(self, likelihood: Likelihood, parameters: tf.Tensor) -> tf.Tensor:
        """The recalibrated parameters, in a graph or out of it."""

    def __call__(self, prediction: Prediction) -> Prediction:
        """The recalibrated prediction."""
        found = self.parameters(prediction.likelihood, tf.constant(prediction.parameters))
        return Prediction(found, prediction.likelihood, prediction.metadata)


class Conformal(Configurable, abc.ABC):
    """Split-conformal prediction: sets or intervals that hold the truth of a new row with probability `level`.

    s(x, y) is how badly y fits the prediction of x; the threshold is the ceil((n + 1) level)-th smallest of n scores of
    calibration rows, and whatever fits no worse is told. If calibration rows and new rows are exchangeable, then
    level <= P(y is told) <= level + 1 / (n + 1), on average over calibration rows and new rows, whatever the model; the
    upper bound needs scores without ties.

    Args:
        level: share of new rows whose truth shall be told.
        threshold: of the score; a number, or one a target; None: not fitted.

    Reference: Vovk, Gammerman & Shafer 2005; Lei et al. 2018, theorem 2.2; Angelopoulos & Bates 2023.
    """

    of_classes: bool

    def __init__(self, level: float = 0.9, threshold: float | Sequence[float] | None = None):
        self.level = check_level(level)
        self.threshold = threshold if threshold is None else [float(t) for t in np.atleast_1d(threshold)]

    def fit(self, prediction: Prediction, y: Any) -> Self:
        """A new one with the threshold of n calibration rows.

        Args:
            prediction: of rows that were not trained on.
            y: [n] or [n, T].

        Raises:
            InvalidInput: for fewer rows than `fewest_rows(level)`, or a likelihood of another kind.
        """
        self.check_kind(prediction.likelihood)
        y = prediction.check_rows(y)
        n = check_rows(len(y), self.level)
        scores = np.sort(self.scores(prediction, y).reshape(n, -1), axis=0)
        return type(self)(self.level, scores[_rank(n, self.level) - 1])

    def check_kind(self, likelihood: Likelihood) -> None:
        """Raises where sets are asked of numbers, or intervals of classes."""
        if likelihood.is_classifier != self.of_classes:
            kind = "classes" if self.of_classes else "numbers"
            raise invalid("calibration", f"a likelihood of {kind} for {type(self).__name__}", type(likelihood).__name__)

    @abc.abstractmethod
    def scores(self, prediction: Prediction, y: np.ndarray) -> np.ndarray:
        """s of each row, and each target: [n] or [n, T]."""

    @abc.abstractmethod
    def outputs(self, named: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """What is told beside the named outputs of a prediction (`prediction.summary`), in a graph or out of it."""

    def __call__(self, prediction: Prediction) -> dict[str, np.ndarray]:
        """The conformal outputs of a prediction."""
        named = summary.outputs(prediction.likelihood, tf.constant(prediction.parameters), self.level)
        return {name: tensor.numpy() for name, tensor in self.outputs(named).items()}

    def fitted_threshold(self) -> tf.Tensor:
        """The threshold, [T]; raises where there is none yet."""
        if self.threshold is None:
            raise invalid("calibration", f"a fitted {type(self).__name__}", "one without threshold", "Call fit first.")
        return tf.constant(self.threshold, tf.float32)


def fewest_rows(level: float) -> int:
    """n, calibration rows without which no finite threshold reaches the level: ceil((n + 1) level) <= n."""
    n = max(1, math.floor(level / (1.0 - level)))
    while _rank(n, level) > n:
        n += 1
    return n


def check_rows(n: int, level: float) -> int:
    """Returns n; raises where so few calibration rows have no finite threshold."""
    needed = fewest_rows(level)
    if n < needed:
        raise invalid("calibration", f"{needed} rows or more to calibrate level {level:g} on", f"{n} rows")
    return n


def _rank(n: int, level: float) -> int:
    """ceil((n + 1) level), without the rounding by which (9 + 1) 0.9 might pass for more than 9."""
    return math.ceil((n + 1) * level - 1e-9)
