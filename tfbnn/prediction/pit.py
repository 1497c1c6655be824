"""The probability integral transform: where in its predictive distribution each target came to lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.core.noise import check_seed
from tfbnn.prediction.prediction import Prediction


def pit(prediction: Prediction, y: Any, seed: int = 0) -> np.ndarray:
    """u = F(y); of counts u = F(y - 1) + v (F(y) - F(y - 1)), v ~ Uniform(0, 1): uniform where F is right.

    Args:
        prediction: of B rows; no classes.
        y: [B] or [B, T], in its units.
        seed: of v.

    Returns:
        [B, T], in [0, 1]. Most values near 0 and 1: too sure; most in the middle: too cautious.

    Raises:
        InvalidInput: for classes, and for a y that does not fit.

    Example:
        >>> numpy.histogram(pit(prediction, y), bins=10, range=(0, 1))

    Reference: Dawid 1984; Czado, Gneiting & Held 2009, "Predictive Model Assessment for Count Data", section 2.
    """
    prediction.likelihood.check_target("y", np.asarray(y))
    F = prediction.cdf(y).astype(np.float64)
    if not prediction.likelihood.is_discrete:
        return F
    y = np.asarray(y, np.float64).reshape(F.shape)
    below = np.where(y > 0, prediction.cdf(np.maximum(y - 1, 0)), 0.0)
    v = np.random.default_rng(check_seed("seed", seed)).random(F.shape)
    return below + v * (F - below)
