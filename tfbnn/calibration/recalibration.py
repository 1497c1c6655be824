"""One number that makes a predictive distribution as sure as it may be: temperature of classes, scale of numbers."""

from __future__ import annotations

import abc
import math
from typing import Any, Self

import numpy as np
import tensorflow as tf
from scipy.optimize import minimize_scalar

from tfbnn.calibration.base import Recalibration
from tfbnn.core.checks import invalid, positive_number
from tfbnn.core.serialization import register
from tfbnn.likelihoods import Likelihood
from tfbnn.likelihoods.base import StandardisedLikelihood
from tfbnn.prediction import Prediction
from tfbnn.prediction.decompose import mean_over_draws

FEWEST_ROWS = 10  # of fewer, one row may decide the number
BOUND = math.log(100.0)  # numbers from 1 / 100 to 100 are tried
CLOSE = 1e-4  # of log number


class _OneNumber(Recalibration):
    @abc.abstractmethod
    def __init__(self, number: float = 1.0):
        """`number` is what is fitted."""

    @abc.abstractmethod
    def _check(self, likelihood: Likelihood) -> None:
        """Raises where the likelihood has nothing to recalibrate."""

    def fit(self, prediction: Prediction, y: Any) -> Self:
        """argmax over numbers of the mixture's log likelihood on calibration rows, by Brent's method.

        Raises:
            InvalidInput: for fewer than 10 rows, a likelihood of another kind, or classes of which one alone was seen.
        """
        self._check(prediction.likelihood)
        if (n := len(prediction.check_rows(y))) < FEWEST_ROWS:
            raise invalid("calibration", f"{FEWEST_ROWS} rows or more to recalibrate on", f"{n} rows")

        def loss(log_number: float) -> float:
            return -float(np.mean(type(self)(math.exp(log_number))(prediction).log_prob(y)))

        found = minimize_scalar(loss, bounds=(-BOUND, BOUND), method="bounded", options={"xatol": CLOSE})
        return type(self)(math.exp(float(found.x))) if found.fun < loss(0.0) else type(self)(1.0)


@register
class TemperatureScaling(_OneNumber):
    """Logits f of each draw become f / T: T above 1 is less sure, below 1 surer; the likeliest class of a draw stays.

    Args:
        temperature: T.

    Example:
        >>> recalibration = tfbnn.calibration.TemperatureScaling().fit(prediction, y)
        >>> recalibration(prediction).probabilities

    Reference: Guo et al. 2017, equation 9, here of every draw before the average.
    """

    def __init__(self, temperature: float = 1.0):
        self.temperature = positive_number("temperature", temperature)

    def parameters(self, likelihood, parameters):
        self._check(likelihood)
        return parameters / self.temperature

    def fit(self, prediction, y):
        if len(np.unique(np.asarray(y))) < 2:
            mend = "Any temperature near 0 would do; give more calibration rows."
            raise invalid("calibration", "rows of two classes or more", "rows of one class", mend)
        return super().fit(prediction, y)

    def _check(self, likelihood):
        if not likelihood.is_classifier:
            raise invalid("calibration", "classes for TemperatureScaling", type(likelihood).__name__)


@register
class ScaleCalibration(_OneNumber):
    """The predictive distribution is stretched about its mean by s: loc' = m + s (loc - m), scale' = s scale.

    m is the mean of loc over the draws. Standard deviations, epistemic and aleatoric, become s times as large, and the
    means stay; for a LogNormal all is of log y.

    Args:
        factor: s; above 1 is less sure.

    Example:
        >>> recalibration = tfbnn.calibration.ScaleCalibration().fit(prediction, y)
        >>> recalibration(prediction).stddev

    Reference: Laves et al. 2020, "Well-calibrated regression uncertainty in medical imaging with deep learning".
    """

    def __init__(self, factor: float = 1.0):
        self.factor = positive_number("factor", factor)

    def parameters(self, likelihood, parameters):
        self._check(likelihood)
        loc, scale, *others = likelihood.parts(parameters)
        centre = mean_over_draws(loc)
        return tf.concat([centre + self.factor * (loc - centre), self.factor * scale, *others], axis=-1)

    def _check(self, likelihood):
        if not isinstance(likelihood, StandardisedLikelihood):
            expected = "a likelihood of a location and a scale for ScaleCalibration (Normal, StudentT, LogNormal, ...)"
            raise invalid("calibration", expected, type(likelihood).__name__)


def recalibration_for(likelihood: Likelihood) -> Recalibration:
    """The recalibration that fits a likelihood, not fitted yet.

    Raises:
        InvalidInput: for likelihoods of counts, which have none.
    """
    found: Recalibration = TemperatureScaling() if likelihood.is_classifier else ScaleCalibration()
    check_recalibration(found, likelihood)
    return found


def check_recalibration(recalibration: Recalibration, likelihood: Likelihood) -> None:
    """Raises where the likelihood has no parameters that the recalibration is of."""
    recalibration.parameters(likelihood, tf.ones([1, 1, likelihood.num_parameters]))
