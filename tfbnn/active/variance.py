"""Epistemic variance: rows about whose mean the draws disagree."""

from __future__ import annotations

import numpy as np

from tfbnn.prediction import Prediction


def epistemic_variance(prediction: Prediction) -> np.ndarray:
    """Var_w E[y|x, w], of a regression; of classes, the sum over them of Var_w p(y = k|x, w).

    Noise of y, which more labels would not remove, is no part of it. Where a row has several targets, which may have
    several units, each variance is divided by the mean variance of its target over the rows.

    Args:
        prediction: of B rows.

    Returns:
        [B]; of one target in units of y, squared.

    Example:
        >>> tfbnn.active.epistemic_variance(model.predict_distribution(pool)).argmax()

    Reference: Cohn, Ghahramani & Jordan 1996, "Active Learning with Statistical Models".
    """
    variances = np.square(prediction.epistemic_stddev, dtype=np.float64)
    if prediction.likelihood.num_targets > 1:
        variances = variances / prediction.variance.mean(axis=0, dtype=np.float64)
    return variances.sum(axis=1)
