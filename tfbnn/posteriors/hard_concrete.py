"""Gaussian weights behind gates that are shut, half open or open."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.arrays import shape_of_each
from tfbnn.core.checks import check_share, finite_number, one_of
from tfbnn.core.positive import positive
from tfbnn.core.serialization import register
from tfbnn.core.spike_and_slab import SpikeAndSlabNormal
from tfbnn.posteriors.base import (
    INITIAL_RHO,
    Posterior,
    WeightPosterior,
    add_variable,
    initializer_argument,
    properties_of_one_tensor,
)

EACH = ("weight", "input")
TEMPERATURE = 2 / 3
STRETCH = -0.1, 1.1
LOG_SHIFT = TEMPERATURE * math.log(-STRETCH[0] / STRETCH[1])  # log odds of an open gate = log_alpha - LOG_SHIFT


class _HardConcreteWeight(WeightPosterior):
    has_spike = True

    def __init__(self, name, shape, loc, rho, log_alpha):
        super().__init__(name, shape)
        self.loc = loc
        self.rho = rho
        self.log_alpha = log_alpha

    @property
    def open_probability(self) -> tf.Tensor:
        """P(z != 0) of each gate: of the weights' shape, or with 1 for the last axis where an input has one gate."""
        return tf.sigmoid(self.log_alpha.value - LOG_SHIFT)

    def parameters(self):
        """(log_alpha, of the gates' shape; loc and scale of `shape`)."""
        return (
            tf.convert_to_tensor(self.log_alpha.value),
            tf.convert_to_tensor(self.loc.value),
            positive(self.rho.value),
        )

    def sample(self, noise):
        """w = z (loc + scale eps), z of uniforms, eps ~ Normal(0, 1)."""
        log_alpha, loc, scale = noise.shared(f"{self.name}/parameters", self.parameters)
        z = _gates(log_alpha, noise.uniform(f"{self.name}/gates", log_alpha.shape))
        return z * (loc + scale * noise.normal(self.name, self.shape))

    def distribution(self):
        return HardConcreteNormal(*self.parameters())


def _gates(log_alpha: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Uniforms on (0, 1) -> gates in [0, 1], many of them exactly 0 or 1."""
    logistic = tf.math.log(uniforms) - tf.math.log1p(-uniforms)
    low, high = STRETCH
    return tf.clip_by_value(tf.sigmoid((logistic + log_alpha) / TEMPERATURE) * (high - low) + low, 0.0, 1.0)


@register
class HardConcrete(Posterior):
    """w = z (loc + scale eps), eps ~ Normal(0, 1), with a random gate z in [0, 1] that is exactly 0 or 1 in many draws.

        z = min(1, max(0, 1.2 s - 0.1)),   s = sigmoid((log u - log(1 - u) + log_alpha) / (2/3)),   u ~ Uniform(0, 1)
        P(z != 0) = sigmoid(log_alpha - (2/3) log(0.1 / 1.1))

    It represents weights, or inputs with all their weights, that are switched off, and how sure that is; it costs three
    numbers a weight, or two and one an input. Draws in prediction have gates of their own. It goes with the prior
    SpikeAndSlab of gates open with probability pi, and the KL, without a draw, is

        sum over gates of KL(Bernoulli(P(z != 0)) || Bernoulli(pi))
        + sum over weights of P(z != 0) KL(Normal(loc, scale^2) || Normal(0, slab scale^2))

    which is the KL of z and, where z is not 0, of the Gaussian behind it, to the prior in which an open gate has the
    values that it has under q. The KL of their product w is no larger, so that the ELBO stays a bound for that prior of
    w; where open gates are 1, which training nearly makes them, it is the spike and slab itself.

    When: sparse nets: which weights or inputs are needed at all; with SpikeAndSlab.
    Cost: 3 numbers a weight, or 2 and one an input; a random number more for each gate.

    Args:
        each: "weight": a gate a weight; "input": a gate an input (a row of a kernel; all axes but the last), shared by
            its weights, so that inputs or, in a hidden layer, the units before it are switched off as a whole. A bias
            has one gate then.
        initial_probability: P(z != 0) where training begins.
        loc_initializer: Keras initializer of the means; None: what the layer suggests.
        initial_rho: where rho begins; scale = softplus(rho).

    Raises:
        InvalidInput: for arguments out of range; from the layer, where the prior is no SpikeAndSlab or the estimator
            needs a factorised Gaussian.

    Example:
        >>> layer = tfbnn.layers.DenseReparameterization(
        ...     1,
        ...     kernel_posterior_fn=tfbnn.posteriors.HardConcrete(each="input"),
        ...     kernel_prior_fn=tfbnn.priors.SpikeAndSlab(probability=0.2),
        ... )
        >>> layer.build((None, 20))
        >>> layer.weight_posteriors[0].open_probability.numpy()  # of each of the 20 inputs

    Reference: Louizos, Welling & Kingma 2018, "Learning Sparse Neural Networks through L0 Regularization", equations
    10-12 and appendix A.
    """

    def __init__(
        self,
        each: str = "weight",
        initial_probability: float = 0.9,
        loc_initializer: Any = None,
        initial_rho: float = INITIAL_RHO,
    ):
        self.each = one_of("each", each, EACH)
        self.initial_probability = check_share("initial_probability", initial_probability)
        self.loc_initializer = initializer_argument("loc_initializer", loc_initializer)
        self.initial_rho = finite_number("initial_rho", initial_rho)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> WeightPosterior:
        """Adds `<name>_loc` and `<name>_rho` of `shape`, and `<name>_log_alpha` of the gates' shape."""
        log_odds = math.log(self.initial_probability) - math.log1p(-self.initial_probability)
        begin = keras.initializers.Constant(log_odds + LOG_SHIFT)
        loc = add_variable(layer, f"{name}_loc", shape, self.loc_initializer or loc_initializer)
        rho = add_variable(layer, f"{name}_rho", shape, keras.initializers.Constant(self.initial_rho))
        log_alpha = add_variable(layer, f"{name}_log_alpha", shape_of_each(self.each, shape), begin)
        return _HardConcreteWeight(name, shape, loc, rho, log_alpha)


class HardConcreteNormal(SpikeAndSlabNormal):
    """z times a Gaussian, z a hard concrete gate.

    Args:
        log_alpha: of each gate, float32; it broadcasts to the tensor's shape.
        loc, scale: of the Gaussian, float32 of the tensor's shape.
    """

    def __init__(self, log_alpha: tf.Tensor, loc: tf.Tensor, scale: tf.Tensor):
        parameters = dict(locals())
        self.log_alpha = log_alpha
        super().__init__(log_alpha - LOG_SHIFT, loc, scale, parameters)

    def _gates(self, n, seed):
        return _gates(self.log_alpha, tf.random.stateless_uniform([n, *self.log_alpha.shape], seed, minval=1e-7))

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return properties_of_one_tensor(("log_alpha", "loc", "scale"))
