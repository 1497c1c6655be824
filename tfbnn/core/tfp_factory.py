"""Takes TFP's layer factories: functions of (dtype, shape, name, trainable, add_variable_fn) -> distribution."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import invalid

tfd = tfp.distributions


def takes_tensor(fn: Callable) -> bool:
    """Whether `fn` has the five parameters of a factory that is called once a tensor."""
    return takes(fn, 5)


def takes_layer(fn: Callable) -> bool:
    """Whether `fn` has the three parameters (kernel_size, bias_size, dtype) of one that is called once a layer.

    TFP's tutorials write them as (kernel_size, bias_size=0, dtype=None).
    """
    return takes(fn, 3) and not takes_tensor(fn)


def takes(fn: Callable, count: int) -> bool:
    """Whether `fn` can be called with `count` positional arguments."""
    try:
        inspect.signature(fn).bind(*[None] * count)
    except TypeError:
        return False
    return True


class TFPWeights:
    """The distribution that a TFP factory makes of one tensor, with variables that belong to a Keras layer.

    The factory runs once to make its variables, and anew, on the same variables, whenever the distribution is asked
    for: what it computes from them (a softplus, say) so follows every update, also where Keras builds the layer inside
    a graph or with stand-ins for its variables.

    Args:
        fn: the factory.
        layer: the Keras layer that shall own the variables.
        name: what the factory calls its variables ("kernel_posterior").
        shape: shape of the tensor.
        argument: of the layer that gave the factory, for errors.

    Raises:
        InvalidInput: where the factory returns something else than a distribution over tensors of `shape`.
    """

    def __init__(self, fn: Callable, layer: keras.layers.Layer, name: str, shape: tuple[int, ...], argument: str):
        # Trainable even in a frozen layer, which freezes its variables itself and can be thawed.
        self._call = lambda add_variable_fn: fn(tf.float32, shape, name, True, add_variable_fn)
        self.variables: list[keras.Variable] = []

        def add_variable_fn(name, shape, initializer=None, regularizer=None, constraint=None, trainable=True, **_):
            variable = layer.add_weight(
                name=name.replace("/", "_"),
                shape=tuple(int(size) for size in shape),
                initializer=_initializer(initializer),
                regularizer=regularizer,
                constraint=constraint,
                dtype="float32",
                autocast=False,
                trainable=trainable,
            )
            self.variables.append(variable)
            return variable.value

        _check_distribution(argument, self._call(add_variable_fn), shape)

    def distribution(self) -> Any:
        """The `tfd` distribution at the variables' present values."""
        made = iter(self.variables)
        return self._call(lambda *_, **__: next(made).value)


def _check_distribution(argument: str, distribution: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(distribution, tfd.Distribution):
        raise invalid(argument, "a factory that returns a tfp.distributions.Distribution", distribution)
    event = distribution.batch_shape + distribution.event_shape
    if event.as_list() != list(shape):
        raise invalid(argument, f"a distribution over tensors of shape {list(shape)}", event.as_list())


def _initializer(initializer: Any) -> Any:
    """TF1 and tf_keras initializers want TensorFlow dtypes where Keras passes strings."""
    if initializer is None or isinstance(initializer, str | keras.initializers.Initializer):
        return initializer or "zeros"

    def fresh(shape, dtype=None):
        # a fresh copy a call: TFP's default factories share one object, which would repeat its numbers
        reusable = hasattr(initializer, "from_config")
        copy = initializer.from_config(initializer.get_config()) if reusable else initializer
        return copy(shape, dtype=tf.as_dtype(dtype or "float32"))

    return fresh


def gaussian_parameters(distribution: Any) -> tuple[tf.Tensor, tf.Tensor] | None:
    """(loc, scale) where `distribution` is a factorised Gaussian or a point; None where it is neither."""
    if isinstance(distribution, tfd.Independent):
        return gaussian_parameters(distribution.distribution)
    shape = distribution.batch_shape + distribution.event_shape
    if isinstance(distribution, tfd.Normal):
        return tf.broadcast_to(distribution.loc, shape), tf.broadcast_to(distribution.scale, shape)
    if isinstance(distribution, tfd.MultivariateNormalDiag):
        return tf.broadcast_to(distribution.loc, shape), tf.broadcast_to(distribution.stddev(), shape)
    if is_point(distribution):
        loc = tf.broadcast_to(distribution.loc, shape)
        return loc, tf.zeros_like(loc)
    return None


def is_point(distribution: Any) -> bool:
    """Whether all of the distribution's mass is on one value."""
    if isinstance(distribution, tfd.Independent):
        return is_point(distribution.distribution)
    return isinstance(distribution, tfd.Deterministic | tfd.VectorDeterministic)


def free_parameters(variables: list[keras.Variable], shape: tuple[int, ...]) -> float:
    """How many trainable numbers there are for each weight."""
    return sum(int(np.prod(variable.shape)) for variable in variables if variable.trainable) / int(np.prod(shape))
