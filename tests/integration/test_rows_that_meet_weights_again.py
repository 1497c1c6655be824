"""Layers whose weights a row meets more than once: one draw of the network has one draw of their weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.layers import DenseFlipout, DenseLocalReparameterization, DenseReparameterization

tfd = tfp.distributions
WIDE = tfbnn.posteriors.MeanField(loc_initializer="zeros", initial_rho=0.5413)  # weights ~ Normal(0, 1)
DRAWS = 20_000


def siamese(make):
    """f(a, b) = L(a) - L(b), which is 0 in every draw where a = b."""
    layer = make(1, use_bias=False, kernel_posterior_fn=WIDE)
    a, b = keras.Input((2,)), keras.Input((2,))
    network = keras.Model([a, b], keras.layers.Subtract()([layer(a), layer(b)]))
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=1.0), seed=0, num_data=4)


def test_training_draws_the_weights_of_a_shared_layer_once():
    model = siamese(DenseReparameterization)
    x = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    for training in (True, False):
        np.testing.assert_allclose(model([x, x], training=training)[:, 0], 0.0, atol=1e-6)
    assert np.abs(model([x, 2 * x], training=True)[:, 0]).max() > 1e-3  # the draw itself is not 0


@pytest.mark.parametrize("make", [DenseFlipout, DenseLocalReparameterization])
def test_estimators_that_give_each_call_other_weights_are_refused(make):
    model = siamese(make)
    model.compile()
    with pytest.raises(InvalidInput, match=r"called again.*DenseReparameterization"):
        model.fit([np.ones((4, 2))] * 2, np.ones(4), verbose=0)
    assert model.predict_distribution([np.ones((4, 2), "float32")] * 2).epistemic_stddev.max() == 0.0


def test_rows_folded_into_the_batch_share_the_weights():
    """Sum over 2 steps of Dense(x_t): Var = (sum x)^2 for weights Normal(0, 1); independent noise would add squares.

    Of 20,000 draws the stddev has a standard error of 0.5 %; the bound is 5 of them, and 1 / sqrt(2) would be seen.
    """
    inputs = keras.Input((2, 1))
    folded = DenseFlipout(1, use_bias=False, kernel_posterior_fn=WIDE)(keras.ops.reshape(inputs, (-1, 1)))
    network = keras.Model(inputs, keras.ops.sum(keras.ops.reshape(folded, (-1, 2)), axis=1, keepdims=True))
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=1.0), seed=0)
    x = np.array([[[1.0], [1.0]], [[1.0], [-1.0]]], "float32")
    stddev = model.predict_distribution(x, DRAWS).epistemic_stddev[:, 0]
    assert stddev[0] == pytest.approx(2.0, rel=0.025)
    assert stddev[1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
def test_elbo_terms_average_a_monte_carlo_kl_over_their_draws():
    """With S = 100 draws the spread over seeds must be about a tenth of that with one; 1/3 is the bound of 20 seeds."""

    def student(dtype, shape, name, trainable, add_variable_fn):
        return tfd.Independent(tfd.StudentT(5.0, np.zeros(shape, "float32"), 1.0), len(shape))

    layer = DenseReparameterization(2, kernel_prior_fn=student, kernel_posterior_fn=WIDE)
    model = tfbnn.BayesianModel(
        keras.Sequential([keras.Input((3,)), layer]), tfbnn.likelihoods.Normal(num_targets=2), seed=0
    )
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    one, many = (np.std([float(model.elbo_terms(x, y, s, seed=seed).kl) for seed in range(20)]) for s in (1, 100))
    assert 0 < many < one / 3


def test_predict_keeps_its_digits_far_from_zero():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    y = 1e5 + x.sum(axis=1)
    network = keras.Sequential([keras.Input((3,)), DenseFlipout(1)])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal().adapt(y), seed=0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict_distribution(x).mean)


def test_draws_are_asked_as_models_are():
    model = siamese(DenseReparameterization)
    x = [np.ones((2, 2), "float32"), np.zeros((2, 2), "float32")]
    expected = model.predict_distribution(x, 5).parameters
    np.testing.assert_array_equal(model.posterior_draws().predict_distribution(x, 5).parameters, expected)
