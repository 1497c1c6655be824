"""Networks that are chains: each layer is called once, on the outputs of the one before."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def chain_of(network: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a network of which each is called once, on the outputs of the one before; else none."""
    if type(network).__module__.split(".")[0] != "keras" or len(getattr(network, "inputs", None) or []) != 1:
        return []  # a class with a `call` of its own, or no graph of layers
    if type(network) is keras.Sequential:
        return network.layers
    try:
        described = network.get_config()
    except (NotImplementedError, ValueError):  # a layer that cannot be described
        return []
    names = [layer["name"] for layer in described["layers"]]
    called_on = [_tensors_in(layer["inbound_nodes"]) for layer in described["layers"]]
    layers = {layer.name: layer for layer in network.layers}
    is_chain = called_on == [[], *([[name, 0, 0]] for name in names[:-1])] and set(names) == set(layers)
    return [layers[name] for name in names[1:]] if is_chain else []


def run(layers: Sequence[keras.layers.Layer], h: tf.Tensor) -> tf.Tensor:
    """The layers as a network calls them when it predicts."""
    for layer in layers:
        takes_training = "training" in inspect.signature(layer.call).parameters
        h = layer(h, training=False) if takes_training else layer(h)
    return h


def _tensors_in(nodes: Any) -> list[list[Any]]:
    """[layer, number of its call, number of the output] of each tensor that calls are made on."""
    if isinstance(nodes, dict):
        if nodes.get("class_name") == "__keras_tensor__":
            return [list(nodes["config"]["keras_history"])]
        nodes = list(nodes.values())
    return [tensor for part in nodes for tensor in _tensors_in(part)] if isinstance(nodes, list | tuple) else []
