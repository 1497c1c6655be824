"""Positive numbers from free ones: the one map from what an optimizer moves to standard deviations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

Numbers = TypeVar("Numbers", float, np.ndarray)


_IN_STEPS: ContextVar[bool] = ContextVar("tfbnn_positive_in_steps", default=False)


@contextlib.contextmanager
def in_training_steps() -> Iterator[None]:
    """Inside, `positive` has a slope that XLA computes from the same exponential: a tenth of a compiled step."""
    token = _IN_STEPS.set(True)
    try:
        yield
    finally:
        _IN_STEPS.reset(token)


def positive(rho: Any) -> tf.Tensor:
    """scale = softplus(rho) = log(1 + e^rho), of a tensor or variable."""
    rho = tf.convert_to_tensor(rho)
    return _of_one_exponential(rho) if _IN_STEPS.get() else tf.math.softplus(rho)


@tf.custom_gradient
def _of_one_exponential(rho: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    e = tf.exp(-tf.abs(rho))
    return tf.nn.relu(rho) + tf.math.log1p(e), lambda upstream: upstream * tf.where(rho > 0, 1.0, e) / (1.0 + e)


def inverse_positive(scale: Numbers) -> Numbers:
    """rho = log(e^scale - 1), the inverse of `positive`, of numbers above 0; finite however small or large they are."""
    return scale + np.log(-np.expm1(-scale))
