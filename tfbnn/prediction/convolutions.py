"""Convolutions of all draws of a block in one operation: the draws stand side by side in the channels.

S draws of a kernel [h, w, C, F] are one kernel of S F filters where the inputs are the same for all draws, and one of S
groups where each draw has its own: x [B, P, Q, S C] -> [B, P, Q, S F]. Pooling and activations work on any number of
channels. No activation is moved until they are small, behind the last convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.traversal import sublayers
from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.convolution import Conv
from tfbnn.prediction.chain import chain_of, run

ELEMENTWISE = tuple(getattr(keras.activations, name) for name in (
    "elu", "gelu", "leaky_relu", "linear", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "tanh",
))  # fmt: skip
OF_EACH_CHANNEL = (
    keras.layers.AveragePooling2D, keras.layers.Cropping2D, keras.layers.Dropout, keras.layers.ELU,
    keras.layers.InputLayer, keras.layers.LeakyReLU, keras.layers.MaxPooling2D, keras.layers.ReLU,
    keras.layers.SpatialDropout2D, keras.layers.UpSampling2D, keras.layers.ZeroPadding2D,
)  # fmt: skip


class ConvolutionalHead:
    """The convolutions with drawn weights at the beginning of a chain, run for many draws at once.

    Args:
        network: a chain.
        first: number of the first such convolution.
        end: number of the layer behind the last, and what works on channels after it.
    """

    def __init__(self, network: keras.Model, first: int, end: int):
        layers, self._dtype = chain_of(network), network.inputs[0].dtype
        self._trunk, self.layers, self.rest = layers[:first], layers[first:end], layers[end:]

    @classmethod
    def of(cls, network: keras.Model, drawn: Sequence[keras.Variable] = ()) -> ConvolutionalHead | None:
        """The head of a network; None where the network is no chain, or does not begin with one.

        Args:
            network: of any layers.
            drawn: variables that differ from draw to draw, beside what the layers draw themselves.
        """
        layers, own = chain_of(network), {id(variable) for variable in drawn}
        if not layers or None in network.inputs[0].shape[1:]:
            return None
        is_convolution = [_is_drawn_convolution(layer, own) for layer in layers]
        if not any(is_convolution):
            return None
        first = is_convolution.index(True)
        if not all(_is_plain(layer, own) for layer in layers[:first]):
            return None
        end = first
        while end < len(layers) and (is_convolution[end] or _works_on_channels(layers[end])):
            end += 1
        return cls(network, first, end)

    def before(self, x: Any) -> tf.Tensor:
        """The inputs of the first convolution, the same in all draws."""
        return run(self._trunk, tf.cast(keras.tree.flatten(x)[0], self._dtype))

    def weights(self) -> list[list[tf.Tensor]]:
        """Kernel, and bias where there is one, of each convolution with drawn weights, of the draw that is in scope."""
        return [
            layer.sample_weights() if isinstance(layer, VariationalLayer) else [v.value for v in layer.variables]
            for layer in self.layers
            if _is_convolution(layer)
        ]

    def __call__(self, x: tf.Tensor, weights: Sequence[Sequence[tf.Tensor]]) -> tf.Tensor:
        """The activations behind the last convolution, of S draws: [B, P, Q, C] -> [S, B, P', Q', C'].

        Args:
            x: inputs of the first convolution.
            weights: those of `weights` in each draw: kernels [S, h, w, C, F], biases [S, F].
        """
        h, of_next = x, iter(weights)
        for layer in self.layers:
            h = _of_all_draws(layer, h, next(of_next)) if _is_convolution(layer) else run([layer], h)
        S = weights[0][0].shape[0]
        _, P, Q, channels = h.shape
        return tf.transpose(tf.reshape(h, [-1, P, Q, S, channels // S]), [3, 0, 1, 2, 4])

    def after(self, h: tf.Tensor) -> tf.Tensor:
        """The rest of the network, of one draw."""
        return run(self.rest, h)


def _is_convolution(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, Conv | keras.layers.Conv2D)


def _of_all_draws(layer: Any, x: tf.Tensor, weights: Sequence[tf.Tensor]) -> tf.Tensor:
    """activation(x * kernel_s + bias_s): [B, P, Q, C] of all draws, or [B, P, Q, S C], -> [B, P, Q, S F]."""
    x = tf.cast(x, layer.compute_dtype)
    kernel = tf.cast(weights[0], x.dtype)
    S, height, width, C, F = kernel.shape
    side_by_side = tf.reshape(tf.transpose(kernel, [1, 2, 3, 0, 4]), [height, width, C, S * F])
    strides, dilations = list(layer.strides), list(layer.dilation_rate)
    y = tf.nn.convolution(x, side_by_side, strides, layer.padding.upper(), dilations=dilations)  # in S groups or in one
    if layer.use_bias:
        y += tf.reshape(tf.cast(weights[1], x.dtype), [S * F])
    return layer.activation(y)


def _is_drawn_convolution(layer: keras.layers.Layer, drawn: set[int]) -> bool:
    if isinstance(layer, Conv):
        is_drawn = layer.rank == 2 and not all(q.is_point for q in layer.weight_posteriors)
    else:
        is_drawn = type(layer) is keras.layers.Conv2D and all(id(variable) in drawn for variable in layer.variables)
    return is_drawn and layer.groups == 1 and layer.data_format == "channels_last" and layer.activation in ELEMENTWISE


def _works_on_channels(layer: keras.layers.Layer) -> bool:
    """Whether it does the same to each channel."""
    if type(layer) is keras.layers.Activation:
        return layer.activation in ELEMENTWISE
    return type(layer) in OF_EACH_CHANNEL and getattr(layer, "data_format", "channels_last") != "channels_first"


def _is_plain(layer: keras.layers.Layer, drawn: set[int]) -> bool:
    """Whether all draws have the same of it."""
    is_keras = all(type(part).__module__.split(".")[0] == "keras" for part in sublayers(layer))
    return is_keras and not any(id(variable) in drawn for variable in layer.variables)
