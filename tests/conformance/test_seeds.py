"""Layers with the same seed draw the same stream of noise; without one, each its own."""

import numpy as np
import pytest

from conformance.cases import CASES, X

LAYERS = [case for case in CASES if case.family == "layer"]


def stream(layer, weights=None):
    outputs = layer(X)  # builds it
    if weights is not None:
        layer.set_weights(weights)
        return np.stack([layer(X), layer(X)])
    return outputs


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_same_seed_same_stream(case):
    first, second = case.make(), case.make()
    stream(first)
    weights = first.get_weights()
    streams = stream(case.make(), weights), stream(second, weights)
    np.testing.assert_array_equal(*streams)
    assert not (streams[0][0] == streams[0][1]).any()


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_no_seed_another_stream(case):
    config = {**case.make().get_config(), "seed": None}
    first, second = case.cls.from_config(config), case.cls.from_config(config)
    first(X), second(X)
    trainable = [weight.numpy() for weight in first.trainable_weights]
    for weight, value in zip(second.trainable_weights, trainable, strict=True):
        weight.assign(value)
    assert not (first(X).numpy() == second(X).numpy()).any()
