"""The Gaussian posterior whose weights are correlated within each unit."""

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

MAX_NUMBERS = 2**26  # of all factors: 256 MiB, which an optimizer holds three to four times


class _UnitCovarianceWeight(CholeskyWeightPosterior):
    """L [U, n, n]: n weights of each of U units, which are the last axis."""

    def transform(self, eps, parameters=None):
        """w_u = m_u + L_u eps_u."""
        loc, L = parameters or self.parameters()
        eps = tf.reshape(eps, [L.shape[1], L.shape[0]])
        return loc + tf.reshape(tf.einsum("uij,ju->iu", L, eps), self.shape)

    def distribution(self):
        return UnitCovarianceNormal(*self.parameters())


@register
class UnitCovariance(Posterior):
    """q(W) = prod_u Normal(w_u; m_u, L_u L_u^T): all n weights of a unit are correlated, units are independent.

    It represents every correlation of what one output is made of, and costs n^2 numbers a unit; the last axis of a
    kernel counts units. The KL to a factorised Gaussian prior is exact.

    When: last layers: everything that one output is made of.
    Cost: n^2 + 2 n numbers for each unit of n weights.

    Args:
        loc_initializer: Keras initializer of the means; None: what the layer suggests.
        initial_rho: where rho begins, of the diagonals softplus(rho) of L_u; the rest of L_u begins at 0.

    Raises:
        InvalidInput: at build, where U n^2 is more than 67,108,864.

    Example:
        >>> tfbnn.layers.DenseVariational(10, make_posterior_fn=tfbnn.posteriors.UnitCovariance())

    Reference: Harrison, Willes & Snoek 2024, "Variational Bayesian Last Layers", section 3 (dense covariances).
    """

    def __init__(self, loc_initializer: Any = None, initial_rho: float = INITIAL_RHO):
        self.loc_initializer = initializer_argument("loc_initializer", loc_initializer)
        self.initial_rho = finite_number("initial_rho", initial_rho)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> GaussianWeightPosterior:
        """Adds `<name>_loc` of `shape`, `<name>_rho` [U, n] and `<name>_correlation` [U, n, n]."""
        n, units = int(np.prod(shape[:-1])), int(shape[-1]) if shape else 1
        if units * n**2 > MAX_NUMBERS:
            where = factory_argument(layer, name, "posterior")
            told = f"{units:,} units of {n:,} weights, {units * n**2:,} numbers"
            raise invalid(where, f"{MAX_NUMBERS:,} numbers at most", told, "Use tfbnn.posteriors.MeanField() here.")
        loc = add_variable(layer, f"{name}_loc", shape, self.loc_initializer or loc_initializer)
        rho = add_variable(layer, f"{name}_rho", (units, n), keras.initializers.Constant(self.initial_rho))
        correlation = add_variable(layer, f"{name}_correlation", (units, n, n), "zeros")
        return _UnitCovarianceWeight(name, shape, loc, rho, correlation)


class UnitCovarianceNormal(tfd.TransformedDistribution):
    """prod_u N(m_u, L_u L_u^T) over a tensor whose last axis counts units.

    Args:
        loc: M, float32 of the tensor's shape.
        scale_tril: L [U, n, n].
    """

    def __init__(self, loc: tf.Tensor, scale_tril: tf.Tensor):
        parameters = dict(locals())
        units, n = scale_tril.shape[0], scale_tril.shape[1]
        self.moments = tf.transpose(tf.reshape(loc, [n, units])), scale_tril
        of_units = tfd.Independent(tfd.MultivariateNormalTriL(*self.moments), reinterpreted_batch_ndims=1)
        reshape = tfp.bijectors.Reshape(event_shape_out=loc.shape, event_shape_in=[n, units])
        bijector = tfp.bijectors.Chain([reshape, tfp.bijectors.Transpose(perm=[1, 0])])
        super().__init__(of_units, bijector, parameters=parameters)

    def _stddev(self):
        stddev = tf.sqrt(tf.reduce_sum(tf.square(self.moments[1]), axis=-1))
        return tf.reshape(tf.transpose(stddev), self.event_shape)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return properties_of_one_tensor(("loc", "scale_tril"))


@tfd.RegisterKL(UnitCovarianceNormal, tfd.Independent)
def _(q: UnitCovarianceNormal, p: Any, name: str | None = None) -> tf.Tensor:
    """1/2 sum_ui [((L_u L_u^T)_ii + (m_ui - a_ui)^2) / s_ui^2 - 1 + log s_ui^2] - sum_ui log (L_u)_ii."""
    gaussian = gaussian_parameters(p)
    if gaussian is None:
        raise NotImplementedError(f"No exact KL from units' covariances to {p}.")
    m, L = q.moments
    loc, scale = (tf.transpose(tf.reshape(parameter, m.shape[::-1])) for parameter in gaussian)
    variance = tf.reduce_sum(tf.square(L), axis=-1)
    quadratic = (variance + tf.square(m - loc)) / tf.square(scale) - 1.0 + 2.0 * tf.math.log(scale)
    return 0.5 * tf.reduce_sum(quadratic) - tf.reduce_sum(tf.math.log(tf.linalg.diag_part(L)))
