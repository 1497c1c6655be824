"""The Gaussian prior whose scale is learned."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import finite_number, positive_number
from tfbnn.core.positive import inverse_positive, positive
from tfbnn.core.serialization import register
from tfbnn.priors.base import Prior, WeightPrior

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class _EmpiricalBayesNormalWeightPrior(WeightPrior):
    loc: float
    rho: keras.Variable
    shape: tuple[int, ...]

    def distribution(self) -> Any:
        scale = tf.fill(self.shape, positive(self.rho.value))
        return tfd.Independent(tfd.Normal(self.loc, scale), reinterpreted_batch_ndims=len(self.shape))


@register
class EmpiricalBayesNormal(Prior):
    """w ~ Normal(loc, scale^2), each weight alone, with one scale = softplus(rho) a tensor, learned with the weights.

    The scale is a point estimate (type-II maximum likelihood, empirical Bayes): rho moves by the gradient of the KL
    and has itself neither a posterior nor a term in the KL. For a factorised Gaussian q the KL is least at
    scale^2 = mean_i((loc_i - loc)^2 + scale_i^2), over the tensor's weights. A weight decay of the optimizer, where
    it has one, should leave `<name>_prior_rho` out.

    A posterior of points (Deterministic) is refused: -log p(w) falls without end as w goes to `loc` and the scale
    to 0.

    When: a width that is not known, and many weights.
    Cost: 1 number a tensor; exact KL.

    Args:
        loc: mean of every weight.
        initial_scale: standard deviation of every weight where training begins, above 0.

    Raises:
        InvalidInput: where `initial_scale` is not above 0 or `loc` is not finite; from the layer, where the tensor's
            posterior is a point.

    Example:
        >>> tfbnn.layers.DenseFlipout(10, kernel_prior_fn=tfbnn.priors.EmpiricalBayesNormal())

    Reference: MacKay 1992, "A Practical Bayesian Framework for Backpropagation Networks".
    """

    has_learned_scale = True

    def __init__(self, loc: float = 0.0, initial_scale: float = 0.3):
        self.loc = finite_number("loc", loc)
        self.initial_scale = positive_number("initial_scale", initial_scale)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """Adds `<name>_prior_rho`, a scalar."""
        rho = layer.add_weight(
            name=f"{name}_prior_rho",
            shape=(),
            initializer=keras.initializers.Constant(inverse_positive(self.initial_scale)),
            dtype="float32",
            autocast=False,
        )
        return _EmpiricalBayesNormalWeightPrior(self.loc, rho, tuple(shape))
