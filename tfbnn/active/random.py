"""Rows at random: what the acquisition functions are measured against."""

from __future__ import annotations

import numpy as np

from tfbnn.active.base import generator, highest
from tfbnn.prediction import Prediction


def random(prediction: Prediction, seed: int = 0) -> np.ndarray:
    """A uniform number a row, so that the highest are rows at random.

    Args:
        prediction: of B rows.
        seed: the same seed gives the same numbers.

    Returns:
        float64 [B].

    Example:
        >>> tfbnn.active.random(model.predict_distribution(pool), seed=3)
    """
    return generator(seed).random(prediction.num_rows)


def choose_at_random(prediction: Prediction, count: int, seed: int) -> np.ndarray:
    """Positions [count] of rows at random, none twice."""
    return highest(random(prediction, seed), count, seed)
