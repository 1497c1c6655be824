"""The Gaussian posterior whose covariance is a diagonal plus a few directions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfbnn.core.checks import factory_argument, finite_number, invalid, positive_integer, positive_number
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


class _LowRankWeight(WeightPosterior):
    def __init__(self, name, shape, loc, rho, directions):
        super().__init__(name, shape)
        self.loc = loc
        self.rho = rho
        self.directions = directions

    def parameters(self):
        """(loc, scale) of `shape`, and V [n, rank]."""
        return (
            tf.convert_to_tensor(self.loc.value),
            positive(self.rho.value),
            tf.convert_to_tensor(self.directions.value),
        )

    def sample(self, noise):
        """w = loc + scale eps + V z, eps and z ~ Normal(0, 1)."""
        loc, scale, V = noise.shared(f"{self.name}/parameters", self.parameters)
        z = noise.normal(f"{self.name}/directions", [V.shape[1]])
        return loc + scale * noise.normal(self.name, self.shape) + tf.reshape(tf.linalg.matvec(V, z), self.shape)

    def distribution(self):
        return LowRankNormal(*self.parameters())


@register
class LowRank(Posterior):
    """q(w) = Normal(w; loc, diag(scale^2) + V V^T) over all n entries of a tensor, V of `rank` columns.

    It represents correlations along a few directions, and costs rank + 2 numbers a weight. The KL to a factorised
    Gaussian prior is exact.

    When: correlations along a few directions, at any size.
    Cost: rank + 2 numbers a weight.

    Args:
        rank: columns of V, less than n.
        loc_initializer: Keras initializer of the means; None: what the layer suggests.
        initial_rho: where rho begins; scale = softplus(rho).
        initial_direction: standard deviation of the entries of V at first, above 0: at 0 they had no gradient.

    Raises:
        InvalidInput: for numbers out of range, and at build for a rank of n or more.

    Example:
        >>> tfbnn.layers.DenseReparameterization(10, kernel_posterior_fn=tfbnn.posteriors.LowRank(rank=3))

    Reference: Ong, Nott & Smith 2018, "Gaussian variational approximation with a factor covariance structure"; Tomczak,
    Swaroop & Turner 2020, "Efficient Low Rank Gaussian Variational Inference for Neural Networks".
    """

    def __init__(
        self,
        rank: int = 2,
        loc_initializer: Any = None,
        initial_rho: float = INITIAL_RHO,
        initial_direction: float = 0.01,
    ):
        self.rank = positive_integer("rank", rank)
        self.loc_initializer = initializer_argument("loc_initializer", loc_initializer)
        self.initial_rho = finite_number("initial_rho", initial_rho)
        self.initial_direction = positive_number("initial_direction", initial_direction)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> WeightPosterior:
        """Adds `<name>_loc` and `<name>_rho` of `shape`, and `<name>_directions` [n, rank]."""
        n = int(np.prod(shape))
        if self.rank >= n:
            where = factory_argument(layer, name, "posterior")
            raise invalid(
                where, f"a rank below the {n} weights of {name}", self.rank, "Use FullCovariance or MeanField."
            )
        loc = add_variable(layer, f"{name}_loc", shape, self.loc_initializer or loc_initializer)
        rho = add_variable(layer, f"{name}_rho", shape, keras.initializers.Constant(self.initial_rho))
        spread = keras.initializers.RandomNormal(stddev=self.initial_direction, seed=getattr(layer, "seed", None))
        return _LowRankWeight(name, shape, loc, rho, add_variable(layer, f"{name}_directions", (n, self.rank), spread))


class LowRankNormal(tfd.TransformedDistribution):
    """N(m, diag(s^2) + V V^T) over the flattened entries of a tensor.

    Args:
        loc: m, float32 of the tensor's shape.
        scale: s, of the same shape.
        directions: V, [n, rank].
    """

    def __init__(self, loc: tf.Tensor, scale: tf.Tensor, directions: tf.Tensor):
        parameters = dict(locals())
        self.moments = tf.reshape(loc, [-1]), tf.reshape(scale, [-1]), directions
        flat = tfd.MultivariateNormalDiagPlusLowRankCovariance(
            self.moments[0], cov_diag_factor=tf.square(self.moments[1]), cov_perturb_factor=directions
        )
        bijector = tfp.bijectors.Reshape(event_shape_out=loc.shape, event_shape_in=[loc.shape.num_elements()])
        super().__init__(flat, bijector, parameters=parameters)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return properties_of_one_tensor(("loc", "scale", "directions"))


@tfd.RegisterKL(LowRankNormal, tfd.Independent)
def _(q: LowRankNormal, p: Any, name: str | None = None) -> tf.Tensor:
    """1/2 [sum (s^2 + |V_i|^2 + (m - a)^2) / t^2 - n - log det(diag(s^2) + V V^T)] + sum log t, p = N(a, diag(t^2)).

    log det(diag(s^2) + V V^T) = sum log s^2 + log det(I + V^T diag(s^-2) V).
    """
    gaussian = gaussian_parameters(p)
    if gaussian is None:
        raise NotImplementedError(f"No exact KL from a low-rank covariance to {p}.")
    prior_loc, prior_scale = (tf.reshape(parameter, [-1]) for parameter in gaussian)
    loc, scale, V = q.moments
    variance = tf.square(scale) + tf.reduce_sum(tf.square(V), axis=1)
    quadratic = tf.reduce_sum((variance + tf.square(loc - prior_loc)) / tf.square(prior_scale) - 1.0)
    whitened = V / scale[:, None]
    inner = tf.eye(V.shape[1]) + tf.matmul(whitened, whitened, transpose_a=True)
    half_log_det = tf.reduce_sum(tf.math.log(scale)) + 0.5 * tf.linalg.logdet(inner)
    return 0.5 * quadratic - half_log_det + tf.reduce_sum(tf.math.log(prior_scale))
