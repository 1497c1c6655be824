"""Laplace, Student's t and the horseshoe: densities against SciPy, KL against numerical integrals, what is refused."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn import layers, priors
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, noise_scope, seed_pair

tfd = tfp.distributions
W = np.array([-6.0, -1.0, -0.1, 0.02, 0.4, 3.0])


def log_density(prior):
    """Of each weight alone."""
    return prior.build(None, "kernel", W.shape).distribution().distribution.log_prob(W.astype("f")).numpy()


def horseshoe(w, scale):
    """log of the integral over lambda, numerically."""

    def at(angle):  # lambda = tan(angle), uniform on (0, pi / 2)
        return scipy.stats.norm.pdf(w, scale=scale * np.tan(angle)) * 2 / np.pi

    return np.log(scipy.integrate.quad(at, 0, np.pi / 2, limit=500)[0])


@pytest.mark.parametrize(
    ("prior", "expected", "tolerance"),
    [
        (priors.Laplace(0.3, 0.7), lambda w: scipy.stats.laplace.logpdf(w, 0.3, 0.7), 1e-5),
        (priors.StudentT(4.0, 0.3, 0.7), lambda w: scipy.stats.t.logpdf(w, 4.0, 0.3, 0.7), 1e-5),
        (priors.Horseshoe(0.5), lambda w: [horseshoe(one, 0.5) for one in w], 2e-3),
    ],
)
def test_densities(prior, expected, tolerance):
    np.testing.assert_allclose(log_density(prior), expected(W), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("scale", [0.01, 0.7, 30.0])
@pytest.mark.parametrize("loc", [-2.0, 0.0, 0.29, 5.0])
def test_the_kl_of_a_gaussian_to_laplace_is_exact(loc, scale):
    prior = priors.Laplace(0.3, 0.7).build(None, "kernel", ()).distribution()
    found = tfd.kl_divergence(tfd.Independent(tfd.Normal(loc, scale)), prior)
    q = scipy.stats.norm(loc, scale)

    def integrand(w):
        return q.pdf(w) * (q.logpdf(w) - scipy.stats.laplace.logpdf(w, 0.3, 0.7))

    ends = loc - 12 * scale, min(max(0.3, loc - 12 * scale), loc + 12 * scale), loc + 12 * scale
    expected = sum(scipy.integrate.quad(integrand, *pair)[0] for pair in (ends[:2], ends[1:]))
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("prior", [priors.StudentT(4.0, 0.0, 0.5), priors.Horseshoe(0.5)])
def test_the_monte_carlo_kl_is_right_on_average(prior):
    """4,000 draws of a kernel of 6: within 5 standard errors of the numerical integral."""
    layer = layers.DenseReparameterization(3, use_bias=False, kernel_prior_fn=prior, kl_weight=0.0, seed=1)
    layer.build((None, 2))
    q = layer.weight_posteriors[0]
    q.loc.assign([[0.5, -1.0, 0.2], [2.0, 0.0, -0.3]])
    q.rho.assign(tf.fill(q.shape, 0.3))

    def one(seed):
        with noise_scope(Seeded(seed, [layer])):
            return layer.kl_divergence()

    draws = tf.function(lambda seeds: tf.map_fn(one, seeds, fn_output_signature=tf.float32))
    found = draws(tf.stack([seed_pair(i) for i in range(4000)])).numpy()
    grid = np.linspace(-15, 15, 60_001) + 1e-5  # the horseshoe's peak is a pole
    base = prior.build(None, "kernel", grid.shape).distribution().distribution
    log_p, expected = base.log_prob(grid.astype("f")).numpy(), 0.0
    for loc, scale in zip(*(np.ravel(part) for part in q.factorised_gaussian), strict=True):
        density = scipy.stats.norm(loc, scale)
        expected += np.trapezoid(density.pdf(grid) * (density.logpdf(grid) - log_p), grid)
    assert abs(found.mean() - expected) < 5 * found.std() / np.sqrt(4000)


def test_heavier_tails_charge_less_for_a_large_weight():
    tails = priors.Normal(scale=0.5), priors.Laplace(scale=0.5 / np.sqrt(2)), priors.StudentT(3.0, scale=0.5)
    far = [float(log_density(prior)[0]) for prior in tails]
    assert far == sorted(far)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: priors.Laplace(scale=0.0), "scale"),
        (lambda: priors.Laplace(loc=np.nan), "loc"),
        (lambda: priors.StudentT(df=0.0), "df"),
        (lambda: priors.StudentT(scale=-1.0), "scale"),
        (lambda: priors.Horseshoe(scale="wide"), "scale"),
    ],
)
def test_numbers_out_of_range_are_refused(make, argument):
    with pytest.raises(InvalidInput, match=f"`{argument}`"):
        make()
