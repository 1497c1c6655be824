"""Dropout that stays on: units of the input are dropped in training and in prediction, at a given or a learned rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import check_share, invalid, positive_number
from tfbnn.core.noise import Noise, check_seed, noise_for
from tfbnn.core.serialization import register
from tfbnn.layers.base import VariationalLayer, same_for_all_draws

WITH_KERNEL = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@register
class MCDropout(keras.layers.Layer):
    """y = z x / (1 - rate), z_d ~ Bernoulli(1 - rate) a unit d of the input, in training and in prediction.

    Before a layer of kernel M this is the posterior W = diag(z) M / (1 - rate) over its weights. In training each row
    has a mask of its own; a draw in prediction has one mask for all rows, so that it is one network. Masks are over
    the last axis, the rows of the kernel, and the same at all positions of inputs of rank above 2. A layer that is
    called again has the same mask again. In a plain Keras model each row of each call has a mask of the layer's own
    generator, in prediction too.

    When: a net that was trained with dropout, or must train as fast as a plain one.
    Cost: no numbers beside the net's; one random number an input unit.

    Args:
        rate: probability that a unit is dropped, between 0 and 1.
        seed: of the masks in a plain Keras model; None: another at every construction.

    Inputs and outputs: [B, ..., D].

    Raises:
        InvalidInput: where `rate` is not between 0 and 1.

    Example:
        >>> keras.Sequential([keras.layers.Dense(50, "relu"), tfbnn.layers.MCDropout(0.1), keras.layers.Dense(1)])

    Reference: Gal & Ghahramani 2016, "Dropout as a Bayesian Approximation".
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = check_share("rate", rate)
        self.seed = None if seed is None else check_seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape):
        """Pins rank and D, which one mask is made for."""
        self.input_spec = _spec_of(input_shape)
        self.built = True

    def call(self, inputs):
        """[B, ..., D] -> [B, ..., D], one draw."""
        noise = noise_for(self, self.seed_generator)
        (inputs,) = same_for_all_draws(noise, [tf.cast(inputs, self.compute_dtype)])
        uniforms = noise.uniform_per_row("mask", inputs)
        kept = tf.cast(uniforms < 1.0 - self.rate, inputs.dtype)
        return inputs * (kept / (1.0 - self.rate))

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@register
class ConcreteDropout(VariationalLayer):
    """A Dense or Conv layer before which units are dropped at a rate p that is learned.

        q(W) = the law of diag(z) M / (1 - p), z_d ~ Bernoulli(1 - p), M the kernel of `layer`
        KL(q || p) = |M|^2 / (2 s^2 (1 - p)) - D H(p) + |b|^2 / (2 s^2) + constant, nats;   H(p) = entropy of z_d

    The constant depends on neither M, b nor p, so that this KL, unlike others, may be below 0. (The paper writes the
    values that are not dropped as M itself, (1 - p) |M|^2 / (2 s^2): here they are M / (1 - p), so that means do not
    move with p.)

    In training z is relaxed, so that p has a gradient: z = 1 - sigmoid((logit p + logit u) / temperature), u uniform,
    each row its own. A draw in prediction takes the limit of temperature 0, z = [u < 1 - p], one for all rows: it is
    a member of the q whose KL was counted, a network with units in or out.

    When: as MCDropout, where the rate shall be learned.
    Cost: 1 number a layer beside the net's; one random number an input unit.

    Args:
        layer: `keras.layers.Dense`, Conv1D, Conv2D or Conv3D (channels last, one group); inputs of rank above 2 have
            one mask over their last axis for all positions.
        prior_scale: s, standard deviation of the prior Normal(0, s^2) of all weights.
        initial_rate: where p begins.
        temperature: of the relaxation.
        kl_weight, seed: of `VariationalLayer`.

    Inputs: [B, ..., D]. Outputs: those of `layer`.

    Raises:
        InvalidInput: for other layers, and numbers out of range.

    Example:
        >>> tfbnn.layers.ConcreteDropout(keras.layers.Dense(50, "relu"), prior_scale=0.5)

    Reference: Gal, Hron & Kendall 2017, "Concrete Dropout", equations 3 to 5.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        prior_scale: float = 1.0,
        initial_rate: float = 0.1,
        temperature: float = 0.1,
        kl_weight: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(kl_weight=kl_weight, seed=seed, **kwargs)
        self.layer = _with_kernel(layer)
        self.prior_scale = positive_number("prior_scale", prior_scale)
        self.initial_rate = check_share("initial_rate", initial_rate)
        self.temperature = positive_number("temperature", temperature)
        self.rate_logit: keras.Variable | None = None

    def build(self, input_shape):
        """Adds the logit of p, and the variables of `layer`."""
        self.input_spec = _spec_of(input_shape)
        if not self.layer.built:
            self.layer.build(input_shape)
        logit = math.log(self.initial_rate / (1.0 - self.initial_rate))
        self.rate_logit = self.add_weight(name="rate_logit", shape=(), dtype="float32", autocast=False,
                                          initializer=keras.initializers.Constant(logit))  # fmt: skip
        self.built = True

    @property
    def rate(self) -> tf.Tensor:
        """p, scalar float32."""
        return tf.sigmoid(self._logit())

    @property
    def _keep_rate(self) -> tf.Tensor:
        """1 - p, exact where p is near 1."""
        return tf.sigmoid(-self._logit())

    def call(self, inputs, training=None):
        """[B, ..., D] -> what `layer` makes of it, one draw."""
        noise = self._noise()
        self._settle_kl(noise, bool(training))
        (inputs,) = same_for_all_draws(noise, [tf.cast(inputs, self.compute_dtype)])
        uniforms = noise.uniform_per_row("mask", inputs)
        kept = self._relaxed(uniforms) if noise.coupling is None else tf.cast(uniforms < self._keep_rate, tf.float32)
        return self.layer(inputs * tf.cast(kept / self._keep_rate, inputs.dtype))

    def _relaxed(self, uniforms: tf.Tensor) -> tf.Tensor:
        """z = 1 - sigmoid((log p - log(1 - p) + log u - log(1 - u)) / t) (equation 5)."""
        logits = self._logit() + tf.math.log(uniforms) - tf.math.log1p(-uniforms)
        return tf.sigmoid(-logits / self.temperature)

    def kl_divergence(self, noise: Noise | None = None) -> tf.Tensor:
        """KL(q || p) but for its constant: scalar float32, nats, not scaled by anything."""
        self._refuse_unbuilt()
        kernel, bias = self.layer.kernel, self.layer.bias
        squares = _sum_of_squares(kernel) / self._keep_rate
        squares += 0.0 if bias is None else _sum_of_squares(bias)
        return squares / (2.0 * self.prior_scale**2) - float(kernel.shape[-2]) * self._entropy()

    def _entropy(self) -> tf.Tensor:
        """H(p) = -p log p - (1 - p) log(1 - p), nats."""
        logit = self._logit()
        return -self.rate * tf.math.log_sigmoid(logit) - self._keep_rate * tf.math.log_sigmoid(-logit)

    def _logit(self) -> tf.Tensor:
        self._refuse_unbuilt()
        return tf.convert_to_tensor(self.rate_logit.value)  # type: ignore[union-attr]

    def penalty(self) -> tf.Tensor:
        """0: the bias is counted in the KL."""
        return tf.zeros([])

    def _refuse_unbuilt(self) -> None:
        if self.rate_logit is None:
            super()._refuse_unbuilt()

    def compute_output_shape(self, input_shape):
        """That of `layer`."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "prior_scale": self.prior_scale,
            "initial_rate": self.initial_rate,
            "temperature": self.temperature,
        }

    @classmethod
    def from_config(cls, config):
        """The layer that `get_config` described."""
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})


def _spec_of(input_shape: Sequence[int | None]) -> keras.layers.InputSpec:
    if len(input_shape) < 2 or input_shape[-1] is None:
        raise invalid("inputs", "[B, ..., D] with a last axis of known size", tuple(input_shape))
    return keras.layers.InputSpec(ndim=len(input_shape), axes={-1: input_shape[-1]})


def _sum_of_squares(variable: keras.Variable) -> tf.Tensor:
    return tf.reduce_sum(tf.square(tf.cast(variable.value, tf.float32)))


def _with_kernel(layer: Any) -> keras.layers.Layer:
    if type(layer) not in WITH_KERNEL:
        raise invalid(
            "layer",
            f"a {', '.join(cls.__name__ for cls in WITH_KERNEL)} of Keras, whose units of the input can be dropped",
            layer,
            "Put tfbnn.layers.MCDropout before other layers.",
        )
    if getattr(layer, "data_format", "channels_last") != "channels_last" or getattr(layer, "groups", 1) != 1:
        raise invalid("layer", "a convolution with channels last, in one group", layer.get_config())
    return layer
