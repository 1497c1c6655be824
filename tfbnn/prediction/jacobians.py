"""How the outputs of a network of points move with its weights: Jacobians by the row, and products with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import InvalidInput, invalid
from tfbnn.core.traversal import sublayers
from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.dense import Dense

NUMBERS_AT_ONCE = 2**23  # of the Jacobians that are held together: 32 MiB


@dataclasses.dataclass(frozen=True)
class LayerWeights:
    """The trained weights that a layer itself holds, without those of layers inside it."""

    layer: keras.layers.Layer
    variables: list[keras.Variable]

    @property
    def is_dense(self) -> bool:
        """Whether the weights are a kernel [D, U] and perhaps a bias [U], or both in one tensor [D + 1, U]."""
        ranks = [len(variable.shape) for variable in self.variables]
        return isinstance(self.layer, Dense | keras.layers.Dense) and ranks in ([2], [2, 1])


def trained_weights(network: keras.Model) -> list[LayerWeights]:
    """The trained weights of each layer that has some, in the order in which Keras tracks layers."""
    seen: set[int] = set()
    found = []
    for layer in sublayers(network):
        inside = {id(variable) for other in sublayers(layer)[1:] for variable in other.variables}
        own = [v for v in _trained(layer) if id(v) not in seen | inside]
        seen |= {id(variable) for variable in own}
        found += [LayerWeights(layer, own)] if own else []
    return found


def _trained(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Of a layer of tfbnn w alone: a prior may have variables too, of which no output is a function."""
    if not isinstance(layer, VariationalLayer):
        return layer.trainable_variables
    if not all(term.q.is_point for term in layer.weight_terms):
        raise invalid("network", "a network of points", f"one whose layer {layer.name} has a posterior")
    return [term.q.loc for term in layer.weight_terms] if layer.trainable else []  # type: ignore[attr-defined]


def size_of(variables: Sequence[keras.Variable]) -> int:
    """W, numbers in all variables."""
    return sum(tf.TensorShape(variable.shape).num_elements() for variable in variables)


def flat(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """The numbers of all tensors one after another, float32 [W]."""
    return tf.concat([tf.reshape(tf.cast(value, tf.float32), [-1]) for value in values], axis=0)


def unflat(numbers: tf.Tensor, variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
    """[..., W] -> tensors [..., *shape of each variable]."""
    parts = tf.split(numbers, [size_of([variable]) for variable in variables], axis=-1)
    lead = tf.shape(numbers)[:-1]
    return [tf.reshape(part, tf.concat([lead, list(v.shape)], 0)) for part, v in zip(parts, variables, strict=True)]


def outputs_of(network: keras.Model, x: Any) -> tf.Tensor:
    """f, float32 [B, P]."""
    return tf.cast(network(x, training=False), tf.float32)


def row_jacobians(network: keras.Model, variables: Sequence[keras.Variable], x: Any) -> tf.Tensor:
    """J = df(x_b, w) / dw of each row: float32 [B, P, W]."""
    values = [variable.value for variable in variables]

    def of_row(row):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(values)
            outputs = tf.unstack(outputs_of(network, keras.tree.map_structure(lambda part: part[tf.newaxis], row))[0])
        return tf.stack([flat(tape.gradient(f, values, unconnected_gradients="zero")) for f in outputs])

    return tf.vectorized_map(of_row, x)


def in_parts(of_rows: Callable[[Any], tf.Tensor], x: Any, rows_at_once: int) -> tf.Tensor:
    """of_rows(x), [B, ...], computed for at most so many rows at once."""
    rows = tf.shape(keras.tree.flatten(x)[0])[0]
    size = tf.minimum(rows_at_once, rows)
    count = -(-rows // size)

    def stacked(part):
        padded = tf.pad(part, [[0, count * size - rows], *[[0, 0]] * (len(part.shape) - 1)])
        return tf.reshape(padded, tf.concat([[count, size], tf.shape(part)[1:]], 0))

    x = keras.tree.map_structure(stacked, x)
    parts = tf.map_fn(of_rows, x, fn_output_signature=tf.float32, parallel_iterations=1)
    return tf.reshape(parts, tf.concat([[count * size], tf.shape(parts)[2:]], 0))[:rows]


def jacobian_products(
    network: keras.Model, variables: Sequence[keras.Variable], x: Any, num_outputs: int, tangents: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """f [B, P], and J dw [S, B, P] for S changes of the weights, without J itself.

    J dw is the derivative by u of (J^T u) dw, so that backward passes alone compute it.

    Args:
        network: of points.
        variables: w.
        x: rows.
        num_outputs: P.
        tangents: dw, a tensor [S, *its shape] for each variable.
    """
    values = [tf.convert_to_tensor(variable.value) for variable in variables]
    u = tf.zeros([tf.shape(keras.tree.flatten(x)[0])[0], num_outputs])
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(u)
        with tf.GradientTape() as inner:
            inner.watch(values)
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                f = outputs_of(network, x)
            along = tf.reduce_sum(u * f)
        pulled = flat(inner.gradient(along, values, unconnected_gradients="zero"))

    def product(changes):
        return outer.gradient(pulled, u, output_gradients=flat(changes), unconnected_gradients="zero")

    return f, tf.vectorized_map(product, list(tangents))


class DensePass:
    """One pass of a network that tells the inputs of its dense layers and the derivatives by what they put out.

    Args:
        network: sequential or functional.
        layers: the dense layers.
    """

    def __init__(self, network: keras.Model, layers: Sequence[LayerWeights]):
        self.layers = list(layers)
        self._whole = _telling(network, [part.layer for part in self.layers])

    def __call__(self, x: Any) -> tuple[tf.Tensor, list[tuple[tf.Tensor, tf.Tensor]]]:
        """Of rows x.

        Returns:
            f [B, P]; and for each layer, whose outputs before the activation are s = a w: a [B, R] (with a last
            column of ones where there is a bias), and df / ds [B, P, U].
        """
        with tf.GradientTape(persistent=True) as tape:
            inputs, outputs, f = self._whole(x, training=False)
            each = tf.unstack(tf.cast(f, tf.float32), axis=-1)
        told = []
        for part, a, h in zip(self.layers, inputs, outputs, strict=True):
            by_h = tf.stack([tape.gradient(f_p, h, unconnected_gradients="zero") for f_p in each], axis=1)
            a = with_ones(part, tf.cast(a, tf.float32))
            told.append((a, _before_activation(part, a, tf.cast(by_h, tf.float32))))
        return tf.stack(each, axis=-1), told


def kernel_of(part: LayerWeights) -> tf.Tensor:
    """Kernel and bias of a dense layer as one float32 matrix [R, U], the bias its last row."""
    values = [tf.cast(tf.convert_to_tensor(variable.value), tf.float32) for variable in part.variables]
    return tf.concat([v if len(v.shape) == 2 else v[tf.newaxis] for v in values], axis=0)


def with_ones(part: LayerWeights, a: tf.Tensor) -> tf.Tensor:
    """Inputs [B, D] of a dense layer with a column of ones, where it has a bias."""
    return tf.concat([a, tf.ones_like(a[:, :1])], axis=1) if part.layer.use_bias else a


def _before_activation(part: LayerWeights, a: tf.Tensor, by_h: tf.Tensor) -> tf.Tensor:
    """df/dh [B, P, U] -> df/ds, h = activation(s)."""
    if part.layer.activation is keras.activations.linear:
        return by_h
    s = tf.matmul(a, kernel_of(part))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(s)
        h = part.layer.activation(s)
    return tf.stack([tape.gradient(h, s, output_gradients=part_h) for part_h in tf.unstack(by_h, axis=1)], axis=1)


def _telling(network: keras.Model, layers: Sequence[keras.layers.Layer]) -> keras.Model:
    """A model of the same layers that puts out inputs and outputs of some, and its own."""
    calls: dict[int, list[tuple[Any, Any]]] = {id(layer): [] for layer in layers}

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        calls.setdefault(id(layer), []).append((args[0], outputs))
        return outputs

    try:
        functional = keras.Model(network.inputs, network.outputs)
        same = keras.models.clone_model(functional, clone_function=lambda layer: layer, call_function=call)
    except (AttributeError, ValueError, TypeError) as error:
        raise _cannot_follow(network, f"it is no sequential or functional one ({error})") from None
    for layer in layers:
        _check_calls(network, layer, calls[id(layer)])
    inputs, outputs = ([calls[id(layer)][0][side] for layer in layers] for side in (0, 1))
    return keras.Model(same.inputs, [inputs, outputs, same.outputs[0]])


def _check_calls(network: keras.Model, layer: keras.layers.Layer, calls: Sequence[tuple[Any, Any]]) -> None:
    if len(calls) != 1:
        told = f"calls it {len(calls)} times" if calls else "holds it inside another layer"
        raise _cannot_follow(network, f"of layer {layer.name}, the network {told}")
    if len(calls[0][0].shape) != 2:
        raise _cannot_follow(network, f"layer {layer.name} takes inputs of shape {list(calls[0][0].shape)}")


def _cannot_follow(network: keras.Model, why: str) -> InvalidInput:
    expected = "a network whose dense layers are each called once, on rows [B, D], as Kronecker factors need it"
    return invalid("network", expected, f"{network.name}: {why}", "Take structure 'full' or 'diagonal'.")
