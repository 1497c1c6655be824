"""MeanField: its parameters, its map from noise to weights, where it begins."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gaussian import softplus
from tfbnn import posteriors
from tfbnn.core.checks import InvalidInput
from tfbnn.posteriors import MeanField


def built(posterior, shape=(4, 3), **arguments):
    layer = keras.layers.Layer()
    return layer, posterior.build(layer, "kernel", shape, **arguments)


def test_adds_two_float32_variables_and_begins_where_it_says():
    layer, q = built(MeanField(initial_rho=-3.0), loc_initializer="ones")
    assert [weight.name for weight in layer.weights] == ["kernel_loc", "kernel_rho"]
    loc, scale = q.factorised_gaussian
    np.testing.assert_array_equal(loc, np.ones((4, 3)))
    np.testing.assert_allclose(scale, np.full((4, 3), softplus(-3.0)), rtol=1e-6)


def test_the_default_scale_is_that_of_rho_minus_4():
    np.testing.assert_allclose(built(MeanField())[1].factorised_gaussian[1], np.full((4, 3), 0.01815), rtol=1e-3)


def test_its_own_initializer_comes_before_the_layers():
    _, q = built(MeanField(loc_initializer=keras.initializers.Constant(2.0)), loc_initializer="ones")
    np.testing.assert_array_equal(q.loc, np.full((4, 3), 2.0))


def test_transform_is_loc_plus_scale_eps():
    layer, q = built(MeanField())
    rng = np.random.default_rng(0)
    loc, rho, eps = rng.standard_normal((3, 4, 3)).astype("f")
    layer.weights[0].assign(loc)
    layer.weights[1].assign(rho)
    np.testing.assert_allclose(q.transform(tf.constant(eps)), loc + softplus(rho) * eps, rtol=1e-5)


def test_the_distribution_follows_its_variables():
    layer, q = built(MeanField())
    layer.weights[0].assign(np.full((4, 3), 5.0))
    distribution = q.distribution()
    np.testing.assert_array_equal(distribution.mean(), np.full((4, 3), 5.0))
    assert distribution.event_shape == (4, 3)


@pytest.mark.parametrize("family", [MeanField, posteriors.FullCovariance])
def test_wrong_arguments_are_named(family):
    with pytest.raises(InvalidInput, match="`initial_rho`"):
        family(initial_rho=float("nan"))
    with pytest.raises(InvalidInput, match="`loc_initializer`"):
        family(loc_initializer="no such initializer")
