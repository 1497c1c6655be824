"""Low-rank, matrix Gaussian and radial posteriors: moments, densities and KL against NumPy, what is refused."""

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from gaussian import kl_multivariate_normal
from tfbnn import posteriors, priors
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, noise_scope, seed_pair
from tfbnn.layers import DenseFlipout, DenseReparameterization

tfd = tfp.distributions
SHAPE = (3, 2)
PRIOR = priors.Normal(np.linspace(-1, 1, 6).reshape(SHAPE), np.linspace(0.5, 2, 6).reshape(SHAPE))
FAMILIES = {
    "LowRank": posteriors.LowRank(2, initial_rho=-1.0, initial_direction=0.5),
    "MatrixNormal": posteriors.MatrixNormal(initial_rho=-1.0),
    "Radial": posteriors.Radial(initial_rho=0.0),
    "UnitCovariance": posteriors.UnitCovariance(initial_rho=-1.0),
}


def layer_of(posterior, prior=PRIOR):
    """A layer whose one tensor has that posterior, of variables that are neither 0 nor equal."""
    layer = DenseReparameterization(
        2, use_bias=False, kernel_posterior_fn=posterior, kernel_prior_fn=prior, kl_weight=0.0, seed=1
    )
    layer.build((None, 3))
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(variable + 0.4 * rng.standard_normal(variable.shape))
    return layer


def covariance(q):
    """Of the flattened tensor, by the family's formula."""
    parts = [np.asarray(part, np.float64) for part in q.parameters()]
    if isinstance(q, type(layer_of(FAMILIES["LowRank"]).weight_posteriors[0])):
        return np.diag(parts[1].ravel() ** 2) + parts[2] @ parts[2].T
    if parts[1].ndim == 3:  # of units one after another, put in the order of the flattened tensor
        of_units = scipy.linalg.block_diag(*[L @ L.T for L in parts[1]])
        order = np.arange(of_units.shape[0]).reshape(parts[0].shape[::-1]).T.ravel()
        return of_units[np.ix_(order, order)]
    return np.kron(parts[1] @ parts[1].T, parts[2] @ parts[2].T)


def draws(layer, count):
    def one(seed):
        with noise_scope(Seeded(seed, [layer])):
            return layer.weight_posteriors[0].sample(layer._noise())

    run = tf.function(lambda seeds: tf.map_fn(one, seeds, fn_output_signature=tf.float32))
    return run(tf.stack([seed_pair(i) for i in range(count)])).numpy().reshape(count, -1)


@pytest.mark.parametrize(
    "family", ["UnitCovariance", *(pytest.param(name, marks=pytest.mark.slow) for name in ("LowRank", "MatrixNormal"))]
)
def test_draws_have_mean_and_covariance(family):
    """20,000 draws, whitened: every mean and every entry of the covariance within 5 standard errors."""
    layer = layer_of(FAMILIES[family])
    q = layer.weight_posteriors[0]
    z = np.linalg.solve(np.linalg.cholesky(covariance(q)), (draws(layer, 20_000) - np.ravel(q.loc)).T)
    assert np.abs(z.mean(axis=1)).max() < 5 / np.sqrt(20_000)
    assert np.abs(z @ z.T / 20_000 - np.eye(6)).max() < 5 * np.sqrt(2 / 20_000)
    assert np.abs(covariance(q) - np.diag(np.diag(covariance(q)))).max() > 0.01  # there is something to be right about


@pytest.mark.parametrize("family", ["LowRank", "MatrixNormal", "UnitCovariance"])
def test_density_and_kl_are_those_of_the_gaussian(family):
    layer = layer_of(FAMILIES[family])
    q = layer.weight_posteriors[0]
    w = np.random.default_rng(1).standard_normal(SHAPE).astype("f")
    expected = scipy.stats.multivariate_normal(np.ravel(q.loc), covariance(q)).logpdf(w.ravel())
    np.testing.assert_allclose(q.distribution().log_prob(w), expected, rtol=1e-4)
    kl = kl_multivariate_normal(np.ravel(q.loc), covariance(q), PRIOR.loc.ravel(), np.diag(PRIOR.scale.ravel() ** 2))
    np.testing.assert_allclose(layer.kl_divergence(), kl, rtol=1e-5)


def test_radial_draws_are_as_far_as_one_gaussian_number():
    layer = layer_of(FAMILIES["Radial"])
    q = layer.weight_posteriors[0]
    loc, scale = (np.ravel(part) for part in q.parameters())
    z = (draws(layer, 20_000) - loc) / scale
    assert scipy.stats.kstest(np.linalg.norm(z, axis=1), scipy.stats.halfnorm.cdf).statistic < 1.95 / np.sqrt(20_000)
    assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(6 * 20_000)
    between = z.T @ z / 20_000
    assert np.abs(between - np.eye(6) / 6).max() < 5 * np.sqrt(3 / 20_000) / 6


def test_the_radial_density_integrates_to_one_and_gives_entropy_and_kl():
    """In 2 dimensions by quadrature over polar coordinates; the KL in 6 against 100,000 draws, 5 standard errors."""
    q = posteriors.radial.RadialNormal(tf.constant([0.5, -1.0]), tf.constant([0.7, 2.0]))

    def at(r, angle, of):
        w = np.array([0.5, -1.0]) + np.array([0.7, 2.0]) * r * np.array([np.cos(angle), np.sin(angle)])
        log_q = float(q.log_prob(tf.constant(w, tf.float32)))
        return np.exp(log_q) * of(log_q) * r * 0.7 * 2.0  # the volume element

    radii = np.linspace(1e-3, 6, 200)
    for of, expected in ((lambda log_q: 1.0, 1.0), (lambda log_q: -log_q, float(q.entropy()))):
        found = scipy.integrate.simpson([at(r, 0.3, of) for r in radii], x=radii) * 2 * np.pi  # the same at all angles
        assert found == pytest.approx(expected, abs=0.01)
    layer = layer_of(FAMILIES["Radial"])
    r, p = layer.weight_posteriors[0].distribution(), PRIOR.build(None, "kernel", SHAPE).distribution()
    w = r.sample(100_000, seed=(1, 2))
    sampled = (r.log_prob(w) - p.log_prob(w)).numpy()
    assert abs(sampled.mean() - float(layer.kl_divergence())) < 5 * sampled.std() / np.sqrt(100_000)


@pytest.mark.parametrize("family", FAMILIES)
def test_priors_without_a_formula_are_sampled(family):
    layer = layer_of(FAMILIES[family], priors.StudentT())
    assert np.isfinite(layer.kl_divergence())


@pytest.mark.parametrize("family", [*FAMILIES, "FullCovariance"])
def test_tfp_is_told_of_the_parameters_and_does_not_warn(family):
    q = layer_of(FAMILIES.get(family, family)).weight_posteriors[0].distribution()
    assert "_parameter_properties" in vars(type(q))
    assert (q.batch_shape, q.event_shape) == ((), SHAPE)
    assert q.copy().event_shape == SHAPE


@pytest.mark.parametrize("family", FAMILIES)
def test_estimators_that_need_independent_weights_refuse_them(family):
    with pytest.raises(InvalidInput, match="factorised Gaussian"):
        DenseFlipout(2, kernel_posterior_fn=FAMILIES[family]).build((None, 3))


def test_a_low_rank_of_all_directions_holds_what_a_diagonal_cannot():
    """Two weights whose sum alone is known: the KL to the true posterior is much smaller with one direction."""
    precision = np.array([[100.0, 99.0], [99.0, 100.0]])
    true = tfd.MultivariateNormalFullCovariance(tf.zeros(2), tf.constant(np.linalg.inv(precision), tf.float32))

    def best(posterior):
        layer = DenseReparameterization(1, use_bias=False, kernel_posterior_fn=posterior, kl_weight=0.0, seed=1)
        layer.build((None, 2))
        q, optimizer = layer.weight_posteriors[0], keras.optimizers.Adam(0.05)
        optimizer.build(layer.trainable_variables)
        eps = tf.random.stateless_normal([64, 2, 3], [1, 2])

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                loc, scale, V = q.parameters()
                w = (
                    tf.reshape(loc, [2])
                    + tf.reshape(scale, [2]) * eps[..., 0]
                    + tf.reduce_sum(V * eps[:, :1, 1:2], axis=2)
                )
                loss = tf.reduce_mean(q.distribution().log_prob(w[..., None]) - true.log_prob(w))
            optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)
            return loss

        return [float(step()) for _ in range(600)][-1]

    with_direction = best(posteriors.LowRank(1, initial_rho=-1.0, initial_direction=0.1))
    mean_field = 0.5 * np.log(
        np.prod(np.diag(precision)) / np.linalg.det(precision)
    )  # at its optimum, 1 / diag(precision)
    assert with_direction < 0.3 * mean_field


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: posteriors.LowRank(0), "`rank`"),
        (lambda: posteriors.LowRank(initial_direction=0.0), "`initial_direction`"),
        (lambda: layer_of(posteriors.LowRank(6)), "`kernel_posterior_fn`.*below the 6 weights"),
        (lambda: posteriors.Radial(initial_rho="x"), "`initial_rho`"),
        (
            lambda: DenseReparameterization(1, kernel_posterior_fn="MatrixNormal").build((None, 5000)),
            "`kernel_posterior_fn`.*4,096",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, told):
    with pytest.raises(InvalidInput, match=told):
        make()
