"""A Gaussian prior about a draw of itself: what makes the members of an ensemble differ as the prior does."""

from __future__ import annotations

import zlib
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import finite_number, positive_number
from tfbnn.core.serialization import register
from tfbnn.priors.base import Prior, WeightPrior

tfd = tfp.distributions


class _AnchoredWeightPrior(WeightPrior):
    def __init__(self, anchor: keras.Variable, scale: float):
        self.anchor = anchor
        self.scale = scale

    def distribution(self) -> Any:
        anchor = tf.convert_to_tensor(self.anchor.value)
        normal = tfd.Normal(anchor, tf.fill(anchor.shape, self.scale))
        return tfd.Independent(normal, reinterpreted_batch_ndims=len(anchor.shape))


@register
class AnchoredNormal(Prior):
    """w ~ Normal(a, scale^2), where the anchor a ~ Normal(loc, scale^2) is drawn once, when the layer is built.

    For the points of an ensemble (`DeepEnsemble(of="anchored")`): far from the data each member falls back to its own
    anchor, so that the members spread as the prior does. The anchor is a function of the layer's `seed`.

    When: ensembles that shall spread as the prior does.
    Cost: 1 number a weight that is not trained.

    Args:
        loc: mean of every anchor.
        scale: standard deviation of every weight about its anchor, and of the anchors, above 0.

    Example:
        >>> tfbnn.layers.DenseFlipout(10, kernel_prior_fn=tfbnn.priors.AnchoredNormal(scale=0.5))

    Reference: Pearce, Leibfried & Brintrup 2020, "Uncertainty in neural networks: approximately Bayesian ensembling".
    """

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        self.loc = finite_number("loc", loc)
        self.scale = positive_number("scale", scale)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """Adds `<name>_anchor` of `shape`, which is not trained."""
        seed = getattr(layer, "seed", None)
        own = None if seed is None else (seed + zlib.crc32(f"{name}/anchor".encode())) % 2**31
        initializer = keras.initializers.RandomNormal(self.loc, self.scale, seed=own)
        anchor = layer.add_weight(
            name=f"{name}_anchor",
            shape=shape,
            initializer=initializer,
            trainable=False,
            dtype="float32",
            autocast=False,
        )
        return _AnchoredWeightPrior(anchor, self.scale)
