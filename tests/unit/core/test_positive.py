"""Positive numbers from free ones, and back."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.core.positive import in_training_steps, inverse_positive, positive


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 0.3, 1.0, 20.0, 1e6])
def test_there_and_back(scale):
    np.testing.assert_allclose(positive(np.float32(inverse_positive(scale))), scale, rtol=1e-5)


def test_softplus():
    np.testing.assert_allclose(positive(np.float32([-1.0, 0.0, 2.0])), np.log1p(np.exp([-1.0, 0.0, 2.0])), rtol=1e-6)


@pytest.mark.parametrize("scale", [5e-324, 1e308])
def test_the_inverse_is_finite(scale):
    assert math.isfinite(inverse_positive(scale))


def test_arrays_too():
    scales = np.array([1e-3, 2.0])
    np.testing.assert_array_equal(inverse_positive(scales), [inverse_positive(scale) for scale in scales])


def test_in_steps_values_and_slopes_are_the_same():
    rho = tf.constant([-80.0, -4.0, 0.0, 3.0, 200.0])
    with tf.GradientTape() as tape, in_training_steps():
        tape.watch(rho)
        scale = positive(rho)
    np.testing.assert_allclose(scale, positive(rho), rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(scale, rho), 1 / (1 + np.exp(-np.float64(rho))), rtol=1e-6)
