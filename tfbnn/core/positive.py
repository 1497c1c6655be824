"""Positive numbers from free ones: the one map from what an optimizer moves to standard deviations."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import tensorflow as tf

Numbers = TypeVar("Numbers", float, np.ndarray)


def positive(rho: tf.Tensor) -> tf.Tensor:
    """scale = softplus(rho) = log(1 + e^rho)."""
    return tf.math.softplus(rho)


def inverse_positive(scale: Numbers) -> Numbers:
    """rho = log(e^scale - 1), the inverse of `positive`, of numbers above 0; finite however small or large they are."""
    return scale + np.log(-np.expm1(-scale))
