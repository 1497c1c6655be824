"""What scores share."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

SMALLEST_VARIANCE = 1e-300  # stands for 0, by which nothing is divided


def expected_distance(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """E|d|, d ~ Normal(mean, variance): 2 s phi(mean / s) + mean (2 Phi(mean / s) - 1), s^2 = variance."""
    stddev = np.sqrt(np.maximum(variance, SMALLEST_VARIANCE))
    z = mean / stddev
    return stddev * math.sqrt(2.0 / math.pi) * np.exp(-0.5 * z**2) + mean * (2.0 * ndtr(z) - 1.0)
