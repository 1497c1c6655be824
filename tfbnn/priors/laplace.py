"""The Laplace prior."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import finite_number, positive_number
from tfbnn.core.serialization import register
from tfbnn.priors.base import Prior, WeightPrior

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class _LaplaceWeightPrior(WeightPrior):
    loc: float
    scale: float
    shape: tuple[int, ...]

    def distribution(self) -> Any:
        base = tfd.Laplace(tf.fill(self.shape, self.loc), self.scale)
        return tfd.Independent(base, reinterpreted_batch_ndims=len(self.shape))


@register
class Laplace(Prior):
    """p(w) = exp(-|w - loc| / scale) / (2 scale), each weight alone: of points the L1 penalty.

    Its tails are heavier than a Gaussian's and its peak is sharp, so that a few weights may be large beside many small
    ones. The KL of a factorised Gaussian is exact:

        KL = log(2 scale / (s sqrt(2 pi e))) + E|w - loc| / scale,   w ~ Normal(m, s^2)

    When: sparser than Normal; of points, the L1 penalty.
    Cost: no numbers; exact KL to MeanField.

    Args:
        loc: where the peak is.
        scale: mean of |w - loc|, above 0; the standard deviation is sqrt(2) scale.

    Raises:
        InvalidInput: where `scale` is not above 0 or `loc` is not finite.

    Example:
        >>> tfbnn.layers.DenseFlipout(10, kernel_prior_fn=tfbnn.priors.Laplace(scale=0.1))

    Reference: Tibshirani 1996; Fortuin et al. 2022, "Bayesian Neural Network Priors Revisited" (heavy tails).
    """

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        self.loc = finite_number("loc", loc)
        self.scale = positive_number("scale", scale)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of one tensor; it has no variables."""
        return _LaplaceWeightPrior(self.loc, self.scale, tuple(shape))


@tfd.RegisterKL(tfd.Normal, tfd.Laplace)
def _kl_normal_laplace(q: Any, p: Any, name: str | None = None) -> tf.Tensor:
    """KL(Normal || Laplace), an entry; TFP has none."""
    with tf.name_scope(name or "kl_normal_laplace"):
        z = (q.loc - p.loc) / q.scale
        phi = tf.exp(-0.5 * tf.square(z)) / math.sqrt(2.0 * math.pi)
        distance = q.scale * (2.0 * phi + z * tf.math.erf(z / math.sqrt(2.0)))  # E|w - loc|
        return tf.math.log(2.0 * p.scale / q.scale) - 0.5 * math.log(2.0 * math.pi * math.e) + distance / p.scale
