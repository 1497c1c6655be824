"""A prior from one of TFP's factory functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tfbnn.core.checks import factory_argument, invalid
from tfbnn.core.serialization import register
from tfbnn.core.tfp_factory import TFPWeights, free_parameters, takes_tensor
from tfbnn.priors.base import Prior, WeightPrior


class _TFPWeightPrior(WeightPrior):
    def __init__(self, weights: TFPWeights):
        self._weights = weights

    def distribution(self) -> Any:
        return self._weights.distribution()


@register
class TFPFunction(Prior):
    """What `fn(dtype, shape, name, trainable, add_variable_fn)` returns, called once a tensor.

    When: a prior of TFP's, or of your own.
    Cost: that of the function.

    Args:
        fn: TFP's kind of factory. Saving the layer needs a function under
            `keras.saving.register_keras_serializable`.

    Raises:
        InvalidInput: at build, where the prior has a trainable mean and a trainable scale a weight: its optimum is
            the posterior itself, with KL 0, so that nothing would be regularised.

    Reference: Dillon et al. 2017, "TensorFlow Distributions".
    """

    def __init__(self, fn: Callable):
        fn = keras.saving.deserialize_keras_object(fn) if isinstance(fn, dict) else fn
        if not callable(fn) or not takes_tensor(fn):
            raise invalid("prior", "a function of (dtype, shape, name, trainable, add_variable_fn)", fn)
        self.fn = fn

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of one tensor."""
        argument = factory_argument(layer, name, "prior")
        weights = TFPWeights(self.fn, layer, f"{name}_prior", tuple(shape), argument)
        if free_parameters(weights.variables, shape) >= 2:
            raise invalid(
                argument,
                "a prior without a trainable mean and scale a weight (its KL optimum is 0)",
                self.fn,
                "Use tfbnn.priors.Normal(), or make one of the two fixed.",
            )
        return _TFPWeightPrior(weights)
