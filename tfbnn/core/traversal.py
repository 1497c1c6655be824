"""Which layers a Keras model is made of."""

from __future__ import annotations

import keras


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """All layers inside `layer`, itself first, each once, in the order in which Keras tracks them."""
    # Keras has no public walk through nested layers (`Model.layers` stops at the first level and custom layers
    # have none); tests/unit/core/test_traversal.py tells when this private one changes.
    return list(layer._flatten_layers(include_self=True, recursive=True))
