"""Likelihoods of counts against scipy, and quantiles that are counts."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfbnn
from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.likelihoods import NegativeBinomial, Poisson

RNG = np.random.default_rng(0)
KINDS = (Poisson, NegativeBinomial)
EVERY = [(kind, T) for kind in KINDS for T in (1, 2)]


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match="(?s)" + ".*".join(map(re.escape, parts)))


def scipys(kind, mean, dispersion=1.0):
    """The oracle, of mean and dispersion of any shapes that fit."""
    if kind is Poisson:
        return stats.poisson(mean)
    return stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mean))


def of_means(kind, means, dispersion=1.0):
    """Float32 parameters [..., T] or [..., 2 T] for these means [..., T]."""
    log_mean = np.log(np.asarray(means, np.float64))
    parts = [log_mean] if kind is Poisson else [log_mean, np.full_like(log_mean, np.log(dispersion))]
    return np.concatenate(parts, axis=-1).astype("float32")


# --- density, moments, distribution function --------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "T"), EVERY)
def test_density_and_moments_are_scipys(kind, T):
    likelihood = kind(num_targets=T).adapt(np.full((5, T), 4))
    assert likelihood.num_outputs == T
    outputs, y = RNG.normal(size=(6, T)).astype("float32"), RNG.poisson(4.0, size=(6, T))
    parameters = likelihood(outputs)
    assert parameters.shape == (6, likelihood.num_parameters)
    oracle = scipys(kind, 4.0 * np.exp(outputs.astype("float64")))  # the dispersion begins at 1
    np.testing.assert_allclose(
        likelihood.log_prob(parameters, likelihood.match_target(y)), oracle.logpmf(y).sum(1), rtol=1e-5
    )
    np.testing.assert_allclose(likelihood.mean(parameters), oracle.mean(), rtol=1e-5)
    np.testing.assert_allclose(likelihood.variance(parameters), oracle.var(), rtol=1e-5)
    np.testing.assert_allclose(likelihood.cdf(parameters, y), oracle.cdf(y), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_lead(kind):
    likelihood = kind()
    parameters = np.stack([likelihood(RNG.normal(size=(6, 1)).astype("float32")) for _ in range(3)])
    y = RNG.poisson(2.0, size=(6, 1)).astype("float32")
    log_prob = likelihood.log_prob(parameters, y)
    assert log_prob.shape == (3, 6) and log_prob.dtype == tf.float32
    for s in range(3):
        np.testing.assert_allclose(log_prob[s], likelihood.log_prob(parameters[s], y), rtol=1e-6)
    assert likelihood.mean(parameters).shape == likelihood.variance(parameters).shape == (3, 6, 1)


@pytest.mark.parametrize("mean", [1e-3, 1.0, 1e3, 1e5, 1e6])
@pytest.mark.parametrize(("kind", "dispersion"), [(Poisson, 0), (NegativeBinomial, 1e-4), (NegativeBinomial, 3.0)])
def test_small_and_large_counts_keep_their_digits(kind, dispersion, mean):
    """Computed in float32, the cdf of a Poisson of mean 1e6 is off by 0.8, and its log density by 0.6."""
    parameters = of_means(kind, [[mean]], dispersion)
    oracle = scipys(kind, np.exp(np.float64(parameters[0, 0])), dispersion)
    y = np.maximum(oracle.ppf([0.01, 0.2, 0.5, 0.9, 0.999]), 0.0)[:, np.newaxis]
    np.testing.assert_allclose(kind().cdf(parameters, y), oracle.cdf(y), atol=1e-5)
    np.testing.assert_allclose(kind().log_prob(parameters, y), oracle.logpmf(y[:, 0]), rtol=1e-4, atol=1e-3)


def test_twin_in_float32_large_counts_lose_them():
    distribution = Poisson().distribution(of_means(Poisson, [[1e6]]))
    assert abs(float(distribution.cdf([[1e6]])[0, 0]) - 0.5) > 0.1
    assert abs(float(distribution.log_prob([[1e6]])[0, 0]) - stats.poisson(1e6).logpmf(1e6)) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_distribution_function_is_a_stair_and_what_is_no_count_impossible(kind):
    parameters = of_means(kind, [[2.0]])
    oracle = scipys(kind, 2.0)
    y = np.array([[-3.0], [-0.5], [0.0], [0.9], [1.0], [1.5]])
    np.testing.assert_allclose(kind().cdf(parameters, y)[:, 0], oracle.cdf(y[:, 0]), rtol=1e-5)
    np.testing.assert_array_equal(kind().log_prob(parameters, np.array([[-1.0], [0.5]])), [-np.inf, -np.inf])


@pytest.mark.parametrize("kind", KINDS)
def test_no_output_of_the_network_overflows(kind):
    likelihood = kind().adapt([1e4, 2e4])
    outputs = tf.constant([[-200.0], [80.0], [1e9]])
    for y in ([[0.0]] * 3, [[7.0]] * 3):
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            parameters = likelihood(outputs)
            log_prob = likelihood.log_prob(parameters, tf.constant(y))
        assert np.isfinite(log_prob).all() and np.isfinite(tape.gradient(log_prob, outputs)).all()
    for told in (likelihood.mean(parameters), likelihood.variance(parameters), likelihood.cdf(parameters, y)):
        assert np.isfinite(told).all()
    prediction = tfbnn.Prediction(parameters[tf.newaxis], likelihood)
    assert np.isfinite(prediction.stddev).all() and np.isfinite(prediction.interval()).all()


# --- adaptation and targets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_begins_at_the_mean_of_the_targets(kind):
    y = RNG.poisson([3.0, 40.0], size=(30, 2))
    likelihood = kind(num_targets=2)
    assert likelihood.adapt(y) is likelihood
    np.testing.assert_allclose(likelihood.mean(likelihood(np.zeros((1, 2))))[0], y.mean(0), rtol=1e-5)
    np.testing.assert_allclose(likelihood.mean(likelihood(np.ones((1, 2))))[0], y.mean(0) * np.e, rtol=1e-5)


def test_a_learned_dispersion_is_one_for_each_target_and_has_a_gradient():
    likelihood = NegativeBinomial(num_targets=2)
    y = np.array([[1.0, 30.0]], np.float32)
    with tf.GradientTape() as tape:
        log_prob = tf.reduce_sum(likelihood.log_prob(likelihood(np.zeros((1, 2), np.float32)), y))
    (gradient,) = tape.gradient(log_prob, [v.value for v in likelihood.trainable_variables])
    step = 1e-4
    up, down = (scipys(NegativeBinomial, 1.0, 1.0 + sign * step).logpmf(y[0]) for sign in (1, -1))
    np.testing.assert_allclose(gradient, (up - down) / (2 * step) * (1 - np.exp(-1.0)), rtol=1e-3)
    assert Poisson().trainable_variables == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [-1.0, 2.5])
def test_what_is_no_count_is_refused_with_its_row(kind, wrong):
    for y in ([3.0, 0.0, wrong, wrong], [[3.0, 0.0], [0.0, 1.0], [0.0, wrong], [wrong, 1.0]]):
        with refuses("`y`", f"0, 1, 2, ... for {kind.__name__}", str(wrong), "2 rows", "first row 2", "Use Normal"):
            kind(num_targets=np.ndim(y)).adapt(y)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_that_are_refused(kind):
    with refuses("`y`", "some are above 0", "3 rows, all 0"):
        kind().adapt([0, 0, 0])
    with refuses("`y`", "some are above 0"):
        kind().adapt([])
    with refuses("`y`", "finite"):
        kind().adapt([1.0, np.nan])
    with refuses("`y`", "[N, 1] or [N]", f"{kind.__name__}(num_targets=2)"):
        kind().adapt(np.zeros((5, 2)))
    with refuses("`y`", "numbers", "Bernoulli or Categorical"):
        kind().adapt(["a", "b"])
    kind().adapt(np.array([4, 4], np.uint8))  # counts need not vary


# --- null model -------------------------------------------------------------------------------------------------------


def test_the_null_model_has_the_moments_of_the_targets():
    y = RNG.negative_binomial(2, 0.1, size=(500, 1))
    for kind in KINDS:
        parameters = kind().null_parameters(y)
        np.testing.assert_allclose(kind().mean(parameters), y.mean(), rtol=1e-6)
    np.testing.assert_allclose(NegativeBinomial().variance(parameters), y.var(), rtol=1e-5)
    assert np.isfinite(NegativeBinomial().null_parameters(np.array([[3.0], [3.0]]))).all()  # less than Poisson's


# --- quantiles of mixtures --------------------------------------------------------------------------------------------

MIXTURES = {
    "one": [3.3],
    "near zero": [1e-6, 0.01],
    "apart": [0.2, 5.0, 4000.0],
    "large": [9.97e4, 1.002e5],
    "many": list(np.random.default_rng(1).gamma(2.0, 20.0, size=100)),
}
LEVELS = np.float32([1e-6, 0.05, 0.2, 0.5, 0.501, 0.95, 0.999])


def smallest_count(kind, means, q):
    """The smallest k with (1/S) sum_s P(Y <= k) >= q, by a table of all probabilities."""
    parameters = of_means(kind, np.array(means)[:, np.newaxis])
    means = np.exp(parameters[:, :1].astype("float64"))
    last = int(scipys(kind, max(means[:, 0])).ppf(1 - 1e-9)) + 2
    table = scipys(kind, means).pmf(np.arange(last)).mean(0).cumsum()
    return np.searchsorted(table, q.astype("float64"))


TABLES = [(kind, name) for kind in KINDS for name in MIXTURES if kind is Poisson or name != "large"]  # short ones


@pytest.mark.parametrize(("kind", "means"), TABLES)
def test_a_quantile_is_the_smallest_count_whose_cdf_reaches_the_level(kind, means):
    means = MIXTURES[means]
    prediction = tfbnn.Prediction(of_means(kind, np.array(means)[:, np.newaxis, np.newaxis]), kind())
    quantiles = prediction.quantile(LEVELS)
    np.testing.assert_array_equal(quantiles[:, 0, 0], smallest_count(kind, means, LEVELS))
    assert (prediction.cdf(quantiles[5]) >= 0.95).all()
    assert (prediction.cdf(quantiles[5] - 1) < 0.95).all()


def test_twin_the_mean_of_the_components_quantiles_is_not_the_mixtures():
    means = MIXTURES["apart"]
    of_components = [smallest_count(Poisson, [mean], LEVELS) for mean in means]
    wrong = np.mean(of_components, axis=0) != smallest_count(Poisson, means, LEVELS)
    assert wrong.sum() >= 6


def test_rows_do_not_change_each_others_quantiles():
    means = np.array([[1e-3], [3.0], [2e4]])
    together = tfbnn.Prediction(of_means(Poisson, np.stack([means, 1.5 * means])), Poisson()).interval()
    for b in range(3):
        alone = tfbnn.Prediction(of_means(Poisson, np.stack([means, 1.5 * means])[:, b : b + 1]), Poisson()).interval()
        np.testing.assert_array_equal(np.array(together)[:, b : b + 1], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_counts_of_the_mixture(kind):
    """Of 20,000 draws the mean is within 5 standard errors: wrong once in two million runs, and the seed is fixed."""
    prediction = tfbnn.Prediction(of_means(kind, [[[2.0]], [[9.0]]], 0.5), kind())
    y = prediction.sample(20_000, seed=1)
    assert y.shape == (20_000, 1, 1)
    np.testing.assert_array_equal(y, np.floor(y))
    error = prediction.stddev[0, 0] / np.sqrt(20_000)
    assert abs(y.mean() - prediction.mean[0, 0]) < 5 * error
    assert abs(y.mean() - 1.1 * prediction.mean[0, 0]) > 5 * error  # the twin
    lower, upper = prediction.interval(0.9)
    assert np.mean((lower <= y) & (y <= upper)) > 0.9 - 5 * np.sqrt(0.09 / 20_000)  # at least its level


def test_the_probabilities_of_a_mixture_sum_to_one():
    for kind in KINDS:
        prediction = tfbnn.Prediction(np.repeat(of_means(kind, [[[2.0]], [[5.0]]]), 200, axis=1), kind())
        p = np.exp(prediction.log_prob(np.arange(200)))
        np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
        np.testing.assert_allclose(p.cumsum(), prediction.cdf(np.arange(200))[:, 0], rtol=1e-5)


# --- saved ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_adapted_values_are_saved(kind, tmp_path):
    likelihood = kind(num_targets=2).adapt(RNG.poisson(5.0, size=(30, 2)))
    inputs = keras.Input((2,))
    keras.Model(inputs, likelihood(inputs)).save(tmp_path / "model.keras")
    outputs = RNG.normal(size=(6, 2)).astype("float32")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(outputs), likelihood(outputs))
    again = likelihoods.deserialize(likelihoods.serialize(likelihood))
    assert type(again) is kind and again.get_config() == likelihood.get_config()


@pytest.mark.parametrize("kind", KINDS)
def test_found_by_name(kind):
    assert likelihoods.get({"class": kind.__name__, "num_targets": 3}).num_outputs == 3
    with refuses("num_targets", "1 or more"):
        kind(num_targets=0)
