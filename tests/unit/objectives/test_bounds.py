"""Renyi bounds as functions of log weights: limits, order, exactness, and where a Gaussian tells the answer."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.objectives import importance_weighted, renyi

ALPHAS = [-1.0, 0.0, 0.5, 0.999999, 1.0, 1.000001, 2.0]
LOG_WEIGHTS = np.array([-3.0, -1.0, 0.5, -2.0])


def by_formula(log_weights, alpha):
    """In float64."""
    return np.log(np.mean(np.exp((1 - alpha) * np.asarray(log_weights, np.float64)))) / (1 - alpha)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 0.95, 1.1, 2.0])
def test_it_is_the_formula(alpha):
    assert float(renyi(LOG_WEIGHTS, alpha)) == pytest.approx(by_formula(LOG_WEIGHTS, alpha), rel=1e-6)
    assert float(renyi(LOG_WEIGHTS, alpha)) != pytest.approx(by_formula(LOG_WEIGHTS, alpha + 0.1), rel=1e-4)


@pytest.mark.parametrize("K", [1, 2, 7])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_equal_weights_are_every_bound(alpha, K):
    assert float(renyi(tf.fill([K], -1234.5), alpha)) == -1234.5


@pytest.mark.parametrize("alpha", [1.0 - 1e-6, 1.0, 1.0 + 1e-6])
def test_alpha_1_and_its_neighbours_are_the_elbo(alpha):
    log_weights = tf.constant(1000.0 * LOG_WEIGHTS, tf.float32)
    assert float(renyi(log_weights, alpha)) == pytest.approx(1000 * LOG_WEIGHTS.mean(), rel=2e-3)


def test_alpha_0_is_the_importance_weighted_bound():
    assert float(importance_weighted(LOG_WEIGHTS)) == pytest.approx(np.log(np.mean(np.exp(LOG_WEIGHTS))))


def test_it_falls_as_alpha_grows():
    bounds = [float(renyi(LOG_WEIGHTS, alpha)) for alpha in np.linspace(-2, 3, 21)]
    assert (np.diff(bounds) < 0).all()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_far_apart_weights_give_finite_numbers_and_gradients(alpha):
    log_weights = tf.constant([-1e5, 0.0, 30.0])
    with tf.GradientTape() as tape:
        tape.watch(log_weights)
        bound = renyi(log_weights, alpha)
    gradient = tape.gradient(bound, log_weights).numpy()
    assert np.isfinite(float(bound))
    shares = np.exp((1 - alpha) * log_weights.numpy().astype(np.float64) / 1.0 - np.max((1 - alpha) * log_weights))
    np.testing.assert_allclose(gradient, shares / shares.sum(), atol=1e-6)


def test_axes_behind_the_draws_stay():
    both = np.stack([LOG_WEIGHTS, LOG_WEIGHTS[::-1] + 1.0], axis=1)
    expected = [float(renyi(column, 0.5)) for column in both.T]
    np.testing.assert_allclose(renyi(both, 0.5), expected)


def test_its_expectation_grows_with_the_draws_to_that_of_the_divergence():
    """q = N(0, 1), p = N(0, s^2): log w = log p - log q, whose bound goes from -KL to -D_alpha(q || p).

    20,000 repetitions: the standard error of the first mean is 0.01, that of the others less.
    """
    s, alpha = 0.6, 0.5
    w = np.random.default_rng(0).normal(size=(64, 20_000))
    log_weights = -0.5 * (w / s) ** 2 - np.log(s) + 0.5 * w**2
    means = [float(tf.reduce_mean(renyi(log_weights[:K], alpha))) for K in (1, 4, 16, 64)]
    assert (np.diff(means) > 0.004).all()
    mixed = alpha * s**2 + (1 - alpha)
    divergence = np.log(mixed / s ** (2 * alpha)) / (2 * (1 - alpha))
    elbo = -(np.log(s) + 1 / (2 * s**2) - 0.5)
    assert means[0] == pytest.approx(elbo, abs=0.03)
    assert means[-1] == pytest.approx(-divergence, abs=0.01)
    assert means[-1] < 0 < divergence
