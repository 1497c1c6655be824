"""Posteriors of TFP's factory functions: sampled by noise where they are Gaussian, by seed where they are not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn import posteriors
from tfbnn.core.noise import Seeded, Tape, seed_pair
from tfbnn.posteriors import TFPFunction

tfd = tfp.distributions


def with_distribution(make):
    def fn(dtype, shape, name, trainable, add_variable_fn):
        loc = add_variable_fn(name=name + "_loc", shape=shape, initializer="ones", dtype=dtype, trainable=trainable)
        return make(loc, shape)

    return fn


GAUSSIANS = {
    "independent normal": lambda loc, shape: tfd.Independent(tfd.Normal(loc, 0.5), len(shape)),
    "batch of normals": lambda loc, shape: tfd.Normal(loc, 0.5),
    "diagonal": lambda loc, shape: tfd.MultivariateNormalDiag(loc, tf.fill(shape[-1:], 0.5)),
}


def built(make, shape=(2, 3)):
    layer = keras.layers.Layer()
    return layer, posteriors.get(with_distribution(make)).build(layer, "kernel", shape)


@pytest.mark.parametrize("make", GAUSSIANS.values(), ids=GAUSSIANS)
def test_a_gaussian_takes_its_draw_from_the_noise_and_follows_its_variables(make):
    layer, q = built(make)
    layer.weights[0].assign(np.full((2, 3), 2.0))
    eps = np.random.default_rng(0).standard_normal((2, 3)).astype("f")
    drawn = q.sample(Tape({(0, "kernel"): eps}, [layer]))
    np.testing.assert_allclose(drawn, 2.0 + 0.5 * eps, rtol=1e-6)


def test_any_other_is_sampled_by_seed():
    _, q = built(lambda loc, shape: tfd.Independent(tfd.StudentT(3.0, loc, 0.1), 2))
    assert q.factorised_gaussian is None
    one, again, other = (q.sample(Seeded(seed_pair(seed), [])).numpy() for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.isin(one, other).any()


def test_a_correlated_gaussian_is_no_factorised_one():
    _, q = built(lambda loc, shape: tfd.MultivariateNormalTriL(loc, tf.eye(3)))
    assert q.factorised_gaussian is None


def test_equal_functions_make_equal_factories():
    def fn(dtype, shape, name, trainable, add_variable_fn):
        raise NotImplementedError

    assert TFPFunction(fn) == TFPFunction(fn)
    assert posteriors.get(fn) == TFPFunction(fn)
