"""A posterior from one of TFP's factory functions."""

from __future__ import annotations

from collections.abc import Callable

import keras

from tfbnn.core.checks import factory_argument, invalid
from tfbnn.core.serialization import register
from tfbnn.core.tfp_factory import TFPWeights, gaussian_parameters, is_point, takes_tensor
from tfbnn.posteriors.base import GaussianWeightPosterior, Posterior, WeightPosterior


class _AnyWeight(WeightPosterior):
    """Any distribution: sampled by seed."""

    def __init__(self, name, shape, weights: TFPWeights):
        super().__init__(name, shape)
        self._weights = weights
        self.is_point = is_point(weights.distribution())

    def distribution(self):
        return self._weights.distribution()

    def sample(self, noise):
        return self.distribution().sample() if self.is_point else noise.sample(self.name, self.distribution())

    @property
    def factorised_gaussian(self):
        return gaussian_parameters(self.distribution())


class _GaussianWeight(GaussianWeightPosterior):
    """A distribution found to be a factorised Gaussian: sampled by noise, as MeanField is."""

    def __init__(self, name, shape, weights: TFPWeights):
        super().__init__(name, shape)
        self._weights = weights

    def distribution(self):
        return self._weights.distribution()

    def parameters(self):
        return gaussian_parameters(self.distribution())

    def transform(self, eps, parameters=None):
        loc, scale = parameters or self.parameters()
        return loc + scale * eps

    @property
    def factorised_gaussian(self):
        return self.parameters()


@register
class TFPFunction(Posterior):
    """What `fn(dtype, shape, name, trainable, add_variable_fn)` returns, called once a tensor.

    When: a family of TFP's, or of your own.
    Cost: that of the function; a Monte Carlo KL where TFP knows none.

    Args:
        fn: TFP's kind of factory. Saving the layer needs a function under
            `keras.saving.register_keras_serializable`.

    Reference: Dillon et al. 2017, "TensorFlow Distributions".
    """

    def __init__(self, fn: Callable):
        fn = keras.saving.deserialize_keras_object(fn) if isinstance(fn, dict) else fn
        if not callable(fn) or not takes_tensor(fn):
            raise invalid("posterior", "a function of (dtype, shape, name, trainable, add_variable_fn)", fn)
        self.fn = fn

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> WeightPosterior:
        """Calls the factory; `loc_initializer` is not used, the factory has its own."""
        argument = factory_argument(layer, name, "posterior")
        weights = TFPWeights(self.fn, layer, f"{name}_posterior", tuple(shape), argument)
        distribution = weights.distribution()
        gaussian = gaussian_parameters(distribution) is not None and not is_point(distribution)
        return (_GaussianWeight if gaussian else _AnyWeight)(name, shape, weights)
