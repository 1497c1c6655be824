"""The matrix Gaussian posterior: rows and columns of a kernel are correlated."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfbnn.core.checks import factory_argument, finite_number, invalid
from tfbnn.core.positive import positive
from tfbnn.core.serialization import register
from tfbnn.core.tfp_factory import gaussian_parameters
from tfbnn.posteriors.base import (
    INITIAL_RHO,
    GaussianWeightPosterior,
    Posterior,
    add_variable,
    cholesky_factor,
    initializer_argument,
    properties_of_one_tensor,
)

MAX_SIDE = 4096  # of a kernel: its factor alone is 64 MiB


class _MatrixNormalWeight(GaussianWeightPosterior):
    def __init__(self, name, shape, loc, rows, columns):
        super().__init__(name, shape)
        self.loc = loc
        self.rows = rows
        self.columns = columns

    def parameters(self):
        """(M of `shape`, A [R, R], B [C, C]), A and B lower triangular; R = product of all axes but the last."""
        return tf.convert_to_tensor(self.loc.value), _factor(*self.rows), _factor(*self.columns)

    def transform(self, eps, parameters=None):
        """M + A E B^T."""
        loc, A, B = parameters or self.parameters()
        E = tf.reshape(eps, [A.shape[0], B.shape[0]])
        return loc + tf.reshape(tf.matmul(A, tf.matmul(E, B, transpose_b=True)), self.shape)

    def distribution(self):
        return MatrixNormalTensor(*self.parameters())


def _factor(rho: keras.Variable, correlation: keras.Variable | None) -> tf.Tensor:
    """[n, n]; of one number, where there is nothing to correlate."""
    return tf.linalg.diag(positive(rho.value)) if correlation is None else cholesky_factor(rho.value, correlation.value)


@register
class MatrixNormal(Posterior):
    """q(W) = MN(W; M, A A^T, B B^T), W = M + A E B^T: the covariance of W_ij and W_kl is (A A^T)_ik (B B^T)_jl.

    It represents correlations between inputs and between outputs of a layer, not one for each pair of weights, and
    costs R^2 + C^2 numbers beside the means of a kernel [R, C]; of a kernel of more axes all but the last are rows. The
    KL to a factorised Gaussian prior is exact.

    When: kernels whose inputs, or whose outputs, move together.
    Cost: R^2 + C^2 numbers beside the means of a kernel [R, C].

    Args:
        loc_initializer: Keras initializer of M; None: what the layer suggests.
        initial_rho: where a weight's scale begins, softplus(initial_rho); its root is the scale of A and of B.

    Raises:
        InvalidInput: at build, for a kernel with a side of more than 4,096.

    Example:
        >>> tfbnn.layers.DenseReparameterization(10, kernel_posterior_fn=tfbnn.posteriors.MatrixNormal())

    Reference: Louizos & Welling 2016, "Structured and Efficient Variational Deep Learning with Matrix Gaussian
    Posteriors"; theirs has diagonal A and B.
    """

    def __init__(self, loc_initializer: Any = None, initial_rho: float = INITIAL_RHO):
        self.loc_initializer = initializer_argument("loc_initializer", loc_initializer)
        self.initial_rho = finite_number("initial_rho", initial_rho)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> GaussianWeightPosterior:
        """Adds `<name>_loc`, and `<name>_row_rho`, `<name>_row_correlation`, and the same of columns."""
        sides = {"row": int(np.prod(shape[:-1])), "column": int(shape[-1]) if shape else 1}
        if max(sides.values()) > MAX_SIDE:
            where = factory_argument(layer, name, "posterior")
            raise invalid(where, f"sides of {MAX_SIDE:,} at most", sides, "Use tfbnn.posteriors.MeanField() here.")
        loc = add_variable(layer, f"{name}_loc", shape, self.loc_initializer or loc_initializer)
        side_rho = float(np.log(np.expm1(np.sqrt(np.logaddexp(0.0, self.initial_rho)))))
        begin = keras.initializers.Constant(side_rho)
        factors = [
            (add_variable(layer, f"{name}_{side}_rho", (n,), begin),
             add_variable(layer, f"{name}_{side}_correlation", (n, n), "zeros") if n > 1 else None)
            for side, n in sides.items()
        ]  # fmt: skip
        return _MatrixNormalWeight(name, shape, loc, *factors)


class MatrixNormalTensor(tfd.TransformedDistribution):
    """MN(M, A A^T, B B^T) over a tensor of which all axes but the last are rows.

    Args:
        loc: M, float32 of the tensor's shape.
        row_scale, column_scale: A [R, R] and B [C, C], lower triangular.
    """

    def __init__(self, loc: tf.Tensor, row_scale: tf.Tensor, column_scale: tf.Tensor):
        parameters = dict(locals())
        rows, columns = row_scale.shape[0], column_scale.shape[0]
        self.moments = tf.reshape(loc, [rows, columns]), row_scale, column_scale
        scales = (tf.linalg.LinearOperatorLowerTriangular(part) for part in (row_scale, column_scale))
        matrix = tfd.MatrixNormalLinearOperator(self.moments[0], *scales)
        bijector = tfp.bijectors.Reshape(event_shape_out=loc.shape, event_shape_in=[rows, columns])
        super().__init__(matrix, bijector, parameters=parameters)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return properties_of_one_tensor(("loc", "row_scale", "column_scale"))


@tfd.RegisterKL(MatrixNormalTensor, tfd.Independent)
def _(q: MatrixNormalTensor, p: Any, name: str | None = None) -> tf.Tensor:
    """1/2 sum_ij [((A A^T)_ii (B B^T)_jj + (M - a)_ij^2) / t_ij^2 - 1 + log t_ij^2] - C log det A - R log det B."""
    gaussian = gaussian_parameters(p)
    if gaussian is None:
        raise NotImplementedError(f"No exact KL from a matrix Gaussian to {p}.")
    M, A, B = q.moments
    prior_loc, prior_scale = (tf.reshape(parameter, M.shape) for parameter in gaussian)
    rows, columns = (tf.reduce_sum(tf.square(part), axis=1) for part in (A, B))
    variance = rows[:, None] * columns[None, :]
    quadratic = (variance + tf.square(M - prior_loc)) / tf.square(prior_scale) - 1.0 + 2.0 * tf.math.log(prior_scale)
    R, C = (float(part.shape[0]) for part in (A, B))
    log_det_rows, log_det_columns = (tf.reduce_sum(tf.math.log(tf.linalg.diag_part(part))) for part in (A, B))
    return 0.5 * tf.reduce_sum(quadratic) - C * log_det_rows - R * log_det_columns
