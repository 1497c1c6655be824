"""Conformal intervals of numbers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfbnn.calibration.base import Conformal
from tfbnn.core.serialization import register


class _ConformalInterval(Conformal):
    """`conformal_lower` and `conformal_upper`, each [B, T] in units of y."""

    of_classes = False

    def _told(self, lower, upper):
        return {"conformal_lower": lower, "conformal_upper": upper}


@register
class StandardisedResidual(_ConformalInterval):
    """s(x, y) = |y - mean(x)| / stddev(x): mean +- threshold stddev, wide where the prediction is unsure.

    Args:
        level, threshold: of `Conformal`.

    Example:
        >>> conformal = tfbnn.calibration.StandardisedResidual(0.9).fit(prediction, y)
        >>> conformal(new)["conformal_lower"]

    Reference: Lei et al. 2018, "Distribution-free predictive inference for regression", section 5.2.
    """

    def scores(self, prediction, y):
        mean = prediction.mean
        return np.abs(y.reshape(mean.shape) - mean) / prediction.stddev

    def outputs(self, named):
        half = self.fitted_threshold() * named["stddev"]
        return self._told(named["mean"] - half, named["mean"] + half)


@register
class ConformalizedQuantiles(_ConformalInterval):
    """s(x, y) = max(lower(x) - y, y - upper(x)): the central interval, widened or narrowed by the threshold.

    One that is narrowed by more than it is wide is told as its midpoint.

    Args:
        level, threshold: of `Conformal`; the interval is that of the same level, and so are `lower` and `upper` of the
            prediction.

    Example:
        >>> conformal = tfbnn.calibration.ConformalizedQuantiles(0.9).fit(prediction, y)

    Reference: Romano, Patterson & Candes 2019, "Conformalized quantile regression", equation 6.
    """

    def scores(self, prediction, y):
        lower, upper = prediction.interval(self.level)
        y = y.reshape(lower.shape)
        return np.maximum(lower - y, y - upper)

    def outputs(self, named):
        by = self.fitted_threshold()
        lower, upper = named["lower"] - by, named["upper"] + by
        middle = (lower + upper) / 2.0
        return self._told(tf.minimum(lower, middle), tf.maximum(upper, middle))
