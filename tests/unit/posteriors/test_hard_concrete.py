"""HardConcrete and its prior SpikeAndSlab: the law of gates, the KL, inputs that are switched off, what is refused."""

import functools

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import tfbnn
from gaussian import kl_normal, randomised, softplus, variable
from tfbnn import posteriors, priors
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, noise_scope
from tfbnn.layers import DenseFlipout, DenseReparameterization
from tfbnn.posteriors import HardConcrete
from tfbnn.priors import SpikeAndSlab

PI, SLAB = 0.3, 0.8


def layer_of(each="weight", **arguments):
    """5 x 4 kernel weights without a bias, of variables that are neither 0 nor equal."""
    given = {"kernel_posterior_fn": HardConcrete(each), "kernel_prior_fn": SpikeAndSlab(PI, SLAB), **arguments}
    return randomised(DenseReparameterization(4, use_bias=False, seed=1, **given), (None, 5))


def log_odds(layer):
    """Of a gate that is not 0, float64, by the paper."""
    return variable(layer, "kernel_log_alpha").numpy().astype(float) - 2 / 3 * np.log(0.1 / 1.1)


def draws(layer, count):
    def one(seed):
        with noise_scope(Seeded(seed, [layer])):
            return layer.weight_posteriors[0].sample(layer._noise())

    run = tf.function(lambda seeds: tf.map_fn(one, seeds, fn_output_signature=tf.float32))
    return run(tf.stack([tf.zeros(count, tf.int32), tf.range(count)], axis=1)).numpy()


# --- the law of draws -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", ["weight", "input"])
def test_draws_are_exactly_zero_as_often_as_said(each):
    """4,000 draws: every share within 5 standard errors; an error of 0.08 would be seen of any weight."""
    layer = layer_of(each)
    shares = (draws(layer, 4000) != 0).mean(axis=0)
    expected = np.broadcast_to(scipy.special.expit(log_odds(layer)), (5, 4))
    np.testing.assert_allclose(
        np.broadcast_to(layer.weight_posteriors[0].open_probability, (5, 4)), expected, rtol=1e-5
    )
    error = np.sqrt(expected * (1 - expected) / 4000)
    assert (np.abs(shares - expected) < 5 * error).all()
    assert (np.abs(shares - expected[::-1]) > 5 * error).any()  # twin: another weight's share


def test_weights_of_an_input_share_their_gate():
    together = (draws(layer_of("input"), 50) != 0).mean(axis=2)
    assert set(np.unique(together)) == {0.0, 1.0}
    apart = (draws(layer_of("weight"), 50) != 0).mean(axis=2)
    assert not set(np.unique(apart)) <= {0.0, 1.0}  # twin


def gate_quantile(u, log_alpha):
    """The gate at the u-th part of its law, by the paper's equations 10 and 11."""
    s = scipy.special.expit((np.log(u) - np.log(1 - u) + log_alpha) * 3 / 2)
    return np.minimum(1, np.maximum(0, 1.2 * s - 0.1))


@pytest.mark.parametrize("of", ["layer", "tfd"])
def test_the_gates_have_the_law_of_the_paper(of):
    """With means of 1 and no scale a weight is its gate: mean and mean square of 4,000 draws of 20, 5 errors."""
    layer = layer_of()
    variable(layer, "kernel_loc").assign(np.ones((5, 4)))
    variable(layer, "kernel_rho").assign(np.full((5, 4), -30.0))
    q = layer.weight_posteriors[0].distribution()
    drawn = draws(layer, 4000) if of == "layer" else q.sample(4000, seed=(1, 2)).numpy()
    assert drawn.min() == 0.0
    assert drawn.max() == 1.0
    u = (np.arange(100_000)[:, None, None] + 0.5) / 100_000
    gates = gate_quantile(u, variable(layer, "kernel_log_alpha").numpy())
    for power in (1, 2):
        error = (gates**power).std(axis=0) / np.sqrt(4000)
        assert (np.abs((drawn**power).mean(axis=0) - (gates**power).mean(axis=0)) < 5 * error).all()


# --- the KL -----------------------------------------------------------------------------------------------------------


def kl_by_numpy(layer):
    open_ = scipy.special.expit(log_odds(layer))
    gates = open_ * np.log(open_ / PI) + (1 - open_) * np.log((1 - open_) / (1 - PI))
    of_weights = kl_normal(variable(layer, "kernel_loc"), softplus(variable(layer, "kernel_rho")), 0.0, SLAB)
    return gates.sum() + (open_ * of_weights).sum()


@pytest.mark.parametrize(("each", "gates"), [("weight", (5, 4)), ("input", (5, 1))])
def test_the_kl_is_that_of_gates_and_of_what_is_behind_them(each, gates):
    layer = layer_of(each)
    assert variable(layer, "kernel_log_alpha").shape == gates
    np.testing.assert_allclose(layer.kl_divergence(), kl_by_numpy(layer), rtol=1e-5)


def test_it_is_zero_where_gates_and_slab_are_the_priors():
    layer = DenseReparameterization(
        4,
        use_bias=False,
        kernel_posterior_fn=HardConcrete("weight", PI, "zeros", float(np.log(np.expm1(SLAB)))),
        kernel_prior_fn=SpikeAndSlab(PI, SLAB),
    )
    layer.build((None, 5))
    assert abs(float(layer.kl_divergence())) < 1e-5
    np.testing.assert_allclose(layer.weight_posteriors[0].open_probability, np.full((5, 4), PI), rtol=1e-5)


@pytest.mark.parametrize("log_alpha", [-40.0, 40.0])
def test_it_is_finite_where_gates_are_shut_or_open_for_certain(log_alpha):
    layer = layer_of()
    variable(layer, "kernel_log_alpha").assign(np.full((5, 4), log_alpha))
    with tf.GradientTape() as tape:
        kl = layer.kl_divergence()
    gradients = tape.gradient(kl, [weight.value for weight in layer.trainable_weights])
    assert np.isfinite(kl)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    behind = 0.0 if log_alpha < 0 else kl_by_numpy_behind(layer)
    np.testing.assert_allclose(kl, -20 * np.log(PI if log_alpha > 0 else 1 - PI) + behind, rtol=1e-5)


def kl_by_numpy_behind(layer):
    return kl_normal(variable(layer, "kernel_loc"), softplus(variable(layer, "kernel_rho")), 0.0, SLAB).sum()


def test_the_prior_draws_zeros_and_gaussians():
    """20,000 draws of 4 weights: the share of zeros within 5 standard errors, the others by Kolmogorov's test."""
    drawn = SpikeAndSlab(PI, SLAB).build(None, "kernel", (4,)).distribution().sample(20_000, seed=(1, 2)).numpy()
    assert abs((drawn != 0).mean() - PI) < 5 * np.sqrt(PI * (1 - PI) / 80_000)
    others = drawn[drawn != 0]
    assert scipy.stats.kstest(others / SLAB, "norm").statistic < 1.95 / np.sqrt(len(others))


# --- sparse regression ------------------------------------------------------------------------------------------------

MATTER = [2, 7, 13]


@functools.cache
def trained(posterior, prior, epochs=300):
    """A linear regression of 20 inputs, of which 3 matter, after training."""
    rng = np.random.default_rng(0)
    w = np.zeros((20, 1))
    w[MATTER, 0] = [1.0, -0.7, 0.5]
    x = rng.standard_normal((200, 20)).astype("f")
    y = (x @ w + 0.5 * rng.standard_normal((200, 1))).astype("f")
    layer = DenseReparameterization(1, use_bias=False, kernel_posterior_fn=posterior, kernel_prior_fn=prior, seed=1)
    model = tfbnn.BayesianModel(
        keras.Sequential([keras.Input((20,)), layer]), tfbnn.likelihoods.Normal(scale=0.5), seed=2
    )
    model.compile(keras.optimizers.Adam(0.02))
    tfbnn.train(model, x, y, epochs=epochs, batch_size=50, verbose=0)
    return model, layer


def test_gates_of_inputs_that_do_not_matter_shut():
    _, layer = trained(HardConcrete("input"), SpikeAndSlab(0.1))
    share = layer.weight_posteriors[0].open_probability.numpy().ravel()
    others = np.delete(share, MATTER)
    assert share[MATTER].min() > 0.95
    assert others.max() < 0.2
    zeros = (draws(layer, 1000)[:, :, 0] == 0).mean(axis=0)
    assert zeros[MATTER].max() < 0.05
    assert np.delete(zeros, MATTER).min() > 0.75


def test_twin_a_mean_field_has_no_zeros():
    _, layer = trained(posteriors.MeanField(), priors.Normal(), epochs=3)
    assert (draws(layer, 1000) != 0).all()


def test_predictions_have_gates_of_their_own():
    """On the unit vector of an input the mean's draws are its weight: 0 as often as its gate is shut."""
    model, layer = trained(HardConcrete("input"), SpikeAndSlab(0.1))
    rows = np.eye(20, dtype="f")
    means = model.predict_distribution(rows, num_samples=1000, seed=1).parameters[:, :, 0]
    shut = 1 - layer.weight_posteriors[0].open_probability.numpy().ravel()
    assert (np.abs((means == 0).mean(axis=0) - shut) < 5 * np.sqrt(shut * (1 - shut) / 1000) + 1e-3).all()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["Normal", "ScaleMixture", "HierarchicalNormal"])
def test_priors_with_a_density_are_refused(prior):
    with pytest.raises(InvalidInput, match=r"`kernel_prior_fn`.*infinite.*Use tfbnn\.priors\.SpikeAndSlab\(\)"):
        layer_of(kernel_prior_fn=prior)


@pytest.mark.parametrize("posterior", ["MeanField", "Deterministic", "FullCovariance"])
def test_posteriors_without_zeros_are_refused(posterior):
    with pytest.raises(InvalidInput, match=r"`kernel_posterior_fn`.*SpikeAndSlab.*Use posterior 'HardConcrete'"):
        layer_of(kernel_posterior_fn=posterior)


def test_a_divergence_of_your_own_may_join_what_it_knows():
    layer = layer_of(kernel_prior_fn="Normal", kernel_divergence_fn=lambda q, p: tf.reduce_sum(q.log_odds))
    np.testing.assert_allclose(layer.kl_divergence(), log_odds(layer).sum(), rtol=1e-5)


def test_estimators_and_bounds_that_need_a_density_refuse_it():
    given = {"kernel_posterior_fn": "HardConcrete", "kernel_prior_fn": "SpikeAndSlab"}
    with pytest.raises(InvalidInput, match="factorised Gaussian"):
        DenseFlipout(2, **given).build((None, 3))
    network = keras.Sequential([keras.Input((3,)), DenseReparameterization(1, **given)])
    model = tfbnn.BayesianModel(network, "Normal", num_data=4, bound="importance_weighted", train_samples=2)
    model.compile("sgd")
    with pytest.raises(InvalidInput, match="has a density"):
        model.fit(np.zeros((4, 3), "f"), np.zeros((4, 1), "f"), verbose=0)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: HardConcrete("tensor"), "each"),
        (lambda: HardConcrete(initial_probability=1.0), "initial_probability"),
        (lambda: HardConcrete(initial_rho="x"), "initial_rho"),
        (lambda: SpikeAndSlab(probability=0.0), "probability"),
        (lambda: SpikeAndSlab(scale=0.0), "scale"),
    ],
)
def test_arguments_out_of_range_are_named(make, argument):
    with pytest.raises(InvalidInput, match=f"`{argument}`"):
        make()
