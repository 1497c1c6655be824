"""Marginal and coherent prediction: one distribution for each row alone, different ones for rows together.

Two-sample Kolmogorov-Smirnov tests of 10^5 draws each. A row alone is tested at a false-alarm rate of ALPHA; at
10^5 draws the critical distance is sqrt(-ln(ALPHA / 2) / 10^5) = 0.0107, so that a distribution whose cdf is off by
0.015 anywhere is seen nearly always. A scale that is off by 5 % moves a Gaussian's cdf by 0.05 phi(1) = 0.012 at one
standard deviation.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from scipy import stats

import tfbnn

S = 100_000
ALPHA = 1e-5
ROWS = np.array([[1.0, -0.5, 0.3], [0.8, -0.2, 0.5], [-1.5, 2.0, 0.0]], np.float32)


@functools.cache
def network(layer: str):
    """Two hidden layers; variables set to numbers that make the noise of all layers matter."""
    keras.utils.set_random_seed(1)
    cls = getattr(tfbnn.layers, layer)
    layers = [cls(5, activation="tanh"), cls(4, activation="tanh"), cls(1)]
    net = keras.Sequential([keras.Input((3,)), *layers])
    rng = np.random.default_rng(2)
    for variable in net.trainable_variables:
        center, width = (-1.0, 0.5) if "rho" in variable.name else (0.0, 0.8)
        variable.assign(center + width * rng.normal(size=variable.shape))
    return net


def draws_of(layer: str, coupling: str, seed: int) -> np.ndarray:
    """[S, rows] draws of the network's output."""
    model = tfbnn.BayesianModel(network(layer), tfbnn.likelihoods.Normal(scale=1.0), seed=0)
    return model.predict_distribution(ROWS, S, seed=seed, coupling=coupling).parameters[..., 0]


def explicit_draws(layer: str, seed: int) -> np.ndarray:
    """[S, rows] draws of the same network in NumPy: weights from their means and softplus scales, one set a draw."""
    rng = np.random.default_rng(seed)
    hidden = np.broadcast_to(ROWS, (S, *ROWS.shape))
    layers = network(layer).layers
    for number, built in enumerate(layers):
        kernel, bias = (_sample(q, rng) for q in built.weight_posteriors)
        hidden = np.einsum("sbd,sdu->sbu", hidden, kernel) + bias[:, None]
        hidden = np.tanh(hidden) if number < len(layers) - 1 else hidden
    return hidden[..., 0]


def _sample(q, rng) -> np.ndarray:
    loc, scale = q.loc.numpy(), np.logaddexp(0.0, q.rho.numpy())
    return (loc + scale * rng.normal(size=(S, *loc.shape))).astype("float32")


LAYER = "DenseFlipout"


@pytest.fixture(scope="module")
def marginal():
    return draws_of(LAYER, "marginal", seed=1)


@pytest.fixture(scope="module")
def coherent():
    return draws_of(LAYER, "coherent", seed=2)


@pytest.fixture(scope="module")
def explicit():
    return explicit_draws(LAYER, seed=3)


def p_values(a, b) -> np.ndarray:
    return np.array([stats.ks_2samp(a[:, row], b[:, row]).pvalue for row in range(len(ROWS))])


def test_each_row_alone_has_one_distribution(marginal, coherent, explicit):
    assert p_values(marginal, coherent).min() > ALPHA
    assert p_values(marginal, explicit).min() > ALPHA
    assert p_values(coherent, explicit).min() > ALPHA


def test_a_scale_five_percent_off_is_seen(marginal, coherent):
    mean = marginal.mean(0)
    assert p_values(mean + 1.05 * (marginal - mean), coherent).max() < ALPHA


def test_noise_that_a_layer_leaves_out_is_seen(coherent):
    """The variance of the last kernel is left out, as a wrong local reparameterization would."""
    net = network(LAYER)
    rho = net.layers[-1].weight_posteriors[0].rho
    kept = rho.numpy()
    rho.assign(np.full(rho.shape, -20.0))
    try:
        without = draws_of(LAYER, "marginal", seed=1)
    finally:
        rho.assign(kept)
    assert p_values(without, coherent).max() < ALPHA


def correlations(draws) -> np.ndarray:
    return np.corrcoef(draws.T)[np.triu_indices(len(ROWS), 1)]


def test_coherent_rows_are_those_of_one_network(coherent, explicit):
    """A correlation of S draws has a standard error below 1 / sqrt(S); two are compared at 5 sqrt(2) of it."""
    np.testing.assert_allclose(correlations(coherent), correlations(explicit), atol=5 * np.sqrt(2 / S))
    difference = stats.ks_2samp(coherent[:, 0] - coherent[:, 1], explicit[:, 0] - explicit[:, 1])
    assert difference.pvalue > ALPHA


def test_marginal_rows_are_not_one_network(marginal, explicit):
    """One noise for all rows, on the outputs: rows go together otherwise than under one weight draw."""
    assert np.abs(correlations(marginal) - correlations(explicit)).max() > 0.05
    difference = stats.ks_2samp(marginal[:, 0] - marginal[:, 1], explicit[:, 0] - explicit[:, 1])
    assert difference.pvalue < ALPHA


def test_correlation_of_two_rows_of_a_linear_layer():
    """One layer y = x w + b: coherent rows have covariance x S z + s^2, marginal ones share all their noise (+1)."""
    layer = tfbnn.layers.DenseFlipout(1, kernel_posterior_fn=tfbnn.posteriors.MeanField(initial_rho=0.0))
    model = tfbnn.BayesianModel(
        keras.Sequential([keras.Input((3,)), layer]), tfbnn.likelihoods.Normal(scale=1.0), seed=0
    )
    scale = np.log(2.0), np.logaddexp(0.0, -4.0)
    covariance = scale[0] ** 2 * ROWS @ ROWS.T + scale[1] ** 2
    expected = covariance[0, 2] / np.sqrt(covariance[0, 0] * covariance[2, 2])
    assert expected < 0
    for coupling, correlation in (("coherent", expected), ("marginal", 1.0)):
        draws = model.predict_distribution(ROWS, S, seed=1, coupling=coupling).parameters[..., 0]
        np.testing.assert_allclose(draws.var(0), np.diag(covariance), rtol=5 * np.sqrt(2 / S))
        assert np.corrcoef(draws[:, 0], draws[:, 2])[0, 1] == pytest.approx(correlation, abs=5 / np.sqrt(S))


@pytest.mark.slow
def test_another_estimator_of_training_predicts_the_same_way():
    layer = "DenseLocalReparameterization"
    explicit = explicit_draws(layer, seed=3)
    assert p_values(draws_of(layer, "marginal", seed=1), explicit).min() > ALPHA
    assert p_values(draws_of(layer, "coherent", seed=2), explicit).min() > ALPHA


def scalar_layer(**kwargs):
    """y = w x, w ~ Normal(0, 1)."""
    posterior = tfbnn.posteriors.MeanField("zeros", initial_rho=float(np.log(np.expm1(1.0))))
    return tfbnn.layers.DenseFlipout(1, use_bias=False, kernel_posterior_fn=posterior, **kwargs)


def marginal_draws(network, x) -> np.ndarray:
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=1.0), seed=0)
    return model.predict_distribution(np.array(x, np.float32), S, seed=1).parameters[:, 0, 0]


def test_a_layer_that_is_called_twice_has_one_weight_in_both_calls():
    """y = w (w x) at x = -1 is -w^2; noise on the outputs would make it of either sign."""
    inputs, layer = keras.Input((1,)), scalar_layer()
    drawn = marginal_draws(keras.Model(inputs, layer(layer(inputs))), [[-1.0]])
    assert drawn.max() <= 0
    assert stats.ks_1samp(-drawn, stats.chi2(1).cdf).pvalue > ALPHA


def test_a_weight_that_meets_a_row_at_several_positions_is_one():
    """w x_1 + w x_2 at x = (1, -1) is 0, and at (1, 1) it is 2 w."""
    sum_over_positions = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", trainable=False)
    layers = [keras.layers.Reshape((2, 1)), scalar_layer(), keras.layers.Flatten(), sum_over_positions]
    network = keras.Sequential([keras.Input((2,)), *layers])
    np.testing.assert_allclose(marginal_draws(network, [[1.0, -1.0]]), 0.0, atol=1e-6)
    assert stats.ks_1samp(marginal_draws(network, [[1.0, 1.0]]), stats.norm(0, 2).cdf).pvalue > ALPHA


@pytest.mark.slow
def test_a_network_trained_by_flipout_predicts_either_way():
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype("float32")
    y = np.sin(x.sum(1)) + 0.2 * rng.normal(size=64)
    layers = [tfbnn.layers.DenseFlipout(8, activation="tanh"), tfbnn.layers.DenseFlipout(6, activation="tanh")]
    net = keras.Sequential([keras.Input((3,)), *layers, tfbnn.layers.DenseFlipout(1)])
    model = tfbnn.BayesianModel(net, tfbnn.likelihoods.Normal().adapt(y), seed=0)
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(x, y, epochs=60, verbose=0)
    one, other = (
        model.predict_distribution(ROWS, S, seed=seed, coupling=coupling).parameters[..., 0]
        for seed, coupling in ((1, "marginal"), (2, "coherent"))
    )
    assert one.std(0).min() > 0.02
    assert p_values(one, other).min() > ALPHA
