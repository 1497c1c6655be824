"""Normal prior."""

import keras
import numpy as np
import pytest

from tfbnn.core.checks import InvalidInput
from tfbnn.priors import Normal


def test_density_of_independent_weights():
    layer = keras.layers.Layer()
    p = Normal(loc=0.5, scale=2.0).build(layer, "kernel", (2, 3)).distribution()
    w = np.arange(6, dtype="f").reshape(2, 3)
    expected = (-0.5 * ((w - 0.5) / 2) ** 2 - np.log(2 * np.sqrt(2 * np.pi))).sum()
    np.testing.assert_allclose(p.log_prob(w), expected, rtol=1e-6)
    assert layer.weights == []


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan"), "wide", None, True])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(InvalidInput, match="`scale`"):
        Normal(scale=scale)


@pytest.mark.parametrize("loc", [float("inf"), float("nan"), "left", None, True])
def test_means_that_are_none_are_refused(loc):
    with pytest.raises(InvalidInput, match="`loc`"):
        Normal(loc=loc)


def test_numpy_numbers_are_numbers():
    assert Normal(np.float32(1), np.float32(2)) == Normal(1.0, 2.0)
