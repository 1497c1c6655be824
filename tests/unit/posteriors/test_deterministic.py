"""Deterministic: one value a weight."""

import keras
import numpy as np

from tfbnn.posteriors import Deterministic


def test_one_variable_no_noise():
    layer = keras.layers.Layer()
    q = Deterministic("ones").build(layer, "kernel", (2, 3), "zeros")
    assert [weight.name for weight in layer.weights] == ["kernel_loc"]
    assert q.is_point
    np.testing.assert_array_equal(q.sample(None), np.ones((2, 3)))
    loc, scale = q.factorised_gaussian
    np.testing.assert_array_equal(loc, np.ones((2, 3)))
    np.testing.assert_array_equal(scale, np.zeros((2, 3)))
    np.testing.assert_array_equal(q.distribution().mean(), np.ones((2, 3)))
    assert q.distribution().event_shape == (2, 3)
