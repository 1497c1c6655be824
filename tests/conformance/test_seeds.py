"""Layers with the same seed draw the same stream of noise; without one, each its own."""

import numpy as np
import pytest

from conformance.cases import CASES, inputs_of
from tfbnn.layers import BatchEnsemble, MCDropout, RandomFeatures

# But those in which nothing is random: rows of an ensemble have members by their place.
QUIET = (BatchEnsemble, RandomFeatures)
LAYERS = [case for case in CASES if case.family == "layer" and case.cls not in QUIET]


def share_no_number(case, one, other):
    """Of masks, whose numbers are 0 or 1, those of all rows together."""
    same = np.asarray(one) == np.asarray(other)
    return not (same.all() if case.cls is MCDropout else same.any())


def stream(layer, weights=None):
    x = inputs_of(layer)
    outputs = layer(x)  # builds it
    if weights is not None:
        layer.set_weights(weights)
        return np.stack([layer(x), layer(x)])
    return outputs


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_same_seed_same_stream(case):
    first, second = case.make(), case.make()
    stream(first)
    weights = first.get_weights()
    streams = stream(case.make(), weights), stream(second, weights)
    np.testing.assert_array_equal(*streams)
    assert share_no_number(case, *streams[0])


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_no_seed_another_stream(case):
    config = {**case.make().get_config(), "seed": None}
    first, second = case.cls.from_config(config), case.cls.from_config(config)
    x = inputs_of(first)
    first(x), second(x)
    trainable = [weight.numpy() for weight in first.trainable_weights]
    for weight, value in zip(second.trainable_weights, trainable, strict=True):
        weight.assign(value)
    assert share_no_number(case, first(x), second(x))
