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


def build_distribution(
    fn: Callable, layer: keras.layers.Layer, name: str, shape: tuple[int, ...], argument: str
) -> tuple[Any, list[keras.Variable]]:
    """Calls a TFP factory once, with weights that belong to `layer`.

    Args:
        fn: the factory.
        layer: the Keras layer that shall own the variables.
        name: what the factory calls its variables ("kernel_posterior").
        shape: shape of the tensor.
        argument: of the layer that gave the factory, for errors.

    Returns:
        The distribution, over float32 tensors of `shape`, and the variables that the factory made for it.

    Raises:
        InvalidInput: where the factory returns something else, or a distribution over another shape.
    """
    variables: list[keras.Variable] = []

    def add_variable_fn(name, shape, initializer=None, regularizer=None, constraint=None, dtype=None, trainable=True,
                        **_):  # fmt: skip
        variable = layer.add_weight(
            shape=tuple(int(size) for size in shape),
            initializer=_initializer(initializer),
            regularizer=regularizer,
            constraint=constraint,
            dtype="float32",
            autocast=False,
            trainable=trainable,
            name=name.replace("/", "_"),
        )
        variables.append(variable)
        return variable.value  # the tf.Variable itself: a distribution built on it follows its updates

    # Variables are always made trainable: a frozen layer freezes them itself, and can be thawed.
    with tf.init_scope():  # Keras builds some models inside a graph, whose tensors would not outlive it
        distribution = fn(tf.float32, shape, name, True, add_variable_fn)
    if not isinstance(distribution, tfd.Distribution):
        raise invalid(argument, "a factory that returns a tfp.distributions.Distribution", distribution)
    event = distribution.batch_shape + distribution.event_shape
    if event.as_list() != list(shape):
        raise invalid(argument, f"a distribution over tensors of shape {list(shape)}", event.as_list())
    _check_connected(argument, distribution, variables)
    return distribution, variables


def _check_connected(where: str, distribution: Any, variables: list[keras.Variable]) -> None:
    followed = {id(variable) for variable in distribution.variables}
    for variable in variables:
        if id(variable.value) not in followed:
            raise invalid(
                where,
                "a distribution that follows its variables",
                f"one built on the value that {variable.name} had at the start",
                "Wrap it: tfp.util.DeferredTensor(variable, tf.nn.softplus) instead of tf.nn.softplus(variable).",
            )


def _initializer(initializer: Any) -> Any:
    """TF1 and tf_keras initializers want TensorFlow dtypes where Keras passes strings."""
    if initializer is None or isinstance(initializer, str | keras.initializers.Initializer):
        return initializer or "zeros"
    if hasattr(initializer, "from_config"):  # TFP's default factories share one object, which would repeat its numbers
        initializer = initializer.from_config(initializer.get_config())
    return lambda shape, dtype=None: initializer(shape, dtype=tf.as_dtype(dtype or "float32"))


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


def free_parameters(variables: list[keras.Variable], shape: tuple[int, ...]) -> int:
    """How many trainable variables have one entry a weight."""
    return sum(v.trainable and int(np.prod(v.shape)) == int(np.prod(shape)) for v in variables)
