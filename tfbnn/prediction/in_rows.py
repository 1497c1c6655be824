"""Draws in the axis of the rows: networks that may see the rows of many draws as so many rows more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.noise import Plan
from tfbnn.core.traversal import sublayers
from tfbnn.prediction.chain import chain_of
from tfbnn.prediction.convolutions import ConvolutionalHead

AT_ONCE = {5: 5, 2: 128}  # blocks of draws, and the most rows for so many: calls cost more than rows, or products do


def blocks_at_once(num_rows: tf.Tensor) -> tf.Tensor:
    """How many blocks of draws go through a network together, int32 scalar: 1 where there are many rows."""
    together: Any = 1
    for blocks, most in reversed(AT_ONCE.items()):
        together = tf.where(num_rows <= most, blocks, together)
    return together


def draws_stack_in_rows(network: keras.Model, plan: Plan) -> bool:
    """Whether draws can go through a network as so many rows more.

    So it is where no layer mixes rows, as far as that is known, and all noise is around the outputs of layers of a
    chain: rows before the first noise, of which there are fewer, meet none behind it.

    Args:
        network: built.
        plan: of what it asks for.
    """
    layers = chain_of(network)
    return bool(layers and plan.requests) and _is_around(network, layers, set(plan.requests), plan)


def rest_stacks_in_rows(head: ConvolutionalHead, network: keras.Model, plan: Plan) -> bool:
    """As `draws_stack_in_rows`, for what comes behind the convolutions of a network."""
    of_head = {id(layer) for layer in head.layers}
    requests = {(index, name) for index, name in plan.requests if id(plan.layers[index]) not in of_head}
    return _is_around(network, head.rest, requests, plan)


def _is_around(
    network: keras.Model, layers: Sequence[keras.layers.Layer], requests: set[tuple[int, str]], plan: Plan
) -> bool:
    """Whether `layers` keep rows apart, and `requests` are for noise around their outputs."""
    ids = {id(layer) for layer in layers}
    by_layers = requests <= plan.around and all(id(plan.layers[index]) in ids for index, _ in requests)
    return network.inputs[0].shape[0] is None and by_layers and all(map(_keeps_rows_apart, layers))


def _keeps_rows_apart(layer: keras.layers.Layer) -> bool:
    """False where it is not known: for a layer or an activation of a user's own, or a nested model that is no chain."""
    parts = sublayers(layer)
    if any(isinstance(part, keras.Model) and not chain_of(part) for part in parts):
        return False  # it may have operations that are no layers
    made_of: list[Any] = [type(part) for part in parts]
    made_of += [part.activation for part in parts if getattr(part, "activation", None) is not None]
    is_known = all(getattr(part, "__module__", "").split(".")[0] in ("keras", "tfbnn") for part in made_of)
    return is_known and not any(
        isinstance(part, keras.layers.Lambda) or getattr(part, "stateful", False) or _may_work_on_rows(part)
        for part in parts
    )


def _may_work_on_rows(layer: keras.layers.Layer) -> bool:
    """Whether its `axis`, where it has one, is or may be that of the rows."""
    axes = getattr(layer, "axis", None)
    return any(axis == 0 or axis < -1 for axis in keras.tree.flatten(axes) if isinstance(axis, int))
