"""The spike and slab of two Gaussians."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import finite_number, invalid, positive_number
from tfbnn.core.serialization import register
from tfbnn.priors.base import Prior, WeightPrior

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class _ScaleMixtureWeightPrior(WeightPrior):
    pi: float
    scales: tuple[float, float]
    shape: tuple[int, ...]

    def distribution(self) -> Any:
        which = tfd.Categorical(logits=[math.log(self.pi), math.log1p(-self.pi)])
        normals = tfd.Normal(tf.zeros([*self.shape, 2]), self.scales)
        mixture = tfd.MixtureSameFamily(which, normals)
        return tfd.Independent(mixture, reinterpreted_batch_ndims=len(self.shape))


@register
class ScaleMixture(Prior):
    """p(w) = pi Normal(w; 0, scale_1^2) + (1 - pi) Normal(w; 0, scale_2^2), each weight alone.

    Many weights near 0, and a heavy tail for the few that matter. No formula is known for the KL: it is
    log q(w) - log p(w) at one draw of q a step, which makes reported `kl` and `elbo` noisy.

    When: weights of two sizes, as in Bayes by Backprop.
    Cost: no numbers; a Monte Carlo KL.

    Args:
        pi: share of the first Gaussian, between 0 and 1, both excluded.
        scale_1: standard deviation of the first Gaussian, above 0.
        scale_2: standard deviation of the second Gaussian, above 0.

    Raises:
        InvalidInput: where one of them is out of its range.

    Example:
        >>> tfbnn.layers.DenseReparameterization(10, kernel_prior_fn=tfbnn.priors.ScaleMixture(pi=0.25))

    Reference: Blundell et al. 2015, "Weight Uncertainty in Neural Networks", eq. 7.
    """

    def __init__(self, pi: float = 0.5, scale_1: float = 1.0, scale_2: float = 0.0025):
        self.pi = finite_number("pi", pi)
        if not 0 < self.pi < 1:
            raise invalid("pi", "a number between 0 and 1, both excluded", pi, "For one Gaussian use priors.Normal.")
        self.scale_1 = positive_number("scale_1", scale_1)
        self.scale_2 = positive_number("scale_2", scale_2)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of one tensor; it has no variables."""
        return _ScaleMixtureWeightPrior(self.pi, (self.scale_1, self.scale_2), tuple(shape))
