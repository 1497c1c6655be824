"""HierarchicalNormal: the scale of weights has a posterior, and is counted in the KL."""

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import tensorflow as tf

import tfbnn
from gaussian import kl_normal, randomised, softplus, variable
from tfbnn import posteriors
from tfbnn.core.checks import InvalidInput
from tfbnn.core.positive import inverse_positive
from tfbnn.layers import DenseReparameterization, DenseVariational
from tfbnn.priors import HierarchicalNormal
from tfbnn.priors.hierarchical_normal import HierarchicalNormalTensor

SCALE, SPREAD = 0.4, 0.7
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def layer_of(each="tensor", posterior="MeanField", inputs=5):
    """A layer of 5 x 3 kernel weights, q(w) and q(tau) known, without a bias."""
    prior = HierarchicalNormal(SCALE, SPREAD, each)
    layer = DenseReparameterization(3, use_bias=False, kernel_posterior_fn=posterior, kernel_prior_fn=prior)
    return randomised(layer, (None, inputs))


def log_tau(layer):
    """m and s of q(log tau), float64."""
    return variable(layer, "kernel_prior_loc").numpy().astype(float), softplus(variable(layer, "kernel_prior_rho"))


def kl_by_quadrature(layer, kept=True):
    """E_q(tau)[KL(q(w) || Normal(0, tau^2))] + KL(q(tau) || p(tau)), over 80 nodes of log tau."""
    loc, scale = (np.asarray(part, float) for part in layer.weight_posteriors[0].factorised_gaussian)
    m, s = log_tau(layer)
    total = 0.0
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        at = m + s * node
        of_weights = np.where(kept, kl_normal(loc, np.where(kept, scale, 1.0), 0.0, np.exp(at)), 0.0).sum()
        of_tau = scipy.stats.norm.logpdf(at, m, s) - scipy.stats.norm.logpdf(at, np.log(SCALE), SPREAD)
        total += weight * (of_weights + of_tau.sum())
    return total


@pytest.mark.parametrize(("each", "shape"), [("tensor", (1, 1)), ("input", (5, 1))])
def test_variables_begin_at_the_hyper_prior(each, shape):
    layer = keras.layers.Layer()
    HierarchicalNormal(SCALE, SPREAD, each).build(layer, "kernel", (5, 3))
    shapes = [(weight.name, weight.shape) for weight in layer.trainable_weights]
    assert shapes == [("kernel_prior_loc", shape), ("kernel_prior_rho", shape)]
    m, s = log_tau(layer)
    np.testing.assert_allclose(m, np.full(shape, np.log(SCALE)), rtol=1e-6)
    of_each = 15 / np.prod(shape)
    np.testing.assert_allclose(s, np.full(shape, 1 / np.sqrt(2 * of_each + 1 / SPREAD**2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "of_a_tau"), [((), ()), ((4,), (1,)), ((2, 4), (2, 1)), ((3, 3, 2, 4), (3, 3, 2, 1))]
)
def test_an_input_is_an_index_of_all_axes_but_the_last(shape, of_a_tau):
    layer = keras.layers.Layer()
    HierarchicalNormal(each="input").build(layer, "kernel", shape)
    assert layer.weights[0].shape == of_a_tau


@pytest.mark.parametrize("each", ["tensor", "input"])
def test_kl_is_that_of_weights_and_scale_together(each):
    layer = layer_of(each)
    np.testing.assert_allclose(layer.kl_divergence(), kl_by_quadrature(layer), rtol=1e-5)


@pytest.mark.parametrize("each", ["tensor", "input"])
def test_removed_weights_do_not_count(each):
    layer = layer_of(each, posteriors.Pruned(posteriors.MeanField()))
    kept = np.random.default_rng(0).uniform(size=(5, 3)) < 0.5
    kept[2] = False  # a whole input
    before = kl_by_quadrature(layer)
    layer.weight_posteriors[0].keep(kept)
    np.testing.assert_allclose(layer.kl_divergence(), kl_by_quadrature(layer, kept), rtol=1e-5)
    assert abs(float(layer.kl_divergence()) - before) > 1.0  # twin


def settled(layer):
    """The layer, its q(log tau) where the KL is least."""
    loc, rho = variable(layer, "kernel_prior_loc"), variable(layer, "kernel_prior_rho")
    size = int(np.prod(loc.shape))

    def kl_and_gradient(free):
        loc.assign(free[:size].reshape(loc.shape))
        rho.assign(free[size:].reshape(loc.shape))
        with tf.GradientTape() as tape:
            kl = layer.kl_divergence()
        gradient = np.concatenate([part.numpy().ravel() for part in tape.gradient(kl, [loc.value, rho.value])])
        return float(kl), gradient.astype(float)

    start = np.concatenate([loc.numpy().ravel(), rho.numpy().ravel()]).astype(float)
    kl_and_gradient(scipy.optimize.minimize(kl_and_gradient, start, jac=True, method="L-BFGS-B").x)
    return layer


@pytest.mark.parametrize("each", ["tensor", "input"])
def test_the_best_spread_is_that_of_the_docstring(each):
    layer = settled(layer_of(each))
    m, s = log_tau(layer)
    expected = 1 / np.sqrt(2 * 15 / m.size + (1 + 2 * (m - np.log(SCALE))) / SPREAD**2)
    np.testing.assert_allclose(s, expected, rtol=5e-3)
    assert np.abs(s / (1 / np.sqrt(2 * 15 / m.size)) - 1).min() > 0.02  # twin: without the hyper-prior's part


def test_the_posterior_of_the_scale_is_the_true_one_of_known_weights():
    """Of 600 weights of standard deviation 0.05: mean and spread of log tau against p(log tau | w) on a grid."""
    layer = layer_of(inputs=200)
    w = 0.05 * np.random.default_rng(1).standard_normal((200, 3))
    variable(layer, "kernel_loc").assign(w)
    variable(layer, "kernel_rho").assign(np.full((200, 3), inverse_positive(1e-4)))
    m, s = (float(part.item()) for part in log_tau(settled(layer)))
    grid = np.linspace(-5, 1, 100_001)
    log_p = -600 * grid - 0.5 * (w**2).sum() * np.exp(-2 * grid) - 0.5 * ((grid - np.log(SCALE)) / SPREAD) ** 2
    p = np.exp(log_p - log_p.max()) / np.exp(log_p - log_p.max()).sum()
    mean = (p * grid).sum()
    stddev = np.sqrt((p * (grid - mean) ** 2).sum())
    assert abs(m - mean) < 0.1 * stddev
    assert s == pytest.approx(stddev, rel=0.02)
    assert abs(np.log(SCALE) - mean) > 10 * stddev  # twin: where it began


@pytest.mark.parametrize(("m", "s"), [(-1.0, 0.25), (-0.5, 0.25), (-1.0, 1.0)])
def test_log_prob_is_below_the_log_density_by_the_kl_of_the_scale(m, s):
    """log p(w) - log_prob(w) = KL(q(tau) || p(tau | w)), by sums over a grid of log tau."""
    w = np.array([[0.2, -0.5, 0.3], [0.1, 0.4, -0.6]], "f")
    grid = np.linspace(-8, 8, 40_001)
    log_joint = scipy.stats.norm.logpdf(w.reshape(-1, 1), scale=np.exp(grid)).sum(axis=0)
    log_joint = log_joint + scipy.stats.norm.logpdf(grid, -1.0, 0.8)
    log_evidence = scipy.special.logsumexp(log_joint) + np.log(grid[1] - grid[0])
    log_q = scipy.stats.norm.logpdf(grid, m, s)
    kl = (np.exp(log_q) * (log_q - log_joint + log_evidence)).sum() * (grid[1] - grid[0])
    found = HierarchicalNormalTensor((2, 3), tf.constant(m), tf.constant(s), -1.0, 0.8).log_prob(w)
    assert float(found) == pytest.approx(log_evidence - kl, abs=1e-4)
    assert kl > 0.01  # twin: it is not the log density itself


def trained(each):
    """Median of tau after training on 10 inputs, of which the first two matter."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 10)).astype("f")
    y = (x[:, :1] - 2 * x[:, 1:2] + 0.3 * rng.standard_normal((100, 1))).astype("f")
    layer = DenseReparameterization(1, use_bias=False, kernel_prior_fn=HierarchicalNormal(1.0, 2.0, each), seed=1)
    network = keras.Sequential([keras.Input((10,)), layer])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=0.3), seed=2)
    model.compile(keras.optimizers.Adam(0.1))
    tfbnn.train(model, x, y, epochs=300, batch_size=100, verbose=0)
    return np.exp(log_tau(layer)[0].ravel())


def test_inputs_that_do_not_matter_are_found():
    """Their tau is a third, or less, of the least of those that matter."""
    tau = trained("input")
    assert tau[2:].max() < tau[:2].min() / 3


@pytest.mark.parametrize(
    ("layer", "argument"),
    [
        (
            DenseReparameterization(2, kernel_posterior_fn="Deterministic", kernel_prior_fn="HierarchicalNormal"),
            "kernel_prior_fn",
        ),
        (DenseVariational(2, "Deterministic", "HierarchicalNormal"), "make_prior_fn"),
    ],
)
def test_points_are_refused(layer, argument):
    with pytest.raises(InvalidInput, match=f"`{argument}`.*all weights vanish.*HierarchicalNormal.*Use 'Normal'"):
        layer.build((None, 3))


@pytest.mark.parametrize("arguments", [{"scale": 0.0}, {"spread": -1.0}, {"each": "weight"}, {"scale": "wide"}])
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(InvalidInput, match=f"`{next(iter(arguments))}`"):
        HierarchicalNormal(**arguments)
