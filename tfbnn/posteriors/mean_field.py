"""The factorised Gaussian posterior."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import finite_number
from tfbnn.core.positive import positive
from tfbnn.core.serialization import register
from tfbnn.posteriors.base import (
    INITIAL_RHO,
    GaussianWeightPosterior,
    Posterior,
    add_variable,
    initializer_argument,
)

tfd = tfp.distributions


class _MeanFieldWeight(GaussianWeightPosterior):
    def __init__(self, name, shape, loc: keras.Variable, rho: keras.Variable):
        super().__init__(name, shape)
        self.loc = loc
        self.rho = rho

    def parameters(self):
        return tf.convert_to_tensor(self.loc.value), positive(self.rho.value)

    def transform(self, eps, parameters=None):
        loc, scale = parameters or self.parameters()
        return loc + scale * eps

    def distribution(self):
        return tfd.Independent(tfd.Normal(*self.parameters()), reinterpreted_batch_ndims=len(self.shape))

    @property
    def factorised_gaussian(self):
        return self.parameters()


@register
class MeanField(Posterior):
    """q(w) = prod_i Normal(w_i; loc_i, scale_i^2), scale = softplus(rho): no correlations, two numbers a weight.

    When: the first choice: all estimators, any size.
    Cost: 2 numbers a weight.

    Args:
        loc_initializer: Keras initializer of the means; None: what the layer suggests (Glorot for kernels, zeros
            for biases).
        initial_rho: where rho begins; softplus(-4) = 0.018.

    Example:
        >>> tfbnn.layers.DenseReparameterization(10, kernel_posterior_fn=tfbnn.posteriors.MeanField(initial_rho=-3.0))

    Reference: Graves 2011, "Practical Variational Inference for Neural Networks".
    """

    def __init__(self, loc_initializer: Any = None, initial_rho: float = INITIAL_RHO):
        self.loc_initializer = initializer_argument("loc_initializer", loc_initializer)
        self.initial_rho = finite_number("initial_rho", initial_rho)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> GaussianWeightPosterior:
        """Adds `<name>_loc` and `<name>_rho`, each of `shape`."""
        loc = add_variable(layer, f"{name}_loc", shape, self.loc_initializer or loc_initializer)
        rho = add_variable(layer, f"{name}_rho", shape, keras.initializers.Constant(self.initial_rho))
        return _MeanFieldWeight(name, shape, loc, rho)
