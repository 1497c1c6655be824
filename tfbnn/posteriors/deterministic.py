"""The point posterior."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.serialization import register
from tfbnn.posteriors.base import Posterior, WeightPosterior, add_variable, initializer_argument

tfd = tfp.distributions


class _PointWeight(WeightPosterior):
    is_point = True

    def __init__(self, name, shape, loc: keras.Variable):
        super().__init__(name, shape)
        self.loc = loc

    def distribution(self):
        point = tfd.Deterministic(tf.convert_to_tensor(self.loc.value))
        return tfd.Independent(point, reinterpreted_batch_ndims=len(self.shape))

    def sample(self, noise):
        return tf.convert_to_tensor(self.loc.value)

    @property
    def factorised_gaussian(self):
        loc = tf.convert_to_tensor(self.loc.value)
        return loc, tf.zeros_like(loc)


@register
class Deterministic(Posterior):
    """q(w) = one value a weight, as in a plain network: no KL; with a prior, -log p(w) is a penalty (MAP).

    When: layers that shall stay plain; MAP, Laplace, ensembles.
    Cost: 1 number a weight.

    Args:
        loc_initializer: Keras initializer of the values; None: what the layer suggests.

    Reference: MacKay 1992 (MAP as the mode that Laplace expands about).
    """

    def __init__(self, loc_initializer: Any = None):
        self.loc_initializer = initializer_argument("loc_initializer", loc_initializer)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> WeightPosterior:
        """Adds `<name>_loc` of `shape`."""
        return _PointWeight(
            name, shape, add_variable(layer, f"{name}_loc", shape, self.loc_initializer or loc_initializer)
        )
