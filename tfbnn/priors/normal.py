"""The factorised Gaussian prior."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import finite_number, positive_number
from tfbnn.core.serialization import register
from tfbnn.priors.base import Prior, WeightPrior

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class _NormalWeightPrior(WeightPrior):
    loc: float
    scale: float
    shape: tuple[int, ...]

    def distribution(self) -> Any:
        normal = tfd.Normal(tf.fill(self.shape, self.loc), tf.fill(self.shape, self.scale))
        return tfd.Independent(normal, reinterpreted_batch_ndims=len(self.shape))


@register
class Normal(Prior):
    """w ~ Normal(loc, scale^2), each weight alone.

    Args:
        loc: mean of every weight.
        scale: standard deviation of every weight, above 0.

    Raises:
        InvalidInput: where `scale` is not above 0 or `loc` is not finite.

    Example:
        >>> tfbnn.layers.DenseFlipout(10, kernel_prior_fn=tfbnn.priors.Normal(scale=0.5))
    """

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        self.loc = finite_number("loc", loc)
        self.scale = positive_number("scale", scale)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of one tensor; it has no variables."""
        return _NormalWeightPrior(self.loc, self.scale, tuple(shape))
