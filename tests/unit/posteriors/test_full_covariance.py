"""FullCovariance: L = diag(softplus(rho)) (I + T), its draws and its limit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gaussian import softplus
from tfbnn.core.checks import InvalidInput
from tfbnn.posteriors import FullCovariance
from tfbnn.posteriors.full_covariance import MAX_WEIGHTS


def built(shape=(3, 2)):
    layer = keras.layers.Layer()
    q = FullCovariance().build(layer, "kernel", shape)
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(0.5 * rng.standard_normal(weight.shape))
    return layer, q


def scale_tril(layer):
    _, rho, correlation = (weight.numpy() for weight in layer.weights)
    return softplus(rho)[:, None] * (np.tril(correlation, -1) + np.eye(len(rho)))


def test_the_covariance_is_l_l_transposed_and_ignores_what_is_above_the_diagonal():
    layer, q = built()
    np.testing.assert_allclose(q.parameters()[1], scale_tril(layer), rtol=1e-5)
    flat = q.distribution().distribution
    np.testing.assert_allclose(flat.covariance(), scale_tril(layer) @ scale_tril(layer).T, rtol=1e-4)


def test_transform_is_loc_plus_l_eps():
    layer, q = built()
    eps = np.random.default_rng(1).standard_normal((3, 2)).astype("f")
    expected = layer.weights[0].numpy() + (scale_tril(layer) @ eps.ravel()).reshape(3, 2)
    np.testing.assert_allclose(q.transform(tf.constant(eps)), expected, rtol=1e-5)


def test_density_is_over_tensors_of_the_weights_shape():
    layer, q = built()
    loc, tril = layer.weights[0].numpy(), scale_tril(layer)
    w = loc + 0.1
    z = np.linalg.solve(tril, np.full(6, 0.1))
    expected = -0.5 * z @ z - np.log(np.diag(tril)).sum() - 3 * np.log(2 * np.pi)
    np.testing.assert_allclose(q.distribution().log_prob(w), expected, rtol=1e-5)


def test_it_begins_uncorrelated():
    layer = keras.layers.Layer()
    q = FullCovariance(initial_rho=-2.0).build(layer, "kernel", (2, 2))
    np.testing.assert_allclose(q.parameters()[1], softplus(-2.0) * np.eye(4), rtol=1e-6)
    assert q.factorised_gaussian is None


def test_sizes_beyond_the_limit_are_refused_with_the_number_before_anything_is_made():
    layer = keras.layers.Layer()
    with pytest.raises(InvalidInput, match=r"`kernel_posterior_fn`.*10,000 weights.*0\.4 GiB.*MeanField"):
        FullCovariance().build(layer, "kernel", (100, 100))
    assert layer.weights == []
    assert MAX_WEIGHTS == 8192
