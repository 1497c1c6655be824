"""Predictive entropy: rows whose class is uncertain, from whatever cause."""

from __future__ import annotations

import numpy as np

from tfbnn.prediction import Prediction


def predictive_entropy(prediction: Prediction) -> np.ndarray:
    """H[y|x] = -sum_k p(y = k|x) log p(y = k|x), p the mean over draws; "maximum entropy" in the literature.

    It is high where classes overlap too, and labels there teach little: see `bald`.

    Args:
        prediction: of classes, B rows.

    Returns:
        [B], nats.

    Example:
        >>> tfbnn.active.predictive_entropy(model.predict_distribution(pool)).argmax()

    Reference: Shannon 1948; Gal, Islam & Ghahramani 2017, section 4.
    """
    return prediction.predictive_entropy
