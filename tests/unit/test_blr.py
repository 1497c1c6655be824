"""The oracle itself, against scipy and against its own identities."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import optimize, stats

import blr


@pytest.fixture
def regression():
    return blr.example()


def test_log_evidence_is_scipys(regression):
    N = len(regression.y)
    covariance = regression.X @ regression.X.T + regression.noise_scale**2 * np.eye(N)
    expected = stats.multivariate_normal(np.zeros(N), covariance).logpdf(regression.y)
    assert regression.log_evidence() == pytest.approx(expected, abs=1e-9)


def test_elbo_at_the_posterior_is_the_log_evidence(regression):
    elbo = regression.elbo(regression.mean, regression.covariance)
    assert elbo == pytest.approx(regression.log_evidence(), abs=1e-9)


def test_elbo_falls_short_by_the_kl_to_the_posterior(regression):
    mean, covariance = regression.mean + 0.1, 1.3 * regression.covariance
    gap = blr.kl(mean, covariance, regression.mean, regression.covariance)
    assert regression.log_evidence() - regression.elbo(mean, covariance) == pytest.approx(gap, abs=1e-9)
    assert gap > 0.1


def test_no_factorised_gaussian_is_better_than_mean_field(regression):
    D = len(regression.mean)

    def negative_elbo(free):
        return -regression.elbo(free[:D], np.diag(np.exp(free[D:])))

    found = optimize.minimize(negative_elbo, np.zeros(2 * D))
    mean, variances = regression.mean_field()
    assert -found.fun == pytest.approx(regression.elbo(mean, np.diag(variances)), abs=1e-6)
    assert -found.fun == pytest.approx(regression.log_evidence() - regression.mean_field_gap(), abs=1e-6)


def test_stddev_of_the_log_likelihood_is_that_of_draws(regression):
    # 20,000 draws: the relative standard error of a standard deviation is about 1 / sqrt(2 x 20,000) x sqrt(kurtosis
    # factor, below 4) < 1 %; 5 % is beyond 5 of them, and an error of 10 % would be seen.
    rng = np.random.default_rng(1)
    weights = rng.multivariate_normal(regression.mean, regression.covariance, size=20_000)
    drawn = np.array([regression.log_likelihood(w) for w in weights])
    expected = regression.log_likelihood_stddev(regression.mean, regression.covariance)
    assert drawn.std() == pytest.approx(expected, rel=0.05)
    mean = regression.expected_log_likelihood(regression.mean, regression.covariance)
    assert drawn.mean() == pytest.approx(mean, abs=5 * expected / np.sqrt(20_000))


def test_best_noise_is_the_maximum(regression):
    def negative_evidence(log_scale):
        return -dataclasses.replace(regression, noise_scale=float(np.exp(log_scale))).log_evidence()

    expected = np.exp(optimize.minimize_scalar(negative_evidence, bounds=(-3, 3), method="bounded").x)
    assert regression.with_best_noise().noise_scale == pytest.approx(expected, rel=1e-4)
