"""The Gaussian posterior with all correlations within one tensor."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfbnn.core.checks import factory_argument, finite_number, invalid
from tfbnn.core.serialization import register
from tfbnn.core.tfp_factory import gaussian_parameters
from tfbnn.posteriors.base import (
    INITIAL_RHO,
    CholeskyWeightPosterior,
    GaussianWeightPosterior,
    Posterior,
    add_variable,
    initializer_argument,
    properties_of_one_tensor,
)

MAX_WEIGHTS = 8192  # 4 x 8192^2 bytes = 256 MiB, which an optimizer holds three to four times


class _FullCovarianceWeight(CholeskyWeightPosterior):
    """L [n, n], over all entries of the tensor."""

    def transform(self, eps, parameters=None):
        loc, scale_tril = parameters or self.parameters()
        return loc + tf.reshape(tf.linalg.matvec(scale_tril, tf.reshape(eps, [-1])), self.shape)

    def distribution(self):
        return FullCovarianceNormal(*self.parameters())


@register
class FullCovariance(Posterior):
    """q(w) = Normal(w; loc, L L^T) over all n entries of a tensor: every correlation, n^2 numbers.

    L = diag(softplus(rho)) (I + T), T strictly lower triangular, so that the scales keep their meaning while
    correlations are learned. Shown to a layer with one posterior over kernel and bias (DenseVariational), it holds
    the exact posterior of Bayesian linear regression.

    When: few weights that move together: last layers, linear models.
    Cost: n^2 + 2 n numbers for n weights, 8,192 at most; n^2 operations a draw.

    Args:
        loc_initializer: Keras initializer of the means; None: what the layer suggests.
        initial_rho: where rho begins; softplus(-4) = 0.018.

    Raises:
        InvalidInput: at build, for more than 8,192 weights in a tensor.

    Reference: Barber & Bishop 1998, "Ensemble Learning in Bayesian Neural Networks".
    """

    def __init__(self, loc_initializer: Any = None, initial_rho: float = INITIAL_RHO):
        self.loc_initializer = initializer_argument("loc_initializer", loc_initializer)
        self.initial_rho = finite_number("initial_rho", initial_rho)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> GaussianWeightPosterior:
        """Adds `<name>_loc` of `shape`, `<name>_rho` [n] and `<name>_correlation` [n, n]."""
        n = int(np.prod(shape))
        _check_size(factory_argument(layer, name, "posterior"), n)
        loc = add_variable(layer, f"{name}_loc", shape, self.loc_initializer or loc_initializer)
        rho = add_variable(layer, f"{name}_rho", (n,), keras.initializers.Constant(self.initial_rho))
        correlation = add_variable(layer, f"{name}_correlation", (n, n), "zeros")
        return _FullCovarianceWeight(name, shape, loc, rho, correlation)


def _check_size(where: str, n: int) -> None:
    if n > MAX_WEIGHTS:
        raise invalid(
            where,
            f"a posterior that fits in memory: a full covariance is possible for up to {MAX_WEIGHTS:,} weights",
            f"FullCovariance over {n:,} weights, whose covariance alone takes {4 * n**2 / 2**30:,.1f} GiB",
            "Use tfbnn.posteriors.MeanField() here.",
        )


def kl_full_covariance_to_factorised(
    loc: tf.Tensor, scale_tril: tf.Tensor, prior_loc: tf.Tensor, prior_scale: tf.Tensor
) -> tf.Tensor:
    """KL( N(m, L L^T) || N(a, diag(s^2)) ) = 1/2 [ ||L / s||_F^2 + ||(m - a) / s||^2 - n ] + sum log s - sum log L_ii.

    Args:
        loc: m, [n].
        scale_tril: L, lower triangular [n, n].
        prior_loc: a, [n].
        prior_scale: s, [n].

    Returns:
        Scalar, nats.
    """
    whitened = scale_tril / prior_scale[:, None]
    shift = (loc - prior_loc) / prior_scale
    n = tf.cast(tf.size(loc), loc.dtype)
    quadratic = tf.reduce_sum(tf.square(whitened)) + tf.reduce_sum(tf.square(shift)) - n
    log_volumes = tf.reduce_sum(tf.math.log(prior_scale)) - tf.reduce_sum(tf.math.log(tf.linalg.diag_part(scale_tril)))
    return 0.5 * quadratic + log_volumes


class FullCovarianceNormal(tfd.TransformedDistribution):
    """N(m, L L^T) over the flattened entries of a tensor.

    Args:
        loc: m, float32 of the tensor's shape.
        scale_tril: L, lower triangular [n, n], n the number of entries.
    """

    def __init__(self, loc: tf.Tensor, scale_tril: tf.Tensor):
        parameters = dict(locals())
        flat = tfd.MultivariateNormalTriL(tf.reshape(loc, [-1]), scale_tril)
        bijector = tfp.bijectors.Reshape(event_shape_out=loc.shape, event_shape_in=[loc.shape.num_elements()])
        super().__init__(flat, bijector, parameters=parameters)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return properties_of_one_tensor(("loc", "scale_tril"))


@tfd.RegisterKL(FullCovarianceNormal, tfd.Independent)
def _(q: FullCovarianceNormal, p: Any, name: str | None = None) -> tf.Tensor:
    gaussian = gaussian_parameters(p)
    if gaussian is None:
        raise NotImplementedError(f"No exact KL from a full covariance to {p}.")
    prior_loc, prior_scale = (tf.reshape(parameter, [-1]) for parameter in gaussian)
    flat = q.distribution
    return kl_full_covariance_to_factorised(flat.loc, flat.scale.to_dense(), prior_loc, prior_scale)
