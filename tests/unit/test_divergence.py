"""KL divergences, in nats, summed over weights."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from gaussian import kl_multivariate_normal, kl_normal, randomised, softplus, variable
from tfbnn.core.noise import Seeded, seed_pair
from tfbnn.divergence import kl_divergence, monte_carlo_kl, user_divergence
from tfbnn.layers import DenseReparameterization, DenseVariational
from tfbnn.posteriors.full_covariance import FullCovarianceNormal
from tfbnn.priors import Normal

tfd = tfp.distributions


def source(number=0):
    return Seeded(seed_pair(number), [])


def normal(loc, scale):
    return tfd.Independent(tfd.Normal(tf.constant(loc, tf.float32), tf.constant(scale, tf.float32)), np.ndim(loc))


# --- exact ------------------------------------------------------------------------------------------------------------


def test_kl_of_a_512_x_512_mean_field_layer_is_the_sum_in_nats():
    layer = randomised(DenseReparameterization(512, kernel_prior_fn=Normal(0.1, 0.7)), (None, 512))
    kernel = kl_normal(variable(layer, "kernel_loc"), softplus(variable(layer, "kernel_rho")), 0.1, 0.7)
    bias = kl_normal(variable(layer, "bias_loc"), softplus(variable(layer, "bias_rho")))
    expected = kernel.sum() + bias.sum()
    assert expected > 100_000  # a mean over the 262,656 weights, or bits for nats, would be far off
    np.testing.assert_allclose(layer.kl_divergence(), expected, rtol=1e-5)


def full_covariance(n=6, seed=0):
    rng = np.random.default_rng(seed)
    tril = np.tril(0.3 * rng.standard_normal((n, n)), -1) + np.diag(0.2 + rng.random(n))
    return rng.standard_normal(n), tril


def test_kl_of_a_full_covariance_against_numpy_and_tfp():
    loc, tril = full_covariance()
    prior_loc, prior_scale = np.full(6, 0.3), np.linspace(0.5, 2.0, 6)
    shape = (3, 2)
    q = FullCovarianceNormal(tf.constant(loc.reshape(shape), tf.float32), tf.constant(tril, tf.float32))
    p = normal(prior_loc.reshape(shape), prior_scale.reshape(shape))
    found = kl_divergence(q, p, "w", source())
    by_numpy = kl_multivariate_normal(loc, tril @ tril.T, prior_loc, np.diag(prior_scale**2))
    by_tfp = tfd.MultivariateNormalTriL(loc, tril).kl_divergence(tfd.MultivariateNormalDiag(prior_loc, prior_scale))
    np.testing.assert_allclose(found, by_numpy, rtol=1e-5)
    np.testing.assert_allclose(found, by_tfp, rtol=1e-5)


def test_kl_of_a_full_covariance_layer_is_that_of_its_distribution():
    layer = randomised(DenseVariational(2, "FullCovariance", Normal(0.0, 0.5)), (None, 2))
    term = layer.weight_terms[0]
    loc, tril = (np.asarray(part, np.float64) for part in term.q.parameters())
    expected = kl_multivariate_normal(loc.ravel(), tril @ tril.T, np.zeros(6), 0.25 * np.eye(6))
    np.testing.assert_allclose(layer.kl_divergence(), expected, rtol=1e-5)


def test_a_diagonal_full_covariance_has_the_kl_of_a_mean_field():
    loc, scale = np.linspace(-1, 1, 6).reshape(3, 2), np.linspace(0.1, 0.6, 6).reshape(3, 2)
    q = FullCovarianceNormal(tf.constant(loc, tf.float32), tf.constant(np.diag(scale.ravel()), tf.float32))
    p = normal(np.zeros((3, 2)), np.ones((3, 2)))
    np.testing.assert_allclose(kl_divergence(q, p, "w", source()), kl_normal(loc, scale).sum(), rtol=1e-5)


@pytest.mark.parametrize("posterior", ["MeanField", "FullCovariance"])
def test_kl_of_q_to_itself_is_zero(posterior):
    layer = randomised(DenseVariational(2, posterior), (None, 2))
    q = layer.weight_terms[0].q
    np.testing.assert_allclose(kl_divergence(q.distribution(), q.distribution(), "w", source()), 0.0, atol=1e-6)


def plain_normals(shape=(40, 3)):
    """q, p as plain `tfd.Normal`s, whose log densities and divergences are tensors of `shape`, and numpy's KL terms."""
    loc, scale = np.linspace(-1, 1, 120).reshape(shape), np.linspace(0.1, 0.6, 120).reshape(shape)
    q = tfd.Normal(tf.constant(loc, tf.float32), tf.constant(scale, tf.float32))
    return q, tfd.Normal(tf.fill(shape, 0.1), tf.fill(shape, 0.7)), kl_normal(loc, scale, 0.1, 0.7)


def test_kl_of_plain_normals_is_the_sum_over_their_entries():
    q, p, terms = plain_normals()
    assert terms.shape == (40, 3)
    np.testing.assert_allclose(kl_divergence(q, p, "w", source()), terms.sum(), rtol=1e-5)


# --- Monte Carlo ------------------------------------------------------------------------------------------------------

# n weights share one draw of each: the error is that of a mean of n terms, 5 standard errors (false alarm 6e-7).
# It sees an error of 10 standard errors: 3% of the KL for a scale or a mean that is wrong by 2%.
NUM_WEIGHTS, LOC, SCALE, WIDTH = 100_000, 0.4, 0.7, 0.5


def kl_normal_to_logistic_terms():
    """log q - log p of N(LOC, SCALE^2) and Logistic(0, WIDTH): mean and standard deviation, by quadrature."""
    z = np.linspace(-10, 10, 200_001)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    w = LOC + SCALE * z
    terms = -0.5 * z**2 - np.log(SCALE * np.sqrt(2 * np.pi)) + np.log(4 * WIDTH) + 2 * np.log(np.cosh(w / (2 * WIDTH)))
    mean = (weight * terms).sum()
    return mean, np.sqrt((weight * (terms - mean) ** 2).sum())


def standard_errors_off(loc, scale):
    q = normal(np.full(NUM_WEIGHTS, loc), np.full(NUM_WEIGHTS, scale))
    p = tfd.Independent(tfd.Logistic(tf.zeros(NUM_WEIGHTS), WIDTH), 1)
    mean, stddev = kl_normal_to_logistic_terms()
    found = float(kl_divergence(q, p, "w", source(1)))
    return abs(found - NUM_WEIGHTS * mean) / (stddev * NUM_WEIGHTS**0.5)


def test_monte_carlo_is_unbiased_where_no_formula_is_known():
    with pytest.raises(NotImplementedError):
        tfd.kl_divergence(tfd.Normal(0.0, 1.0), tfd.Logistic(0.0, 1.0))
    assert standard_errors_off(LOC, SCALE) < 5


@pytest.mark.parametrize(("loc", "scale"), [(LOC * 1.1, SCALE), (LOC, SCALE * 1.1)])
def test_twin_monte_carlo_check_tells_a_wrong_posterior(loc, scale):
    assert standard_errors_off(loc, scale) > 5


def test_monte_carlo_takes_its_draw_from_the_noise():
    q, p = normal(np.zeros(4), np.ones(4)), tfd.Independent(tfd.Logistic(tf.zeros(4), 1.0), 1)
    once, again, other = (float(kl_divergence(q, p, "w", source(number))) for number in (0, 0, 1))
    assert once == again != other


def test_monte_carlo_at_a_draw_is_the_difference_of_log_densities():
    q, p = normal([[0.0, 1.0]], [[1.0, 2.0]]), normal([[0.5, 0.5]], [[3.0, 3.0]])
    w = np.array([[0.3, -0.7]], np.float32)
    log_density = -0.5 * np.array([0.3, -0.85]) ** 2 - np.log([1.0, 2.0])
    prior = -0.5 * ((w[0] - 0.5) / 3) ** 2 - np.log(3.0)
    np.testing.assert_allclose(monte_carlo_kl(q, p, tf.constant(w)), (log_density - prior).sum(), rtol=1e-5)


@pytest.mark.parametrize("plain", ["q", "p", "both"])
def test_monte_carlo_sums_the_entries_of_plain_distributions(plain):
    q, p, _ = plain_normals()
    w = np.linspace(-2, 2, 120).reshape(40, 3)
    expected = (stats.norm(q.loc, q.scale).logpdf(w) - stats.norm(0.1, 0.7).logpdf(w)).sum()
    q, p = (d if plain in (name, "both") else tfd.Independent(d, 2) for name, d in (("q", q), ("p", p)))
    np.testing.assert_allclose(monte_carlo_kl(q, p, tf.constant(w, tf.float32)), expected, rtol=1e-5)


# --- the user's own ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fn",
    [
        tfd.kl_divergence,
        lambda q, p: tfd.kl_divergence(q, p),
        lambda q, p, ignored: tfd.kl_divergence(q, p),
        lambda q, p, scale=1.0: scale * tfd.kl_divergence(q, p),
        lambda q, p: tfd.kl_divergence(q.distribution, p.distribution),
    ],
    ids=["tfp", "two", "three", "default", "not summed"],
)
def test_a_users_divergence_is_called_as_it_is_written_and_summed(fn):
    q, p = normal(np.ones((2, 2)), np.ones((2, 2))), normal(np.zeros((2, 2)), np.ones((2, 2)))
    np.testing.assert_allclose(user_divergence(fn, q, p), 2.0, rtol=1e-6)
