"""The radial posterior: the size of the whole perturbation is that of one Gaussian number."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfbnn.core.checks import finite_number
from tfbnn.core.positive import positive
from tfbnn.core.serialization import register
from tfbnn.core.tfp_factory import gaussian_parameters
from tfbnn.posteriors.base import (
    INITIAL_RHO,
    Posterior,
    WeightPosterior,
    add_variable,
    initializer_argument,
    properties_of_one_tensor,
)

TINY = 1e-30


class _RadialWeight(WeightPosterior):
    def __init__(self, name, shape, loc, rho):
        super().__init__(name, shape)
        self.loc = loc
        self.rho = rho

    def parameters(self):
        """(loc, scale), each of `shape`."""
        return tf.convert_to_tensor(self.loc.value), positive(self.rho.value)

    def sample(self, noise):
        """w = loc + scale eps / |eps| r, eps ~ Normal(0, I), r ~ Normal(0, 1)."""
        loc, scale = noise.shared(f"{self.name}/parameters", self.parameters)
        direction = _direction(noise.normal(self.name, self.shape), len(self.shape))
        return loc + scale * direction * noise.normal(f"{self.name}/radius", [])

    def distribution(self):
        return RadialNormal(*self.parameters())


def _direction(eps: tf.Tensor, rank: int) -> tf.Tensor:
    """eps / |eps| over the last `rank` axes."""
    squares = tf.reduce_sum(tf.square(eps), axis=list(range(-rank, 0)), keepdims=True)
    return eps * tf.math.rsqrt(tf.maximum(squares, TINY))


@register
class Radial(Posterior):
    """w = loc + scale eps / |eps| r, eps ~ Normal(0, I) over a tensor, r ~ Normal(0, 1).

    In many dimensions nearly all draws of a Gaussian lie far from its mean, at sqrt(n) scales; here they lie as in one
    dimension, and gradients are less noisy. It represents what MeanField does with other tails, and costs the same. The
    KL to a factorised Gaussian prior is exact. Estimators that need a factorised Gaussian refuse it.

    When: large layers that MeanField's noise keeps from learning.
    Cost: 2 numbers a weight.

    Args:
        loc_initializer: Keras initializer of the means; None: what the layer suggests.
        initial_rho: where rho begins; scale = softplus(rho). A weight's own standard deviation is scale / sqrt(n).

    Example:
        >>> tfbnn.layers.DenseReparameterization(10, kernel_posterior_fn=tfbnn.posteriors.Radial())

    Reference: Farquhar, Osborne & Gal 2020, "Radial Bayesian Neural Networks", equations 4 and 8.
    """

    def __init__(self, loc_initializer: Any = None, initial_rho: float = INITIAL_RHO):
        self.loc_initializer = initializer_argument("loc_initializer", loc_initializer)
        self.initial_rho = finite_number("initial_rho", initial_rho)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> WeightPosterior:
        """Adds `<name>_loc` and `<name>_rho`, each of `shape`."""
        loc = add_variable(layer, f"{name}_loc", shape, self.loc_initializer or loc_initializer)
        rho = add_variable(layer, f"{name}_rho", shape, keras.initializers.Constant(self.initial_rho))
        return _RadialWeight(name, shape, loc, rho)


class RadialNormal(tfd.Distribution):
    """The law of m + s eps / |eps| r over tensors of n entries.

        log q(w) = log(2 phi(r)) - log(2 pi^(n/2) / Gamma(n/2)) - (n - 1) log r - sum log s,   r = |(w - m) / s|

    Args:
        loc: m, float32 of the tensor's shape.
        scale: s, of the same shape.
    """

    def __init__(self, loc: tf.Tensor, scale: tf.Tensor):
        parameters = dict(locals())
        self.moments = loc, scale
        self.size = int(np.prod(loc.shape))
        super().__init__(dtype=loc.dtype, reparameterization_type=tfd.FULLY_REPARAMETERIZED, validate_args=False,
                         allow_nan_stats=True, parameters=parameters)  # fmt: skip

    def _event_shape(self):
        return self.moments[0].shape

    def _batch_shape(self):
        return tf.TensorShape([])

    def _sample_n(self, n, seed=None):
        of_direction, of_radius = tfp.random.split_seed(seed, n=2)
        loc, scale = self.moments
        eps = tf.random.stateless_normal([n, *loc.shape], of_direction)
        r = tf.random.stateless_normal([n, *[1] * len(loc.shape)], of_radius)
        return loc + scale * _direction(eps, len(loc.shape)) * r

    def _log_prob(self, w):
        loc, scale = self.moments
        axes = list(range(-len(loc.shape), 0))
        r = tf.sqrt(tf.maximum(tf.reduce_sum(tf.square((w - loc) / scale), axis=axes), TINY))
        half_normal = 0.5 * math.log(2.0 / math.pi) - 0.5 * tf.square(r)
        return half_normal - self._log_sphere() - (self.size - 1.0) * tf.math.log(r) - tf.reduce_sum(tf.math.log(scale))

    def _log_sphere(self) -> float:
        """log of the surface 2 pi^(n/2) / Gamma(n/2)."""
        return math.log(2.0) + 0.5 * self.size * math.log(math.pi) - math.lgamma(0.5 * self.size)

    def _mean(self):
        return tf.identity(self.moments[0])

    def _variance(self):
        return tf.square(self.moments[1]) / self.size  # E[(eps_i / |eps| r)^2] = 1 / n

    def _entropy(self):
        mean_log_r = -0.5 * (np.euler_gamma + math.log(2.0))
        half_normal = 0.5 * math.log(2.0 / math.pi) - 0.5
        constant = half_normal - self._log_sphere() - (self.size - 1.0) * mean_log_r
        return tf.reduce_sum(tf.math.log(self.moments[1])) - constant

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return properties_of_one_tensor(("loc", "scale"))


@tfd.RegisterKL(RadialNormal, tfd.Independent)
def _(q: RadialNormal, p: Any, name: str | None = None) -> tf.Tensor:
    """-H(q) + 1/2 sum [(s^2 / n + (m - a)^2) / t^2 + log(2 pi t^2)], as E[(eps_i / |eps| r)^2] = 1 / n."""
    gaussian = gaussian_parameters(p)
    if gaussian is None:
        raise NotImplementedError(f"No exact KL from a radial posterior to {p}.")
    loc, scale = q.moments
    prior_loc, prior_scale = (tf.reshape(parameter, loc.shape) for parameter in gaussian)
    spread = (tf.square(scale) / q.size + tf.square(loc - prior_loc)) / tf.square(prior_scale)
    cross_entropy = 0.5 * tf.reduce_sum(spread + math.log(2.0 * math.pi) + 2.0 * tf.math.log(prior_scale))
    return cross_entropy - q.entropy()
