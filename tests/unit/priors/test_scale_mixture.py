"""ScaleMixture: its density, and its KL by Monte Carlo against quadrature."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special, stats

from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, seed_pair
from tfbnn.divergence import kl_divergence
from tfbnn.priors import Normal, ScaleMixture

tfd = tfp.distributions

PI, SCALE_1, SCALE_2 = 0.3, 1.0, 0.05


def density_of(prior, shape=(2, 3)):
    return prior.build(keras.layers.Layer(), "kernel", shape).distribution()


def log_density(w, pi=PI, scale_1=SCALE_1, scale_2=SCALE_2):
    """log p of each entry, float64."""
    terms = [np.log(pi) + stats.norm(0, scale_1).logpdf(w), np.log1p(-pi) + stats.norm(0, scale_2).logpdf(w)]
    return special.logsumexp(terms, axis=0)


def test_density_of_independent_weights():
    w = np.array([[0.0, 0.01, -0.3], [2.0, -5.0, 0.1]], "f")
    p = density_of(ScaleMixture(PI, SCALE_1, SCALE_2))
    assert p.event_shape == (2, 3)
    np.testing.assert_allclose(p.log_prob(w), log_density(w).sum(), rtol=1e-5)


@pytest.mark.parametrize("w", [0.0, 1e-6, 0.3, 50.0, -1000.0])
def test_log_density_and_its_slope_are_finite_where_the_spike_underflows(w):
    weights = tf.fill([1], w)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        found = density_of(ScaleMixture(), (1,)).log_prob(weights)
    np.testing.assert_allclose(found, log_density(w, 0.5, 1.0, 0.0025), rtol=1e-5)
    assert np.isfinite(tape.gradient(found, weights)).all()


def test_with_all_its_mass_on_one_gaussian_it_is_that_gaussian():
    w = np.linspace(-4, 4, 6, dtype="f").reshape(2, 3)
    nearly_one = np.nextafter(1.0, 0.0)  # the other Gaussian has a share of 1e-16
    expected = density_of(Normal(0.0, 0.7)).log_prob(w)
    np.testing.assert_allclose(density_of(ScaleMixture(nearly_one, 0.7, 0.5)).log_prob(w), expected, rtol=1e-6)
    np.testing.assert_allclose(density_of(ScaleMixture(1e-30, 0.5, 0.7)).log_prob(w), expected, rtol=1e-6)
    np.testing.assert_allclose(density_of(ScaleMixture(0.3, 0.7, 0.7)).log_prob(w), expected, rtol=1e-6)


# --- KL ---------------------------------------------------------------------------------------------------------------

# n weights have one draw each: the error is that of a mean of n terms. False alarm at 5 standard errors: 6e-7; what
# lies 10 of them off, which is 1.5% of this KL (2.35 nats a weight), is seen but for that rate.
NUM_WEIGHTS, Q_LOC, Q_SCALE = 200_000, 0.2, 0.1


def kl_terms_by_quadrature():
    """log q - log p under q: mean and standard deviation, on a fine grid."""
    z = np.linspace(-10, 10, 200_001)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    terms = -0.5 * z**2 - np.log(Q_SCALE * np.sqrt(2 * np.pi)) - log_density(Q_LOC + Q_SCALE * z)
    mean = (weight * terms).sum()
    return mean, np.sqrt((weight * (terms - mean) ** 2).sum())


def standard_errors_off(prior):
    q = tfd.Independent(tfd.Normal(tf.fill([NUM_WEIGHTS], Q_LOC), Q_SCALE), 1)
    mean, stddev = kl_terms_by_quadrature()
    found = float(kl_divergence(q, density_of(prior, (NUM_WEIGHTS,)), "w", Seeded(seed_pair(3), [])))
    return abs(found - NUM_WEIGHTS * mean) / (stddev * NUM_WEIGHTS**0.5)


def test_kl_is_that_of_quadrature():
    mean, stddev = kl_terms_by_quadrature()
    assert 10 * stddev / NUM_WEIGHTS**0.5 < 0.016 * mean
    assert standard_errors_off(ScaleMixture(PI, SCALE_1, SCALE_2)) < 5


@pytest.mark.parametrize(
    "wrong",
    [ScaleMixture(1 - PI, SCALE_1, SCALE_2), ScaleMixture(PI, 1.1 * SCALE_1, SCALE_2),
     ScaleMixture(PI, SCALE_1, 1.1 * SCALE_2)],
)  # fmt: skip
def test_twin_another_mixture_is_told_apart(wrong):
    assert standard_errors_off(wrong) > 5


@pytest.mark.parametrize("pi", [0, 1, -0.1, 1.5, float("nan"), "half", None, True])
def test_shares_that_are_none_are_refused(pi):
    with pytest.raises(InvalidInput, match="`pi`"):
        ScaleMixture(pi=pi)


@pytest.mark.parametrize("argument", ["scale_1", "scale_2"])
@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), "wide"])
def test_scales_that_are_none_are_refused(argument, scale):
    with pytest.raises(InvalidInput, match=f"`{argument}`"):
        ScaleMixture(**{argument: scale})
