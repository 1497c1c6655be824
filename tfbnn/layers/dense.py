"""Dense layers: y = activation(x kernel + bias) with kernel and bias drawn from a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import estimators, posteriors, priors
from tfbnn.core.checks import InvalidInput, invalid, positive_integer
from tfbnn.core.serialization import register
from tfbnn.core.tfp_factory import takes_layer
from tfbnn.layers.base import Bilinear, KernelAndBias, plus_bias


def matmul(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x [B, ..., D] times kernel [D, U], in the dtype of x: [B, ..., U]."""
    kernel = tf.cast(kernel, x.dtype)
    return tf.matmul(x, kernel) if len(x.shape) == 2 else tf.tensordot(x, kernel, [[-1], [0]])


def dense(x: Sequence[tf.Tensor], w: Sequence[tf.Tensor]) -> tf.Tensor:
    """The op: inputs kernel + 1 bias, bilinear in (x, w); [inputs] and [kernel] where there is no bias."""
    return plus_bias(matmul(x[0], w[0]), x, w)


def dense_joint(x: Sequence[tf.Tensor], w: Sequence[tf.Tensor]) -> tf.Tensor:
    """The op of one tensor [D + 1, U] whose last row is the bias."""
    return dense(x, [w[0][:-1], w[0][-1]])


class Dense(Bilinear):
    """What the dense layers share: the last axis, of which they make U units."""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def _input_size(self, input_shape: Sequence[int | None]) -> int:
        if input_shape[-1] is None:
            raise invalid("inputs", "a last axis of known size", tuple(input_shape))
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        return int(input_shape[-1])

    def _apply(self, op: estimators.Op, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
        return self.outputs(op, inputs, len(inputs.shape) == 2, training)

    def compute_output_shape(self, input_shape):
        """[B, ..., D] -> [B, ..., U]."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units}


class _DenseSeparate(Dense, KernelAndBias):
    """Kernel and bias with a posterior each."""

    def __init__(self, units: int, activation: Any = None, use_bias: bool = True, **kwargs: Any):
        super().__init__(units, activation=activation, use_bias=use_bias, **kwargs)

    def build(self, input_shape):
        """Adds the variables of kernel [D, U] and bias [U]."""
        self.build_weights((self._input_size(input_shape), self.units), (self.units,))

    def call(self, inputs, training=None):
        """[B, ..., D] -> [B, ..., U], one draw."""
        return self._apply(dense, inputs, training)


@register
class DenseReparameterization(_DenseSeparate):
    """Dense layer; one draw of the weights a call serves all rows (reparameterization).

    Right for every posterior; its gradients are noisier than flipout's, because all rows share the draw.

    When: posteriors with correlations, layers that are called several times.
    Cost: 2 numbers a weight with MeanField; a plain pass and one draw of the weights; noisy gradients.

    Args:
        units: U, number of outputs.
        activation: name or function, as in `keras.layers.Dense`.
        use_bias: whether there is a bias.
        kernel_posterior_fn: q of the kernel: a `tfbnn.posteriors` object or name, or a TFP factory function of
            (dtype, shape, name, trainable, add_variable_fn).
        kernel_prior_fn: p of the kernel: a `tfbnn.priors` object or name, or a TFP factory function; None only with
            a Deterministic posterior.
        kernel_divergence_fn: function of (q, p) or (q, p, ignored) -> nats, unscaled; None: KL(q || p), exact where
            TFP knows it, else one Monte Carlo draw.
        bias_posterior_fn, bias_prior_fn, bias_divergence_fn: the same for the bias.
        kl_weight: None under `BayesianModel`; in a plain Keras model 1 / N, N the number of training rows.
        seed: of the initial means, and of the noise where a plain Keras model trains the layer.

    Inputs: [B, ..., D]. Outputs: [B, ..., U].

    Example:
        >>> tfbnn.layers.DenseReparameterization(10, activation="relu")

    Reference: Kingma & Welling 2014; Blundell 2015.
    """

    estimator = staticmethod(estimators.reparameterization)


@register
class DenseLocalReparameterization(_DenseSeparate):
    """Dense layer; noise is drawn on the outputs, for each row its own (local reparameterization).

    The fastest to train and the least noisy; needs factorised Gaussian posteriors. On inputs of rank 3 or more it
    treats positions of a row as if each met weights of its own: an approximation of training, not of prediction.

    When: the first choice for dense layers with MeanField: least noise.
    Cost: 2 numbers a weight; two products a pass instead of one, and one random number an output.

    Args, inputs and outputs: those of `DenseReparameterization`.

    Example:
        >>> tfbnn.layers.DenseLocalReparameterization(10, activation="relu")

    Reference: Kingma, Salimans & Welling 2015.
    """

    estimator = staticmethod(estimators.local_reparameterization)


@register
class DenseFlipout(_DenseSeparate):
    """Dense layer; one draw of the weights, turned by random signs for each row (flipout).

    Rows are nearly independent at about twice the cost of a plain layer; needs factorised Gaussian posteriors.

    When: MeanField, and inputs with positions, which share their weights.
    Cost: 2 numbers a weight; two products a pass instead of one, one draw of the weights, and random signs.

    Args, inputs and outputs: those of `DenseReparameterization`.

    Example:
        >>> tfbnn.layers.DenseFlipout(10, activation="relu")

    Reference: Wen et al. 2018.
    """

    estimator = staticmethod(estimators.flipout)


@register
class DenseVariational(Dense):
    """Dense layer with one joint posterior over kernel and bias; one draw a call serves all rows.

    With `FullCovariance` it holds the exact posterior of Bayesian linear regression.

    When: correlations between kernel and bias; linear regression, where FullCovariance is exact.
    Cost: that of its posterior, over kernel and bias together; n^2 numbers with FullCovariance.

    Args:
        units: U, number of outputs.
        make_posterior_fn: q of the weights [D + 1, U], the last row being the bias ([D, U] without one): a
            `tfbnn.posteriors` object or name; a TFP factory function of (dtype, shape, name, trainable,
            add_variable_fn); or a function of (kernel_size, bias_size, dtype) that returns a `tfbnn.posteriors`
            object.
        make_prior_fn: p of the weights, likewise from `tfbnn.priors`.
        kl_weight: None under `BayesianModel`; in a plain Keras model 1 / N, N the number of training rows.
        activation: name or function, as in `keras.layers.Dense`.
        use_bias: whether there is a bias.
        seed: of the initial means, and of the noise where a plain Keras model trains the layer.

    Inputs: [B, ..., D]. Outputs: [B, ..., U].

    Example:
        >>> tfbnn.layers.DenseVariational(1, make_posterior_fn="FullCovariance")

    Reference: Barber & Bishop 1998; Bishop 2006, section 3.3 (linear regression).
    """

    factory_argument = "make_{kind}_fn"

    def __init__(
        self,
        units: int,
        make_posterior_fn: Any = "MeanField",
        make_prior_fn: Any = "Normal",
        kl_weight: float | None = None,
        activation: Any = None,
        use_bias: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(units, activation=activation, use_bias=use_bias, kl_weight=kl_weight, seed=seed, **kwargs)
        self.make_posterior_fn = _factory(make_posterior_fn, posteriors.get)
        self.make_prior_fn = _factory(make_prior_fn, priors.get)

    def build(self, input_shape):
        """Adds the variables of the weights [D + 1, U]."""
        size = self._input_size(input_shape)
        posterior = self._made_for_layer("make_posterior_fn", size, posteriors.Posterior)
        prior = self._made_for_layer("make_prior_fn", size, priors.Prior)
        shape = (size + self.use_bias, self.units)
        self.add_term("weights", shape, posterior, prior, None, _KernelThenBias(self.use_bias, self.seed))
        self.built = True

    def _made_for_layer(self, argument: str, size: int, kind: type) -> Any:
        factory = getattr(self, argument)
        if factory is None or isinstance(factory, kind):
            return factory
        try:
            made = factory(size * self.units, self.units * self.use_bias, tf.float32)
        except Exception as error:  # Keras refuses tfp.layers inside the function by several kinds of error
            raise _refused_function(argument, kind, f"a function that raised {error!r}") from error
        if not isinstance(made, kind):
            raise _refused_function(argument, kind, made)
        return made

    def call(self, inputs, training=None):
        """[B, ..., D] -> [B, ..., U], one draw."""
        return self._apply(dense_joint if self.use_bias else dense, inputs, training)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "make_posterior_fn": posteriors.serialize(self.make_posterior_fn),
            "make_prior_fn": priors.serialize(self.make_prior_fn),
        }


def _factory(identifier: Any, get: Any) -> Any:
    """An object of the family, or the user's function of a whole layer as it is."""
    if isinstance(identifier, dict) and identifier.get("class_name") == "function":
        identifier = keras.saving.deserialize_keras_object(identifier)
    is_function = callable(identifier) and not isinstance(identifier, type)
    return identifier if is_function and takes_layer(identifier) else get(identifier)


def _refused_function(argument: str, kind: type, received: Any) -> InvalidInput:
    replacement = "tfbnn.posteriors.MeanField()" if issubclass(kind, posteriors.Posterior) else "tfbnn.priors.Normal()"
    return invalid(
        argument,
        f"a function that returns an object of {kind.__module__.rsplit('.', 1)[0]}",
        received,
        f"Layers of tf_keras or tfp.layers do not work in Keras 3: return {replacement}.",
    )


class _KernelThenBias(keras.initializers.Initializer):
    """Glorot for the kernel's rows, zeros for the last row, the bias."""

    def __init__(self, use_bias: bool, seed: int | None):
        self.use_bias = use_bias
        self.glorot = keras.initializers.GlorotUniform(seed=seed)

    def __call__(self, shape, dtype=None):
        kernel = self.glorot((shape[0] - self.use_bias, shape[1]), dtype)
        return tf.pad(kernel, [[0, int(self.use_bias)], [0, 0]])
