"""The log-normal likelihood against scipy: standardised on the log scale, told in the units of y."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from scipy import stats

import tfbnn
from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.likelihoods import LogNormal, Normal

RNG = np.random.default_rng(0)


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match="(?s)" + ".*".join(map(re.escape, parts)))


@pytest.mark.parametrize("T", [1, 2])
def test_density_and_moments_are_scipys(T):
    train = np.exp(RNG.normal([2.0, -1.0][:T], [0.5, 1.5][:T], size=(50, T)))
    likelihood = LogNormal(num_targets=T).adapt(train)
    outputs, y = RNG.normal(size=(6, T)).astype("float32"), train[:6].astype("float32")
    parameters = likelihood(outputs)
    assert parameters.shape == (6, likelihood.num_parameters) == (6, 2 * T)
    loc, scale = np.log(train).mean(0), np.log(train).std(0)
    oracle = stats.lognorm(scale * 1.0001, scale=np.exp(loc + scale * outputs))  # 1e-4: the floor under every scale
    np.testing.assert_allclose(likelihood.log_prob(parameters, y), oracle.logpdf(y).sum(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(likelihood.mean(parameters), oracle.mean(), rtol=1e-5)
    np.testing.assert_allclose(likelihood.variance(parameters), oracle.var(), rtol=1e-4)
    np.testing.assert_allclose(likelihood.cdf(parameters, y), oracle.cdf(y), rtol=1e-4, atol=1e-6)


def test_the_density_is_that_of_y_and_not_of_its_logarithm():
    """The twin: the Normal density of log y lacks the factor 1 / y, and integrates to something else."""
    y = np.exp(np.linspace(-6, 10, 4000)).astype("float32")[:, np.newaxis]
    parameters = np.float32([[2.0, 0.5]])
    np.testing.assert_allclose(np.trapezoid(np.exp(LogNormal().log_prob(parameters, y)), y[:, 0]), 1.0, rtol=1e-4)
    assert np.trapezoid(np.exp(Normal().log_prob(parameters, np.log(y))), y[:, 0]) > 2.0


def test_draws_lead():
    likelihood = LogNormal(2)
    parameters = np.stack([likelihood(RNG.normal(size=(6, 2)).astype("float32")) for _ in range(3)])
    y = RNG.gamma(2.0, size=(6, 2)).astype("float32")
    log_prob = likelihood.log_prob(parameters, y)
    assert log_prob.shape == (3, 6)
    for s in range(3):
        np.testing.assert_allclose(log_prob[s], likelihood.log_prob(parameters[s], y), rtol=1e-6)


def test_what_is_not_above_zero_is_impossible():
    y = np.float32([[-1.0], [0.0], [1.0]])
    parameters = np.float32([[0.0, 1.0]] * 3)
    np.testing.assert_array_equal(LogNormal().cdf(parameters, y)[:, 0], [0.0, 0.0, 0.5])
    np.testing.assert_array_equal(np.isneginf(LogNormal().log_prob(parameters, y)), [True, True, False])


@pytest.mark.parametrize("wrong", [0.0, -2.5])
def test_targets_not_above_zero_are_refused_with_their_row(wrong):
    for y in ([3.0, 1.0, wrong], [[3.0, 1.0], [2.0, 2.5], [1.0, wrong]]):
        with refuses("`y`", "above 0 for LogNormal", str(wrong), "1 row has", "first row 2", "Normal or StudentT"):
            LogNormal(num_targets=np.ndim(y)).adapt(y)
    with refuses("`y`", "vary"):
        LogNormal().adapt(np.full(7, 0.1))
    with refuses("`y`", "finite"):
        LogNormal().adapt([1.0, np.nan])


def test_quantiles_of_a_mixture_invert_its_distribution_function():
    mu, s = np.array([0.0, 2.0, -3.0]), np.array([0.1, 0.7, 1.0])
    prediction = tfbnn.Prediction(np.stack([mu, s], axis=-1)[:, np.newaxis], LogNormal())
    levels = np.array([1e-4, 0.05, 0.3, 0.5, 0.9, 0.999])
    quantiles = prediction.quantile(levels)[:, 0].astype("float64")
    assert (quantiles > 0).all()
    np.testing.assert_allclose(stats.lognorm(s, scale=np.exp(mu)).cdf(quantiles).mean(1), levels, atol=2e-6)


def test_the_null_model_is_the_log_normal_of_the_targets():
    y = RNG.gamma(2.0, size=(50, 1))
    np.testing.assert_allclose(LogNormal().null_parameters(y), [np.log(y).mean(), np.log(y).std()])


def test_adapted_values_are_saved(tmp_path):
    likelihood = LogNormal(2).adapt(RNG.gamma(2.0, size=(30, 2)))
    inputs = keras.Input((2,))
    keras.Model(inputs, likelihood(inputs)).save(tmp_path / "model.keras")
    outputs = RNG.normal(size=(6, 2)).astype("float32")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(outputs), likelihood(outputs))
    again = likelihoods.deserialize(likelihoods.serialize(likelihood))
    assert type(again) is LogNormal and again.get_config() == likelihood.get_config()
    assert likelihoods.get("LogNormal").num_targets == 1
