"""Gaussian likelihoods against scipy, and the units that the standardisation of y keeps."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.likelihoods import HeteroscedasticNormal, Normal

RNG = np.random.default_rng(0)


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match="(?s)" + ".*".join(map(re.escape, parts)))


def outputs_of(likelihood, B=6):
    return RNG.normal(size=(B, likelihood.num_outputs)).astype("float32")


def softplus(x):
    return np.logaddexp(0, x)


EVERY = [(kind, T) for kind in (Normal, HeteroscedasticNormal) for T in (1, 2)]


@pytest.mark.parametrize(("kind", "T"), EVERY)
def test_density_and_moments_are_scipys(kind, T):
    likelihood = kind(num_targets=T)
    assert likelihood.num_outputs == (T if kind is Normal else 2 * T)
    outputs, y = outputs_of(likelihood), RNG.normal(size=(6, T)).astype("float32")
    parameters = likelihood(outputs)
    assert parameters.shape == (6, likelihood.num_parameters) == (6, 2 * T)
    scale = np.ones((6, T)) if kind is Normal else softplus(outputs[:, T:].astype("float64"))
    norm = stats.norm(outputs[:, :T], scale + 1e-4)  # the floor under every scale
    np.testing.assert_allclose(likelihood.log_prob(parameters, y), norm.logpdf(y).sum(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(likelihood.mean(parameters), norm.mean(), rtol=1e-5)
    np.testing.assert_allclose(likelihood.variance(parameters), norm.var(), rtol=1e-4)
    np.testing.assert_allclose(likelihood.distribution(parameters).cdf(y), norm.cdf(y), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "T"), EVERY)
def test_draws_lead(kind, T):
    """[S, B, P'] and y [B, T]: [S, B]."""
    likelihood = kind(num_targets=T)
    parameters = np.stack([likelihood(outputs_of(likelihood)) for _ in range(3)])
    y = RNG.normal(size=(6, T)).astype("float32")
    log_prob = likelihood.log_prob(parameters, y)
    assert log_prob.shape == (3, 6)
    for s in range(3):
        np.testing.assert_allclose(log_prob[s], likelihood.log_prob(parameters[s], y), rtol=1e-6)
    assert likelihood.mean(parameters).shape == likelihood.variance(parameters).shape == (3, 6, T)


@pytest.mark.parametrize(("kind", "T"), EVERY)
def test_standardisation_changes_the_units_alone(kind, T):
    """y = loc + scale z: densities of y are those of z over scale, moments are in units of y."""
    z = RNG.normal(size=(40, T))
    loc, scale = np.array([100.0, -3.0])[:T], np.array([7.0, 0.1])[:T]
    of_z, of_y = kind(num_targets=T), kind(num_targets=T)
    of_z.adapt(z)
    of_y.adapt(loc + scale * z)
    outputs = outputs_of(of_z)
    target = RNG.normal(size=(6, T)).astype("float32")
    in_z, in_y = of_z(outputs), of_y(outputs)
    np.testing.assert_allclose(
        of_y.log_prob(in_y, (loc + scale * target).astype("float32")),
        of_z.log_prob(in_z, target) - np.log(scale).sum(),
        rtol=1e-3,
        atol=1e-3,
    )
    np.testing.assert_allclose(of_y.mean(in_y), loc + scale * of_z.mean(in_z), rtol=1e-5)
    np.testing.assert_allclose(of_y.variance(in_y), scale**2 * of_z.variance(in_z), rtol=1e-4)


def test_adapt_takes_mean_and_standard_deviation():
    y = RNG.normal(3.0, 2.0, size=(30, 2))
    likelihood = Normal(num_targets=2)
    assert likelihood.adapt(y) is likelihood
    np.testing.assert_allclose(likelihood.target_loc.numpy(), y.mean(0), rtol=1e-6)
    np.testing.assert_allclose(likelihood.target_scale.numpy(), y.std(0), rtol=1e-6)
    one_axis, two = Normal().adapt(y[:, 0]), Normal().adapt(y[:, :1])
    np.testing.assert_array_equal(one_axis.target_loc.numpy(), two.target_loc.numpy())


def around(mean, stddev, N=400):
    z = np.random.default_rng(1).normal(size=N)
    return mean + stddev * (z - z.mean()) / z.std()


@pytest.mark.parametrize("kind", [Normal, HeteroscedasticNormal])
def test_statistics_come_from_float64(kind):
    likelihood = kind().adapt(around(1e5, 0.94))
    np.testing.assert_allclose(likelihood.target_scale.numpy(), [0.94], rtol=2e-7)  # by way of float32: off by 1e-6
    np.testing.assert_array_equal(likelihood.target_loc.numpy(), np.float32([1e5]))


@pytest.mark.parametrize("kind", [Normal, HeteroscedasticNormal])
def test_a_spread_that_float32_rounds_away_is_refused_with_its_numbers(kind):
    with refuses("`y`", "100 steps", "deviation 0.94 about mean 1e+07", "steps of 1", "Subtract", "y - 1e+07."):
        kind().adapt(around(1e7, 0.94))
    with refuses("`y`", "about mean -1e+07", "y + 1e+07."):
        kind(num_targets=2).adapt(np.column_stack([around(0, 1), around(-1e7, 0.94)]))
    assert kind().adapt(around(1e7, 0.94) - 1e7).built
    kind().adapt(around(1e7, 101.0))
    with refuses("`y`", "finite"):
        kind().adapt([0.0, 1e39])


def test_shapes_are_those_of_all_rows_and_their_mend_the_number_of_targets():
    with refuses("`targets`", "[N, 1] or [N] for Normal", "[300, 2]", "For 2 targets a row: Normal(num_targets=2)."):
        Normal().check_target_shape("targets", (300, 2))
    with refuses("`y`", "[N, 2]", "[300]", "For 1 target a row: HeteroscedasticNormal(num_targets=1)."):
        HeteroscedasticNormal(num_targets=2).check_target_shape("y", (300,))
    for wrong in ((300, 1, 1), (300, 0), ()):
        with refuses("`y`", str(list(wrong))):
            Normal().check_target_shape("y", wrong)
    for likelihood, shape in ((Normal(), (300,)), (Normal(), (None, 1)), (Normal(num_targets=2), (300, 2))):
        likelihood.check_target_shape("y", shape)


def test_begins_with_all_of_y_as_noise():
    y = RNG.normal(3.0, 2.0, size=30)
    parameters = Normal().adapt(y)(np.zeros((1, 1)))
    np.testing.assert_allclose(parameters[0], [y.mean(), y.std()], rtol=1e-3)


def test_a_known_scale_is_in_units_of_y_and_not_learned():
    for likelihood in (Normal(scale=0.5), Normal(scale=0.5).adapt(RNG.normal(3.0, 20.0, size=30))):
        np.testing.assert_allclose(likelihood(np.zeros((1, 1)))[0, 1], 0.5, rtol=1e-6)
        assert likelihood.trainable_variables == []
    two = Normal(scale=0.5, num_targets=2).adapt(RNG.normal(size=(30, 2)) * [1, 100])
    np.testing.assert_allclose(two(np.zeros((1, 2)))[0, 2:], 0.5, rtol=1e-6)


def test_a_learned_scale_is_one_for_each_target_and_has_a_gradient():
    likelihood = Normal(num_targets=2)
    y = np.array([[0.0, 3.0]], np.float32)
    with tf.GradientTape() as tape:
        log_prob = tf.reduce_sum(likelihood.log_prob(likelihood(np.zeros((1, 2), np.float32)), y))
    (gradient,) = tape.gradient(log_prob, [v.value for v in likelihood.trainable_variables])
    # d/ds log N(y; 0, s) = y^2 / s^3 - 1 / s at s = 1, times the slope of softplus
    np.testing.assert_allclose(gradient / (1 - np.exp(-1.0)), [-1.0, 8.0], rtol=1e-3)


def test_densities_are_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        likelihood = Normal()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert likelihood(tf.zeros([1, 1], tf.float16)).dtype == tf.float32


@pytest.mark.parametrize("kind", [Normal, HeteroscedasticNormal])
def test_targets_that_are_refused(kind):
    with refuses("`y`", "vary"):
        kind().adapt(np.full(7, 0.1))
    with refuses("`y`", "vary"):
        kind(num_targets=2).adapt(np.column_stack([np.arange(5.0), np.full(5, 0.1)]))
    with refuses("`y`", "vary"):
        kind().adapt([3.0])
    with refuses("`y`", "vary", "0 rows"):
        kind().adapt([])
    with refuses("`y`", "finite"):
        kind().adapt([1.0, np.nan])
    with refuses("`y`", "finite"):
        kind().adapt([1.0, np.inf])
    with refuses("`y`", "[N, 1] or [N]", kind.__name__):
        kind().adapt(np.zeros((5, 2)))
    with refuses("`y`", "numbers", "Bernoulli or Categorical"):
        kind().adapt(["a", "b"])


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, "one", True])
def test_scales_that_are_refused(scale):
    with refuses("scale", "above 0"):
        Normal(scale=scale)


@pytest.mark.parametrize("kind", [Normal, HeteroscedasticNormal])
def test_numbers_of_targets_that_are_refused(kind):
    for wrong in (0, 1.5, True):
        with refuses("num_targets", "1 or more"):
            kind(num_targets=wrong)


@pytest.mark.parametrize(
    "likelihood", [Normal(), Normal(scale=0.5, num_targets=2), HeteroscedasticNormal(num_targets=2)], ids=repr
)
def test_round_trip_of_the_arguments(likelihood):
    again = likelihoods.deserialize(likelihoods.serialize(likelihood))
    assert type(again) is type(likelihood)
    assert again.get_config() == likelihood.get_config()


@pytest.mark.parametrize("kind", [Normal, HeteroscedasticNormal])
def test_adapted_values_are_saved(kind, tmp_path):
    likelihood = kind().adapt(RNG.normal(5.0, 3.0, size=30))
    inputs = keras.Input((likelihood.num_outputs,))
    model = keras.Model(inputs, likelihood(inputs))
    model.save(tmp_path / "model.keras")
    outputs = outputs_of(likelihood)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert likelihood.built and loaded.layers[-1].built
    np.testing.assert_array_equal(loaded(outputs), likelihood(outputs))
