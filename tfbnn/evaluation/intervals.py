"""Predictive intervals: how often they hold the target, how wide they are, and one score of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfbnn.core.checks import invalid
from tfbnn.prediction.prediction import Prediction, check_level

LEVELS = (0.5, 0.8, 0.9, 0.95)


def interval_score(lower: Any, upper: Any, y: Any, level: float = 0.9) -> np.ndarray:
    """S = (u - l) + (2 / a) (l - y) 1[y < l] + (2 / a) (y - u) 1[y > u], a = 1 - level; lower is better.

    In units of y: the width, and a fine for each target outside that grows with the level. Of all intervals, the
    central one of the true distribution has the lowest expected score.

    Args:
        lower, upper: ends of central intervals, of one shape.
        y: of that shape.
        level: that the intervals are meant to hold.

    Returns:
        Of that shape.

    Raises:
        InvalidInput: for a level that is no share, or shapes that differ.

    Example:
        >>> interval_score(*prediction.interval(0.9), y.reshape(-1, 1), 0.9).mean()

    Reference: Gneiting & Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and Estimation", equation 43.
    """
    lower, upper, y = (np.asarray(values, np.float64) for values in (lower, upper, y))
    if not lower.shape == upper.shape == y.shape:
        raise invalid(
            "y", f"the shape of the intervals' ends, {list(lower.shape)} and {list(upper.shape)}", list(y.shape)
        )
    fine = 2.0 / (1.0 - check_level(level))
    return (upper - lower) + fine * np.maximum(lower - y, 0.0) + fine * np.maximum(y - upper, 0.0)


@dataclasses.dataclass(frozen=True)
class IntervalQuality:
    """Of the intervals of one level.

    Attributes:
        level: that they are meant to hold.
        coverage: share of the targets inside.
        width: mean, in units of y.
        score: mean interval score, in units of y.
    """

    level: float
    coverage: float
    width: float
    score: float


def interval_quality(prediction: Prediction, y: Any, levels: Sequence[float] = LEVELS) -> list[IntervalQuality]:
    """Coverage, width and score of the central intervals at several levels.

    Args:
        prediction: of B rows; no classes.
        y: [B] or [B, T], in its units.
        levels: each between 0 and 1.

    Raises:
        InvalidInput: for classes, a level that is no share, or a y that does not fit.

    Example:
        >>> [quality.coverage for quality in interval_quality(prediction, y)]
    """
    prediction.likelihood.check_target("y", np.asarray(y))
    y = prediction.likelihood.match_target(y).numpy()
    return [_quality(*prediction.interval(level), y, level) for level in levels]


def _quality(lower: np.ndarray, upper: np.ndarray, y: np.ndarray, level: float) -> IntervalQuality:
    scores = interval_score(lower, upper, y, level)  # which refuses another number of rows
    inside, width = (lower <= y) & (y <= upper), upper - lower
    return IntervalQuality(level, float(inside.mean()), float(width.mean()), float(scores.mean()))
