"""Positive numbers from free ones: the one map from what an optimizer moves to standard deviations."""

from __future__ import annotations

import math

import tensorflow as tf


def positive(rho: tf.Tensor) -> tf.Tensor:
    """scale = softplus(rho) = log(1 + e^rho)."""
    return tf.math.softplus(rho)


def inverse_positive(scale: float) -> float:
    """rho = log(e^scale - 1), the inverse of `positive`, of a number above 0; finite however small or large it is."""
    return scale + math.log(-math.expm1(-scale))
