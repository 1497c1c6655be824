"""Student's t likelihood against scipy."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, stats

import tfbnn
from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.likelihoods import Normal, StudentT

RNG = np.random.default_rng(0)


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match="(?s)" + ".*".join(map(re.escape, parts)))


def parameters_of(loc, scale, df):
    return np.stack([loc, scale, df], axis=-1).astype("float32")


@pytest.mark.parametrize("df", [2.01, 2.5, 10.0, 1000.0])
def test_density_moments_and_distribution_function_are_scipys(df):
    parameters = parameters_of(np.full(7, 3.0), np.full(7, 0.5), np.full(7, df))
    y = np.float32([[-50], [0], [2.9], [3], [3.6], [5], [1e4]])
    oracle = stats.t(np.float64(np.float32(df)), 3.0, 0.5)
    np.testing.assert_allclose(StudentT().log_prob(parameters, y), oracle.logpdf(y[:, 0]), rtol=1e-5)
    np.testing.assert_allclose(StudentT().cdf(parameters, y), oracle.cdf(y), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(StudentT().mean(parameters), np.full((7, 1), oracle.mean()))
    np.testing.assert_allclose(StudentT().variance(parameters), np.full((7, 1), oracle.var()), rtol=1e-4)


@pytest.mark.parametrize("T", [1, 2])
def test_parameters_are_loc_scale_and_df_in_units_of_y(T):
    y = RNG.normal([5.0, -100.0][:T], [2.0, 30.0][:T], size=(50, T))
    likelihood = StudentT(num_targets=T).adapt(y)
    assert (likelihood.num_outputs, likelihood.num_parameters) == (T, 3 * T)
    parameters = likelihood(np.ones((4, T)))
    assert parameters.shape == (4, 3 * T)
    loc, scale, df = np.split(parameters[0], 3)
    np.testing.assert_allclose(loc, y.mean(0) + y.std(0), rtol=1e-5)
    np.testing.assert_allclose(scale, y.std(0) * np.sqrt(0.8), rtol=1e-3)
    np.testing.assert_allclose(df, 10.0, rtol=1e-6)
    np.testing.assert_allclose(likelihood.variance(parameters)[0], y.var(0), rtol=1e-3)  # all of y is noise at first


def test_draws_lead():
    likelihood = StudentT(2)
    parameters = np.stack([likelihood(RNG.normal(size=(6, 2)).astype("float32")) for _ in range(3)])
    y = RNG.normal(size=(6, 2)).astype("float32")
    log_prob = likelihood.log_prob(parameters, y)
    assert log_prob.shape == (3, 6)
    for s in range(3):
        np.testing.assert_allclose(log_prob[s], likelihood.log_prob(parameters[s], y), rtol=1e-5)


@pytest.mark.parametrize("free", [-200.0, 1e6])
def test_whatever_is_learned_the_variance_and_the_distribution_function_are_finite(free):
    likelihood = StudentT()
    likelihood.free_df.assign([free])
    parameters = likelihood(np.zeros((3, 1)))
    assert 2.0 < parameters[0, 2] <= 1000.0
    assert np.isfinite(likelihood.variance(parameters)).all()
    assert np.isfinite(likelihood.cdf(parameters, np.float32([[-1e4], [0.0], [1e4]]))).all()


def test_scale_and_df_are_learned_by_the_gradient_of_the_density():
    likelihood = StudentT()
    with tf.GradientTape() as tape:
        log_prob = tf.reduce_sum(likelihood.log_prob(likelihood(np.zeros((1, 1), np.float32)), np.float32([[6.0]])))
    of_scale, of_df = tape.gradient(log_prob, [v.value for v in likelihood.trainable_variables])
    scale = np.sqrt(0.8)

    def slope_of(begin, log_density):
        """Slope in the free value whose softplus is `begin`."""
        return optimize.approx_fprime([begin], log_density, 1e-6)[0] * (1 - np.exp(-begin))

    np.testing.assert_allclose(of_scale, [slope_of(scale, lambda s: stats.t(10.0, 0, s).logpdf(6.0))], rtol=1e-2)
    np.testing.assert_allclose(of_df, [slope_of(7.99, lambda v: stats.t(2.01 + v, 0, scale).logpdf(6.0))], rtol=1e-2)
    assert of_scale > 0 > of_df  # an outlier asks for more noise and heavier tails


def test_an_outlier_costs_little():
    """The twin: under a Normal of the same variance it costs ten times as much."""
    y = np.float32([[30.0]])
    t = StudentT().log_prob(StudentT()(np.zeros((1, 1))), y)[0]
    normal = Normal().log_prob(Normal()(np.zeros((1, 1))), y)[0]
    assert -40 < t < 0
    assert normal < 10 * t


def test_quantiles_of_a_mixture_invert_its_distribution_function():
    loc, scale, df = np.array([0.0, 3.0, -50.0]), np.array([1.0, 0.2, 5.0]), np.array([3.0, 2.01, 400.0])
    prediction = tfbnn.Prediction(parameters_of(loc, scale, df)[:, np.newaxis], StudentT())
    oracle = stats.t(df, loc, scale)
    levels = np.array([1e-4, 0.05, 0.3, 0.5, 0.9, 0.999])
    quantiles = prediction.quantile(levels)[:, 0].astype("float64")
    np.testing.assert_allclose(oracle.cdf(quantiles).mean(1), levels, atol=2e-6)
    assert np.abs(oracle.ppf(levels[:, np.newaxis]).mean(1) - quantiles[:, 0]).min() > 1e-3  # no mean of quantiles


def test_the_null_model_has_the_moments_of_the_targets():
    y = stats.t(6.0, 10.0, 2.0).rvs((4000, 1), random_state=1)
    parameters = StudentT().null_parameters(y)[np.newaxis]
    np.testing.assert_allclose(StudentT().mean(parameters)[0], y.mean(), rtol=1e-5)
    np.testing.assert_allclose(StudentT().variance(parameters)[0], y.var(), rtol=1e-5)
    assert 4.0 < parameters[0, 2] < 12.0
    assert StudentT().null_parameters(RNG.uniform(size=(50, 1)))[2] == 1000.0  # lighter tails than a Normal's


def test_targets_that_are_refused():
    with refuses("`y`", "vary"):
        StudentT().adapt(np.full(7, 0.1))
    with refuses("`y`", "finite"):
        StudentT().adapt([1.0, np.nan])
    with refuses("`y`", "[N, 1] or [N]", "StudentT(num_targets=2)"):
        StudentT().adapt(np.zeros((5, 2)))


def test_adapted_values_are_saved(tmp_path):
    likelihood = StudentT(2).adapt(RNG.normal(5.0, 3.0, size=(30, 2)))
    likelihood.free_df.assign([0.5, 3.0])
    inputs = keras.Input((2,))
    keras.Model(inputs, likelihood(inputs)).save(tmp_path / "model.keras")
    outputs = RNG.normal(size=(6, 2)).astype("float32")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(outputs), likelihood(outputs))
    again = likelihoods.deserialize(likelihoods.serialize(likelihood))
    assert type(again) is StudentT and again.get_config() == likelihood.get_config()
    assert likelihoods.get("StudentT").num_targets == 1
