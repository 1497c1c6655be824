"""What scores share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtr

SMALLEST_VARIANCE = 1e-300  # stands for 0, by which nothing is divided


def expected_distance(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """E|d|, d ~ Normal(mean, variance): 2 s phi(mean / s) + mean (2 Phi(mean / s) - 1), s^2 = variance."""
    stddev = np.sqrt(np.maximum(variance, SMALLEST_VARIANCE))
    z = mean / stddev
    return stddev * math.sqrt(2.0 / math.pi) * np.exp(-0.5 * z**2) + mean * (2.0 * ndtr(z) - 1.0)


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A score as a function of what is known of each row, so that rows can be drawn again.

    Attributes:
        of: arrays -> number.
        rows: the arrays, each [B, ...].
        centred: of `with_interval`.
        is_share: whether it is the mean of what happened in a row or not, 1 or 0.
    """

    of: Callable[..., Any]
    rows: tuple[np.ndarray, ...]
    centred: bool = False
    is_share: bool = False

    def value(self) -> float:
        """Of the rows as they are."""
        return float(self.of(*self.rows))


def mean_of(values: Any) -> Statistic:
    """The mean over the rows."""
    return Statistic(np.mean, (np.asarray(values, np.float64),))


def share_of(happened: Any) -> Statistic:
    """The share of what happened, [B] or [B, T]."""
    values = np.asarray(happened, np.float64)
    return Statistic(np.mean, (values.reshape(len(values), -1),), is_share=True)


def root_mean_of(values: Any) -> Statistic:
    """The root of the mean over the rows."""
    return Statistic(lambda drawn: np.sqrt(np.mean(drawn)), (np.asarray(values, np.float64),))
