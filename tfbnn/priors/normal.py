"""The factorised Gaussian prior."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.arrays import array, check_broadcasts, is_array
from tfbnn.core.checks import factory_argument, finite_number, invalid, positive_number
from tfbnn.core.serialization import register
from tfbnn.priors.base import Prior, WeightPrior

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class _NormalWeightPrior(WeightPrior):
    loc: float | np.ndarray
    scale: float | np.ndarray
    shape: tuple[int, ...]

    def distribution(self) -> Any:
        loc, scale = (tf.broadcast_to(tf.constant(part, tf.float32), self.shape) for part in (self.loc, self.scale))
        return tfd.Independent(tfd.Normal(loc, scale), reinterpreted_batch_ndims=len(self.shape))


@register
class Normal(Prior):
    """w_i ~ Normal(loc_i, scale_i^2), each weight alone.

    With arrays, mean and scale vary by position: what is known before the data, for example which inputs matter, or
    yesterday's posterior (`tfbnn.training.posterior_as_prior`). The arrays are part of the config and are saved with
    the layer.

    When: the first choice; with means, what is known of each weight.
    Cost: no numbers; exact KL to Gaussians.

    Args:
        loc: mean of every weight; or an array that broadcasts to the tensor's shape (a kernel is [D, U]), nested
            lists, or the path of a .npy file, or of a .csv file without a header.
        scale: standard deviation of every weight, above 0; or an array, as `loc`.

    Raises:
        InvalidInput: where `scale` is not above 0 or `loc` is not finite; where a file cannot be read; from the layer,
            where an array does not broadcast to the tensor's shape.

    Example:
        >>> tfbnn.layers.DenseFlipout(10, kernel_prior_fn=tfbnn.priors.Normal(scale=0.5))
        >>> tfbnn.layers.DenseFlipout(1, kernel_prior_fn=tfbnn.priors.Normal(loc=[[1.0], [0.0]], scale=[[0.1], [1.0]]))

    Reference: Neal 1996, "Bayesian Learning for Neural Networks".
    """

    def __init__(self, loc: Any = 0.0, scale: Any = 1.0):
        self.loc = array("loc", loc) if is_array(loc) else finite_number("loc", loc)
        self.scale = _positive_array(scale) if is_array(scale) else positive_number("scale", scale)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of one tensor; it has no variables."""
        for part in (self.loc, self.scale):
            check_broadcasts(factory_argument(layer, name, "prior"), part, shape)
        return _NormalWeightPrior(self.loc, self.scale, tuple(shape))


def _positive_array(scale: Any) -> np.ndarray:
    found = array("scale", scale)
    if not (found > 0).all():
        raise invalid("scale", "numbers above 0", scale)
    return found
