"""Convolutions over 1, 2 or 3 axes, depthwise and transposed ones too: rank and estimator are parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import estimators
from tfbnn.core.checks import invalid, one_of, positive_integer
from tfbnn.core.serialization import register
from tfbnn.layers.base import KernelAndBias, plus_bias

PADDINGS = ("valid", "same", "causal")
DATA_FORMATS = ("channels_last", "channels_first")


class Convolution(KernelAndBias):
    """What all convolutions share: windows, strides, and where the channels are.

    Outputs, for a kernel over positions u and channels c of the inputs:

        y[b, p, f] = activation(sum_(u, c) x[b, p strides + u dilation_rate, c] kernel[u, c, f] + bias[f])
    """

    rank: int
    plain: type[keras.layers.Layer]  # Keras' own layer of the same arithmetic
    paddings: tuple[str, ...] = ("valid", "same")

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(activation=activation, use_bias=use_bias, **kwargs)
        self.kernel_size = _of_each_axis("kernel_size", kernel_size, self.rank)
        self.strides = _of_each_axis("strides", strides, self.rank)
        self.dilation_rate = _of_each_axis("dilation_rate", dilation_rate, self.rank)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise invalid("dilation_rate", "1 where strides are above 1", self.dilation_rate)
        self.padding = one_of("padding", str(padding).lower(), self.paddings)
        self.data_format = one_of("data_format", data_format or keras.config.image_data_format(), DATA_FORMATS)
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2)

    @property
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def _input_channels(self, input_shape: Sequence[int | None]) -> int:
        channels = input_shape[self._channel_axis]
        if channels is None:
            raise invalid("inputs", "an axis of channels of known size", tuple(input_shape))
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2, axes={self._channel_axis: channels})
        return int(channels)

    def call(self, inputs, training=None):
        """[B, *positions, C] -> [B, *positions, F], one draw; with channels_first [B, C, *positions] -> [B, F, ...]."""
        if self.data_format == "channels_first":  # TensorFlow's CPU kernels take channels last alone
            return _channels_first(self.outputs(self._op, _channels_last(inputs), False, training))
        return self.outputs(self._op, inputs, False, training)

    def _op(self, x: Sequence[tf.Tensor], w: Sequence[tf.Tensor]) -> tf.Tensor:
        return plus_bias(self._convolved(x[0], tf.cast(w[0], x[0].dtype)), x, w)

    def _convolved(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    def _windows(self) -> dict[str, Any]:
        """The arguments of Keras' own layer."""
        return {
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
        }

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), **self._windows()}


def _of_each_axis(where: str, value: Any, rank: int) -> tuple[int, ...]:
    """A whole number above 0 for each of the axes; one number stands for all."""
    values = (value,) * rank if not isinstance(value, list | tuple) else tuple(value)
    if len(values) != rank:
        raise invalid(where, f"a whole number, or {rank} of them, one an axis", value)
    return tuple(positive_integer(where, number) for number in values)


def _channels_last(x: tf.Tensor) -> tf.Tensor:
    rank = len(x.shape)
    return tf.transpose(x, [0, *range(2, rank), 1])


def _channels_first(x: tf.Tensor) -> tf.Tensor:
    rank = len(x.shape)
    return tf.transpose(x, [0, rank - 1, *range(1, rank - 1)])


class Conv(Convolution):
    """Convolution: the arithmetic of `keras.layers.Conv1D`, `Conv2D` and `Conv3D`.

    In prediction one draw of the weights serves all positions and, in each draw, all rows. Local reparameterization
    draws noise at each position as if it met weights of its own: an approximation of training, not of prediction.

    Args:
        filters: F, number of outputs at each position.
        kernel_size, strides, dilation_rate: a whole number, or one for each axis.
        padding: "valid", "same", or, over 1 axis, "causal".
        data_format: "channels_last" or "channels_first"; None: as Keras is set.
        groups: in how many groups of channels inputs and filters are kept apart.
        activation, use_bias, kernel_posterior_fn, kernel_prior_fn, kernel_divergence_fn, bias_posterior_fn,
            bias_prior_fn, bias_divergence_fn, kl_weight, seed: as in `DenseReparameterization`.

    Inputs: [B, *positions, C]. Outputs: [B, *positions, F].

    Raises:
        InvalidInput: for arguments that do not go together, and inputs whose channels the groups do not divide.

    Reference: Shridhar, Laumann & Liwicki 2019; Wen et al. 2018 (flipout).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, **kwargs)
        self.filters = positive_integer("filters", filters)
        self.groups = positive_integer("groups", groups)
        if self.filters % self.groups:
            raise invalid("groups", f"a divisor of the {self.filters} filters", groups)

    def build(self, input_shape):
        """Adds the variables of kernel [*kernel_size, C / groups, F] and bias [F]."""
        channels = self._input_channels(input_shape)
        if channels % self.groups:
            raise invalid("groups", f"a divisor of the {channels} channels of the inputs", self.groups)
        self.build_weights((*self.kernel_size, channels // self.groups, self.filters), (self.filters,))

    def _convolved(self, x, kernel):
        padding = self.padding
        if padding == "causal":
            padding, before = "valid", self.dilation_rate[0] * (self.kernel_size[0] - 1)
            x = tf.pad(x, [[0, 0], [before, 0], [0, 0]])
        # Group by group: not every kernel of TensorFlow convolves in groups.
        pairs = zip(tf.split(x, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1), strict=True)
        strides, dilations = list(self.strides), list(self.dilation_rate)
        outputs = [tf.nn.convolution(*pair, strides, padding.upper(), dilations=dilations) for pair in pairs]
        return outputs[0] if self.groups == 1 else tf.concat(outputs, axis=-1)

    def compute_output_shape(self, input_shape):
        """[B, *positions, C] -> [B, *positions, F]."""
        return self.plain(self.filters, **self._windows()).compute_output_shape(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "filters": self.filters, "groups": self.groups}


class DepthwiseConv(Convolution):
    """Depthwise convolution: each channel is convolved with M kernels of its own, as in `keras.layers.DepthwiseConv2D`.

    Args:
        kernel_size, strides, padding, data_format, dilation_rate: of `Conv`; over 2 axes strides must be equal.
        depth_multiplier: M.
        activation, ..., seed: of `Conv`.

    Inputs: [B, *positions, C]. Outputs: [B, *positions, C M].

    Raises:
        InvalidInput: for arguments that do not go together.
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, **kwargs)
        self.depth_multiplier = positive_integer("depth_multiplier", depth_multiplier)

    def build(self, input_shape):
        """Adds the variables of kernel [*kernel_size, C, M] and bias [C M], M the depth multiplier."""
        channels = self._input_channels(input_shape)
        self.build_weights((*self.kernel_size, channels, self.depth_multiplier), (channels * self.depth_multiplier,))

    def _convolved(self, x, kernel):
        return keras.ops.depthwise_conv(
            x, kernel, self.strides, self.padding, "channels_last", self.dilation_rate
        )  # fmt: skip

    def compute_output_shape(self, input_shape):
        """[B, *positions, C] -> [B, *positions, C M]."""
        plain = self.plain(depth_multiplier=self.depth_multiplier, **self._windows())
        return plain.compute_output_shape(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "depth_multiplier": self.depth_multiplier}


class ConvTranspose(Convolution):
    """Transposed convolution: the gradient of a convolution with regard to its inputs, which makes more positions.

    Args:
        filters, kernel_size, strides, padding, data_format, dilation_rate: of `Conv`, in the order of
            `keras.layers.Conv2DTranspose`.
        output_padding: positions that are added at the end, one number or one an axis, less than the strides; None:
            as many as `strides` asks for.
        activation, ..., seed: of `Conv`.

    Inputs: [B, *positions, C]. Outputs: [B, *positions, F].

    Raises:
        InvalidInput: for arguments that do not go together.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, **kwargs)
        self.filters = positive_integer("filters", filters)
        self.output_padding = output_padding

    def build(self, input_shape):
        """Adds the variables of kernel [*kernel_size, F, C] and bias [F]."""
        channels = self._input_channels(input_shape)
        self.build_weights((*self.kernel_size, self.filters, channels), (self.filters,))

    def _convolved(self, x, kernel):
        return keras.ops.conv_transpose(
            x, kernel, self.strides, self.padding, self.output_padding, "channels_last", self.dilation_rate
        )

    def compute_output_shape(self, input_shape):
        """[B, *positions, C] -> [B, *positions, F]."""
        plain = self.plain(self.filters, output_padding=self.output_padding, **self._windows())
        return plain.compute_output_shape(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "filters": self.filters, "output_padding": self.output_padding}


# --- the public classes: rank and estimator ---------------------------------------------------------------------------


class _Reparameterization:
    """One draw of the weights a call.

    When: posteriors with correlations, and convolutions that are called several times.
    Cost: that of its posterior; a plain pass and one draw of the weights; noisy gradients.

    Reference: Kingma & Welling 2014; Shridhar, Laumann & Liwicki 2019.
    """

    estimator = staticmethod(estimators.reparameterization)


class _LocalReparameterization:
    """Noise on the outputs.

    When: where the training approximation by position is enough.
    Cost: 2 numbers a weight; two convolutions a pass, and one random number an output.

    Reference: Kingma, Salimans & Welling 2015; Shridhar, Laumann & Liwicki 2019.
    """

    estimator = staticmethod(estimators.local_reparameterization)


class _Flipout:
    """One draw, turned by each row's random signs.

    When: the first choice for convolutions with MeanField.
    Cost: 2 numbers a weight; two convolutions a pass, one draw of the weights, and random signs.

    Reference: Wen et al. 2018 (flipout).
    """

    estimator = staticmethod(estimators.flipout)


@register
class Conv1DReparameterization(_Reparameterization, Conv):
    """Convolution over 1 axis; one draw of the weights a call.

    Args, inputs and outputs: those of `Conv`.

    Example:
        >>> tfbnn.layers.Conv1DReparameterization(16, 3, activation="relu")
    """

    rank, plain = 1, keras.layers.Conv1D
    paddings = PADDINGS


@register
class Conv1DLocalReparameterization(_LocalReparameterization, Conv):
    """Convolution over 1 axis; noise on the outputs, at each position its own.

    Args, inputs and outputs: those of `Conv`.

    Example:
        >>> tfbnn.layers.Conv1DLocalReparameterization(16, 3, activation="relu")
    """

    rank, plain = 1, keras.layers.Conv1D
    paddings = PADDINGS


@register
class Conv1DFlipout(_Flipout, Conv):
    """Convolution over 1 axis; one draw, turned by random signs for each row.

    Args, inputs and outputs: those of `Conv`.

    Example:
        >>> tfbnn.layers.Conv1DFlipout(16, 3, activation="relu")
    """

    rank, plain = 1, keras.layers.Conv1D
    paddings = PADDINGS


@register
class Conv2DReparameterization(_Reparameterization, Conv):
    """Convolution over 2 axes; one draw of the weights a call.

    Args, inputs and outputs: those of `Conv`.

    Example:
        >>> tfbnn.layers.Conv2DReparameterization(16, 3, activation="relu")
    """

    rank, plain = 2, keras.layers.Conv2D


@register
class Conv2DLocalReparameterization(_LocalReparameterization, Conv):
    """Convolution over 2 axes; noise on the outputs, at each position its own.

    Args, inputs and outputs: those of `Conv`.

    Example:
        >>> tfbnn.layers.Conv2DLocalReparameterization(16, 3, activation="relu")
    """

    rank, plain = 2, keras.layers.Conv2D


@register
class Conv2DFlipout(_Flipout, Conv):
    """Convolution over 2 axes; one draw, turned by random signs for each row.

    Args, inputs and outputs: those of `Conv`.

    Example:
        >>> tfbnn.layers.Conv2DFlipout(16, 3, activation="relu")
    """

    rank, plain = 2, keras.layers.Conv2D


@register
class Conv3DReparameterization(_Reparameterization, Conv):
    """Convolution over 3 axes; one draw of the weights a call.

    Args, inputs and outputs: those of `Conv`.

    Example:
        >>> tfbnn.layers.Conv3DReparameterization(16, 3, activation="relu")
    """

    rank, plain = 3, keras.layers.Conv3D


@register
class Conv3DLocalReparameterization(_LocalReparameterization, Conv):
    """Convolution over 3 axes; noise on the outputs, at each position its own.

    Args, inputs and outputs: those of `Conv`.

    Example:
        >>> tfbnn.layers.Conv3DLocalReparameterization(16, 3, activation="relu")
    """

    rank, plain = 3, keras.layers.Conv3D


@register
class Conv3DFlipout(_Flipout, Conv):
    """Convolution over 3 axes; one draw, turned by random signs for each row.

    Args, inputs and outputs: those of `Conv`.

    Example:
        >>> tfbnn.layers.Conv3DFlipout(16, 3, activation="relu")
    """

    rank, plain = 3, keras.layers.Conv3D


@register
class DepthwiseConv1DReparameterization(_Reparameterization, DepthwiseConv):
    """Depthwise convolution over 1 axis; one draw of the weights a call.

    Args, inputs and outputs: those of `DepthwiseConv`.

    Example:
        >>> tfbnn.layers.DepthwiseConv1DReparameterization(3)
    """

    rank, plain = 1, keras.layers.DepthwiseConv1D


@register
class DepthwiseConv1DLocalReparameterization(_LocalReparameterization, DepthwiseConv):
    """Depthwise convolution over 1 axis; noise on the outputs, at each position its own.

    Args, inputs and outputs: those of `DepthwiseConv`.

    Example:
        >>> tfbnn.layers.DepthwiseConv1DLocalReparameterization(3)
    """

    rank, plain = 1, keras.layers.DepthwiseConv1D


@register
class DepthwiseConv1DFlipout(_Flipout, DepthwiseConv):
    """Depthwise convolution over 1 axis; one draw, turned by random signs for each row.

    Args, inputs and outputs: those of `DepthwiseConv`.

    Example:
        >>> tfbnn.layers.DepthwiseConv1DFlipout(3)
    """

    rank, plain = 1, keras.layers.DepthwiseConv1D


@register
class DepthwiseConv2DReparameterization(_Reparameterization, DepthwiseConv):
    """Depthwise convolution over 2 axes; one draw of the weights a call.

    Args, inputs and outputs: those of `DepthwiseConv`.

    Example:
        >>> tfbnn.layers.DepthwiseConv2DReparameterization(3)
    """

    rank, plain = 2, keras.layers.DepthwiseConv2D


@register
class DepthwiseConv2DLocalReparameterization(_LocalReparameterization, DepthwiseConv):
    """Depthwise convolution over 2 axes; noise on the outputs, at each position its own.

    Args, inputs and outputs: those of `DepthwiseConv`.

    Example:
        >>> tfbnn.layers.DepthwiseConv2DLocalReparameterization(3)
    """

    rank, plain = 2, keras.layers.DepthwiseConv2D


@register
class DepthwiseConv2DFlipout(_Flipout, DepthwiseConv):
    """Depthwise convolution over 2 axes; one draw, turned by random signs for each row.

    Args, inputs and outputs: those of `DepthwiseConv`.

    Example:
        >>> tfbnn.layers.DepthwiseConv2DFlipout(3)
    """

    rank, plain = 2, keras.layers.DepthwiseConv2D


@register
class Conv1DTransposeReparameterization(_Reparameterization, ConvTranspose):
    """Transposed convolution over 1 axis; one draw of the weights a call.

    Args, inputs and outputs: those of `ConvTranspose`.

    Example:
        >>> tfbnn.layers.Conv1DTransposeReparameterization(16, 3, strides=2)
    """

    rank, plain = 1, keras.layers.Conv1DTranspose


@register
class Conv1DTransposeLocalReparameterization(_LocalReparameterization, ConvTranspose):
    """Transposed convolution over 1 axis; noise on the outputs, at each position its own.

    Args, inputs and outputs: those of `ConvTranspose`.

    Example:
        >>> tfbnn.layers.Conv1DTransposeLocalReparameterization(16, 3, strides=2)
    """

    rank, plain = 1, keras.layers.Conv1DTranspose


@register
class Conv1DTransposeFlipout(_Flipout, ConvTranspose):
    """Transposed convolution over 1 axis; one draw, turned by random signs for each row.

    Args, inputs and outputs: those of `ConvTranspose`.

    Example:
        >>> tfbnn.layers.Conv1DTransposeFlipout(16, 3, strides=2)
    """

    rank, plain = 1, keras.layers.Conv1DTranspose


@register
class Conv2DTransposeReparameterization(_Reparameterization, ConvTranspose):
    """Transposed convolution over 2 axes; one draw of the weights a call.

    Args, inputs and outputs: those of `ConvTranspose`.

    Example:
        >>> tfbnn.layers.Conv2DTransposeReparameterization(16, 3, strides=2)
    """

    rank, plain = 2, keras.layers.Conv2DTranspose


@register
class Conv2DTransposeLocalReparameterization(_LocalReparameterization, ConvTranspose):
    """Transposed convolution over 2 axes; noise on the outputs, at each position its own.

    Args, inputs and outputs: those of `ConvTranspose`.

    Example:
        >>> tfbnn.layers.Conv2DTransposeLocalReparameterization(16, 3, strides=2)
    """

    rank, plain = 2, keras.layers.Conv2DTranspose


@register
class Conv2DTransposeFlipout(_Flipout, ConvTranspose):
    """Transposed convolution over 2 axes; one draw, turned by random signs for each row.

    Args, inputs and outputs: those of `ConvTranspose`.

    Example:
        >>> tfbnn.layers.Conv2DTransposeFlipout(16, 3, strides=2)
    """

    rank, plain = 2, keras.layers.Conv2DTranspose


@register
class Conv3DTransposeReparameterization(_Reparameterization, ConvTranspose):
    """Transposed convolution over 3 axes; one draw of the weights a call.

    Args, inputs and outputs: those of `ConvTranspose`.

    Example:
        >>> tfbnn.layers.Conv3DTransposeReparameterization(16, 3, strides=2)
    """

    rank, plain = 3, keras.layers.Conv3DTranspose


@register
class Conv3DTransposeLocalReparameterization(_LocalReparameterization, ConvTranspose):
    """Transposed convolution over 3 axes; noise on the outputs, at each position its own.

    Args, inputs and outputs: those of `ConvTranspose`.

    Example:
        >>> tfbnn.layers.Conv3DTransposeLocalReparameterization(16, 3, strides=2)
    """

    rank, plain = 3, keras.layers.Conv3DTranspose


@register
class Conv3DTransposeFlipout(_Flipout, ConvTranspose):
    """Transposed convolution over 3 axes; one draw, turned by random signs for each row.

    Args, inputs and outputs: those of `ConvTranspose`.

    Example:
        >>> tfbnn.layers.Conv3DTransposeFlipout(16, 3, strides=2)
    """

    rank, plain = 3, keras.layers.Conv3DTranspose
