"""A factorised Gaussian some of whose weights are removed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import factory_argument, invalid
from tfbnn.core.serialization import register
from tfbnn.posteriors.base import GaussianWeightPosterior, Posterior, WeightPosterior

tfd = tfp.distributions


class _PrunedWeight(GaussianWeightPosterior):
    def __init__(self, base: WeightPosterior, mask: keras.Variable):
        super().__init__(base.name, base.shape)
        self.base = base
        self.mask = mask

    @property
    def kept(self):
        return tf.convert_to_tensor(self.mask.value)

    def keep(self, mask: np.ndarray) -> None:
        """Says which weights are left, bool of `shape`."""
        self.mask.assign(mask)

    def _before(self) -> tuple[tf.Tensor, tf.Tensor]:
        gaussian = self.base.factorised_gaussian
        assert gaussian is not None  # `Pruned.build` refuses others
        return gaussian

    def parameters(self):
        loc, scale = self._before()
        return tf.where(self.kept, loc, 0.0), tf.where(self.kept, scale, 0.0)

    def transform(self, eps, parameters=None):
        loc, scale = parameters or self.parameters()
        return loc + scale * eps

    def distribution(self):
        loc, scale = self._before()
        left = tfd.Masked(tfd.Normal(tf.where(self.kept, loc, 0.0), scale), self.kept)
        return tfd.Independent(left, reinterpreted_batch_ndims=len(self.shape))

    @property
    def factorised_gaussian(self):
        return self.parameters()


@register
class Pruned(Posterior):
    """q(w) of another family, where a mask says which weights are left; the others are exactly 0 in every draw.

    A removed weight is no longer uncertain: it is 0 under q and under p, and the KL sums over what is left alone.
    (Under the prior as it was, a certain weight would have an infinite KL.) Nothing is removed at first;
    `tfbnn.pruning` sets the mask, which is saved with the layer. Training goes on with the weights that are left.

    When: after training: `tfbnn.pruning` makes it.
    Cost: that of the family, and a mask.

    Args:
        posterior: a `tfbnn.posteriors` object whose weights are independent Gaussians, as MeanField.

    Raises:
        InvalidInput: for another argument; from the layer, where the weights are no independent Gaussians.

    Example:
        >>> tfbnn.posteriors.Pruned(tfbnn.posteriors.MeanField())

    Reference: Graves 2011, "Practical Variational Inference for Neural Networks", section 6.
    """

    def __init__(self, posterior: Any):
        self.posterior = keras.saving.deserialize_keras_object(posterior) if isinstance(posterior, dict) else posterior
        if not isinstance(self.posterior, Posterior):
            raise invalid("posterior", "an object of tfbnn.posteriors", posterior)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> WeightPosterior:
        """Adds the variables of the posterior, and `<name>_kept` of `shape`, which is not trained."""
        base = self.posterior.build(layer, name, shape, loc_initializer)
        if base.factorised_gaussian is None or base.is_point:
            where = factory_argument(layer, name, "posterior")
            raise invalid(where, "a factorised Gaussian posterior (MeanField), to remove weights of", self.posterior)
        mask = layer.add_weight(name=f"{name}_kept", shape=shape, initializer="ones", trainable=False, dtype="bool")
        return _PrunedWeight(base, mask)
