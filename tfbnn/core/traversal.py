"""Which layers a Keras model is made of."""

from __future__ import annotations

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
