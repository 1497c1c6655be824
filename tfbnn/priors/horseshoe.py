"""The horseshoe prior."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import positive_number
from tfbnn.core.serialization import register
from tfbnn.priors.base import Prior, WeightPrior

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class _HorseshoeWeightPrior(WeightPrior):
    scale: float
    shape: tuple[int, ...]

    def distribution(self) -> Any:
        base = tfd.Horseshoe(tf.fill(self.shape, self.scale))
        return tfd.Independent(base, reinterpreted_batch_ndims=len(self.shape))


@register
class Horseshoe(Prior):
    """w ~ Normal(0, (scale lambda)^2), lambda ~ HalfCauchy(1), each weight alone, lambda integrated out.

    Nearly all mass close to 0 and tails as Cauchy's: most weights are switched off, the others are left alone. The
    density has no formula; TFP's approximation of its logarithm is used (within 2e-3 nats in a test), and the KL is
    Monte Carlo.

    When: many weights of which few are needed, these without shrinkage.
    Cost: no numbers; a Monte Carlo KL.

    Args:
        scale: of all weights of a tensor, above 0; the smaller, the sparser.

    Raises:
        InvalidInput: where `scale` is not above 0.

    Example:
        >>> tfbnn.layers.DenseFlipout(10, kernel_prior_fn=tfbnn.priors.Horseshoe(scale=0.05))

    Reference: Carvalho, Polson & Scott 2009; Ghosh, Yao & Doshi-Velez 2019, "Model Selection in Bayesian Neural
    Networks via Horseshoe Priors".
    """

    def __init__(self, scale: float = 0.1):
        self.scale = positive_number("scale", scale)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of one tensor; it has no variables."""
        return _HorseshoeWeightPrior(self.scale, tuple(shape))
