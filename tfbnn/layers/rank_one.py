"""One kernel, many networks: vectors r and s around W, of which an ensemble has members or a posterior draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn import posteriors, priors
from tfbnn.core.checks import finite_number, invalid, one_of, positive_integer, positive_number
from tfbnn.core.noise import Noise, check_seed, noise_for
from tfbnn.core.serialization import register
from tfbnn.layers.base import VariationalLayer, same_for_all_draws

LAYERS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
INITIAL = ("signs", "normal")


class _AroundKernel(keras.layers.Layer):
    """y = activation(op(x r, W) s + b), op and activation those of a Dense or Conv layer, which tells them alone."""

    layer: keras.layers.Layer

    def _take(self, layer: keras.layers.Layer, initial: str) -> None:
        self.__dict__["layer"] = layer  # past Keras' tracking: its variables are not ours
        self.initial = one_of("initial", initial, INITIAL)
        self.supports_masking = layer.supports_masking

    @property
    def units(self) -> int:
        """U, channels of the outputs."""
        return self.layer.units if isinstance(self.layer, keras.layers.Dense) else self.layer.filters

    def _kernel_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        """Pins rank and D of the inputs; [D, U], or [..., D / groups, U]."""
        rank = getattr(self.layer, "rank", None)
        if len(input_shape) < 2 or input_shape[-1] is None or rank not in (None, len(input_shape) - 2):
            axes = "[B, ..., D]" if rank is None else f"[B, {rank} axes of positions, D]"
            raise invalid("inputs", f"{axes} with a last axis of known size", tuple(input_shape))
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape), axes={-1: input_shape[-1]})
        if rank is None:
            return (input_shape[-1], self.units)
        return (*self.layer.kernel_size, input_shape[-1] // self.layer.groups, self.units)

    def _kernel_initializer(self) -> Any:
        return _values_of(self.layer.kernel) if self.layer.built else self.layer.kernel_initializer

    def _bias_initializer(self) -> Any:
        return _values_of(self.layer.bias) if self.layer.built else self.layer.bias_initializer

    def _initializer(self, generator: keras.random.SeedGenerator) -> Any:
        """Of r and s: random signs, or Normal(1, 0.5^2)."""
        return _Signs(generator) if self.initial == "signs" else keras.initializers.RandomNormal(1.0, 0.5, generator)

    def _scaled(self, x: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
        """x [B, ..., D] times [B, D], or times [1, D] for all rows: the same at all positions."""
        return x * _of_positions(factor, x)

    def _op(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        kernel = tf.cast(kernel, x.dtype)
        if isinstance(self.layer, keras.layers.Dense):
            return keras.ops.matmul(x, kernel)
        if self.layer.padding != "causal":
            return self.layer.convolution_op(x, kernel)
        before = self.layer.dilation_rate[0] * (self.layer.kernel_size[0] - 1)
        x = tf.pad(x, [[0, 0], [before, 0], [0, 0]])
        return keras.ops.conv(x, kernel, self.layer.strides[0], "valid", dilation_rate=self.layer.dilation_rate[0])

    def compute_output_shape(self, input_shape):
        """That of the layer."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer, "initial": self.initial}

    @classmethod
    def from_config(cls, config):
        """The layer that `get_config` described."""
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})


@register
class BatchEnsemble(_AroundKernel):
    """An ensemble of `members` networks that share their kernels: member k has W * r_k s_k^T and a bias of its own.

        y = activation(op(x r_k, W) s_k + b_k)

    It can represent M points, as an ensemble does, at M (D + 2 U) numbers beside W, and trains them in one pass.

    Row b of a batch is member b mod M's, the same member in all layers. Draw i of a prediction is member i mod M for
    all rows, so that `num_samples` = M, or a multiple, averages the ensemble exactly; more tell nothing new.

    Members see their own rows of each batch: shuffle, and let no layer before fold an axis of a row into the batch.
    Nothing has a prior: train it by `BayesianModel` as a network without a KL. In a plain Keras model rows have members
    by their place in prediction too.

    When: an ensemble in the memory of one net.
    Cost: M (D + 2 U) numbers beside the kernel's D U; a pass costs what a plain one does.

    Args:
        layer: `keras.layers.Dense`, Conv1D, Conv2D or Conv3D (channels last), which says what op, sizes, activation,
            bias and initial values are; where it is built, W begins at its kernel. It is not changed.
        members: M, 2 or more; the same in all layers of a network.
        initial: where r and s begin: "signs", -1 or 1 at random; "normal", Normal(1, 0.5^2), for a kernel that is
            trained already.
        seed: of the initial signs or numbers; None: others at every construction.

    Inputs: [B, ..., D]. Outputs: those of `layer`.

    Raises:
        InvalidInput: for other layers, and fewer than 2 members.

    Example:
        >>> tfbnn.layers.BatchEnsemble(keras.layers.Dense(50, "relu"), members=4)

    Reference: Wen, Tran & Ba 2020, "BatchEnsemble: An Alternative Approach to Efficient Ensemble and Lifelong
    Learning", equations 1 to 4.
    """

    def __init__(
        self, layer: keras.layers.Layer, members: int, initial: str = "signs", seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**{"dtype": _checked(layer).dtype_policy, **kwargs})
        self._take(layer, initial)
        self.members = _two_or_more("members", members)
        self.seed = None if seed is None else check_seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Adds W, and r, s and b of each member."""
        layer, initializer = self.layer, self._initializer(keras.random.SeedGenerator(self.seed))
        self.kernel = self._add("kernel", self._kernel_shape(input_shape), self._kernel_initializer(),
                                layer.kernel_regularizer, layer.kernel_constraint)  # fmt: skip
        self.r = self._add("r", (self.members, input_shape[-1]), initializer)
        self.s = self._add("s", (self.members, self.units), initializer)
        self.bias = None
        if layer.use_bias:
            self.bias = self._add("bias", (self.members, self.units), self._bias_initializer(), layer.bias_regularizer)
        self.built = True

    def _add(self, name: str, shape: tuple, initializer: Any, regularizer: Any = None, constraint: Any = None) -> Any:
        return self.add_weight(name=name, shape=shape, initializer=initializer, regularizer=regularizer,
                               constraint=constraint, dtype="float32", autocast=False)  # fmt: skip

    def call(self, inputs):
        """[B, ..., D] -> what the members make of their rows, or one member of all."""
        noise = noise_for(self, self.seed_generator)
        (x,) = same_for_all_draws(noise, [tf.cast(inputs, self.compute_dtype)])
        member = noise.member(self.members, x)
        y = self._scaled(self._op(self._scaled(x, _of_member(self.r, member)), self.kernel), _of_member(self.s, member))
        y = y if self.bias is None else y + _of_positions(_of_member(self.bias, member), y)
        return self.layer.activation(y)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "members": self.members, "seed": self.seed}


@register
class RankOne(_AroundKernel, VariationalLayer):
    """Weights W * r s^T whose r and s have a posterior, of `components` Gaussians each, and W is a point.

        y = activation(op(x r, W) s + b);   q(r) = (1/K) sum_k Normal(loc_k, scale_k^2), q(s) likewise

    It can represent factors of a layer's inputs and outputs that are uncertain, about K centres, not each weight's own
    uncertainty; it costs 2 K (D + U) numbers beside W, and in training noise of D + U numbers a row.

    r and s have the same component, and so have all layers of a network: in training row b has component b mod K and
    noise of its own; draw i of a prediction has component i mod K and one noise for all rows. With a `num_samples`
    that K divides, the components have equal shares.

        KL = (1/K) sum_k KL(Normal(loc_k, scale_k^2) || Normal(1, prior_scale^2)), of r and of s, nats

    KL(q || p) of the mixture has no formula. This is its upper bound by the convexity of KL, so that the ELBO stays a
    lower bound: exact where K = 1, else above it by log K at most, over all layers together. W has -log of
    Normal(0, weight_scale^2) as a `penalty` (L2); the bias is a plain weight.

    When: as BatchEnsemble, with posteriors about each member.
    Cost: 2 K (D + U) numbers beside the kernel's D U; noise of D + U numbers a row.

    Args:
        layer: as in `BatchEnsemble`.
        components: K, 1 or more; the same in all layers of a network.
        prior_scale: standard deviation of r and s about 1 before the data.
        weight_scale: standard deviation of the prior of W.
        initial: where the means begin: "normal", Normal(1, 0.5^2); "signs", which a narrow prior pulls back to 1.
        initial_rho: where rho of r and s begins, scale = softplus(rho).
        kl_weight, seed: of `VariationalLayer`.

    Inputs: [B, ..., D]. Outputs: those of `layer`.

    Raises:
        InvalidInput: for other layers, and numbers out of range.

    Example:
        >>> tfbnn.layers.RankOne(keras.layers.Dense(50, "relu"), components=4)

    Reference: Dusenberry et al. 2020, "Efficient and Scalable Bayesian Neural Nets with Rank-1 Factors", section 3.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        components: int = 4,
        prior_scale: float = 0.1,
        weight_scale: float = 1.0,
        initial: str = "normal",
        initial_rho: float = -3.0,
        kl_weight: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(kl_weight=kl_weight, seed=seed, **{"dtype": _checked(layer).dtype_policy, **kwargs})
        self._take(layer, initial)
        self.components = positive_integer("components", components)
        self.prior_scale = positive_number("prior_scale", prior_scale)
        self.weight_scale = positive_number("weight_scale", weight_scale)
        self.initial_rho = finite_number("initial_rho", initial_rho)

    def build(self, input_shape):
        """Adds W, means and scales of r and s [K, D] and [K, U], and the bias."""
        point, normal = posteriors.Deterministic(), priors.Normal(scale=self.weight_scale)
        self.add_term("kernel", self._kernel_shape(input_shape), point, normal, None, self._kernel_initializer())
        q, p = posteriors.MeanField(initial_rho=self.initial_rho), priors.Normal(1.0, self.prior_scale)
        initializer = self._initializer(keras.random.SeedGenerator(self.seed))
        for name, size in (("r", input_shape[-1]), ("s", self.units)):
            self.add_term(name, (self.components, size), q, p, mean_over_components, initializer)
        self.bias = None
        if self.layer.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), dtype="float32", autocast=False,
                                        initializer=self._bias_initializer())  # fmt: skip
        self.built = True

    def call(self, inputs, training=None):
        """[B, ..., D] -> what one draw, or in training one draw a row, of r and s makes of it."""
        noise = self._noise()
        self._settle_kl(noise, bool(training))
        kernel, r, s = self.weight_posteriors
        (x,) = same_for_all_draws(noise, [tf.cast(inputs, self.compute_dtype)])
        member = noise.member(self.components, x)
        y = self._op(self._scaled(x, _drawn(r, member, noise, x)), kernel.sample(noise))
        y = self._scaled(y, _drawn(s, member, noise, y))
        return self.layer.activation(y if self.bias is None else y + tf.cast(self.bias.value, y.dtype))

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "components": self.components,
            "prior_scale": self.prior_scale,
            "weight_scale": self.weight_scale,
            "initial_rho": self.initial_rho,
        }


def mean_over_components(q: Any, p: Any) -> tf.Tensor:
    """(1/K) sum_k KL(q_k || p_k) of tensors [K, ...]: at least the KL of the mixture of the q_k, by convexity."""
    return tfp.distributions.kl_divergence(q, p) / q.event_shape[0]


def _drawn(q: posteriors.WeightPosterior, member: tf.Tensor, noise: Noise, like: tf.Tensor) -> tf.Tensor:
    """loc_k + scale_k eps for the rows of `like` [B, ..., D]: [B, D] in training, [1, D] in prediction."""
    loc, scale = noise.shared(f"{q.name}/parameters", lambda: q.factorised_gaussian)
    at_one_position = like[(slice(None), *[0] * (len(like.shape) - 2), slice(None))]
    return _of_member(loc, member) + _of_member(scale, member) * noise.normal_per_row(q.name, at_one_position)


def _of_member(table: Any, member: tf.Tensor) -> tf.Tensor:
    """Rows of [M, D]: [B, D] of members [B], [1, D] of one; a product, because the gradient of gather is sparse."""
    table = tf.convert_to_tensor(table)
    return tf.reshape(tf.one_hot(member, table.shape[0]), [-1, table.shape[0]]) @ table


def _of_positions(factor: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[B, D] -> [B, 1, ..., D], in the dtype of `like`."""
    return tf.reshape(tf.cast(factor, like.dtype), [-1, *[1] * (len(like.shape) - 2), factor.shape[-1]])


class _Signs(keras.initializers.Initializer):
    """-1 or 1, each as likely."""

    def __init__(self, generator: keras.random.SeedGenerator):
        self._generator = generator

    def __call__(self, shape, dtype=None):
        uniforms = keras.random.uniform(shape, dtype=dtype, seed=self._generator)
        return tf.where(uniforms < 0.5, -tf.ones_like(uniforms), tf.ones_like(uniforms))


def _values_of(variable: keras.Variable) -> keras.initializers.Initializer:
    return keras.initializers.Constant(variable.numpy())


def _checked(layer: Any) -> keras.layers.Layer:
    if type(layer) not in LAYERS:
        expected = f"a {', '.join(cls.__name__ for cls in LAYERS)} of Keras, of whose kernel there are rows and columns"
        raise invalid("layer", expected, layer, "tfbnn.layers.LowRankAdapter and Variational take other layers.")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise invalid("layer", "a convolution with channels last", layer.get_config())
    return layer


def _two_or_more(where: str, value: Any) -> int:
    if positive_integer(where, value) < 2:
        raise invalid(where, "2 or more: one is the layer itself", value)
    return int(value)
