"""Which layers a Keras model is made of."""

from __future__ import annotations

from typing import Any

import keras


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """All layers inside `layer`, itself first, each once, in the order in which Keras tracks them."""
    # Keras has no public walk through nested layers (`Model.layers` stops at the first level and custom layers
    # have none); tests/unit/core/test_traversal.py tells when this private one changes.
    return list(layer._flatten_layers(include_self=True, recursive=True))


def freeze(layer: keras.layers.Layer) -> None:
    """Sets `trainable=False` on all parts: Keras does not reach those that a frozen layer made when it was built."""
    for part in sublayers(layer):
        part.trainable = False


def unfrozen(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The weights of `layer` that training would change if none of its layers were frozen (`trainable=False`)."""
    own = {id(variable) for part in sublayers(layer) for variable in part._trainable_variables}  # private, likewise
    return [variable for variable in layer.variables if id(variable) in own]


def chain(network: keras.Model) -> list[keras.layers.Layer]:
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


def _tensors_in(nodes: Any) -> list[list[Any]]:
    """[layer, number of its call, number of the output] of each tensor that calls are made on."""
    if isinstance(nodes, dict):
        if nodes.get("class_name") == "__keras_tensor__":
            return [list(nodes["config"]["keras_history"])]
        nodes = list(nodes.values())
    return [tensor for part in nodes for tensor in _tensors_in(part)] if isinstance(nodes, list | tuple) else []
