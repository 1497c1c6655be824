"""Pairs of opposites and Sobol's points: exact bits, even spread, the law of each draw, and less error in the mean."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import random_bits, standard_normal, unit_interval
from tfbnn.core.sequences import MOST_DIMENSIONS, antithetic_bits, direction_numbers, sobol_bits
from tfbnn.prediction import StoredDraws, monte_carlo
from tfbnn.prediction.stored_draws import drawn_variables

X = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


def test_points_are_scipys():
    expected = (scipy.stats.qmc.Sobol(40, scramble=False, bits=32).random(256) * 2.0**32).astype(np.uint32)
    found = sobol_bits(tf.range(256), 0, [40], tf.zeros([40], tf.int32)).numpy().view(np.uint32)
    np.testing.assert_array_equal(found, expected)
    some = sobol_bits(tf.range(30, 40), 7, [3, 4], tf.zeros([3, 4], tf.int32)).numpy().view(np.uint32)
    np.testing.assert_array_equal(some.reshape(10, 12), expected[30:40, 7:19])
    assert direction_numbers(MOST_DIMENSIONS).shape == (14, MOST_DIMENSIONS)


@pytest.mark.parametrize("count", [32, 128])
def test_each_number_falls_once_into_each_interval(count):
    shift = random_bits([50], tf.constant([1, 2]))
    u = unit_interval(sobol_bits(tf.range(count), 100, [50], shift)).numpy()
    for column in u.T:
        np.testing.assert_array_equal(np.sort(np.floor(column * count)), np.arange(count))
    chance = unit_interval(random_bits([count, 50], tf.constant([1, 2]))).numpy()
    assert any(len(np.unique(np.floor(column * count))) < count for column in chance.T)  # twin


def test_second_draws_are_the_opposite_of_the_first():
    bits = antithetic_bits(random_bits([5, 3], tf.constant([3, 4])))
    u, eps = unit_interval(bits).numpy(), standard_normal(bits).numpy()
    np.testing.assert_array_equal(u[::2] + u[1::2], 1.0)
    np.testing.assert_allclose(eps[::2], -eps[1::2], rtol=1e-4)
    assert len(np.unique(u)) == 30


def model_of(units=12):
    wide = {"kernel_posterior_fn": tfbnn.posteriors.MeanField(initial_rho=-1.5), "activation": "tanh"}
    hidden = [tfbnn.layers.DenseFlipout(units, seed=i, **wide) for i in range(2)]
    network = keras.Sequential([keras.Input((6,)), *hidden, tfbnn.layers.DenseFlipout(3, seed=2)])
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(3), num_data=1, seed=3)


def errors(model, exact, sequence):
    """Of the mean of 32 draws, by 40 seeds: root mean square over rows and classes, and what `mc_error` tells."""
    predictions = [model.predict_distribution(X, 32, seed=seed, sequence=sequence) for seed in range(40)]
    found = np.sqrt(np.mean([np.square(p.probabilities - exact) for p in predictions]))
    return found, np.sqrt(np.mean([np.square(p.mc_error) for p in predictions]))


def test_means_have_less_error_and_it_is_told():
    """Against 20,000 draws. The bound on the ratios is the target, 0.6; told errors are right within a fifth."""
    model = model_of()
    exact = model.predict_distribution(X, 20_000, seed=99).probabilities
    plain, told_plain = errors(model, exact, "independent")
    antithetic, told_antithetic = errors(model, exact, "antithetic")
    sobol, told_sobol = errors(model, exact, "sobol")
    assert antithetic < 0.6 * plain
    assert sobol < 0.6 * plain
    assert told_plain == pytest.approx(plain, rel=0.2)
    assert told_antithetic == pytest.approx(antithetic, rel=0.2)
    assert told_sobol > sobol


@pytest.mark.parametrize("sequence", ["antithetic", "sobol"])
def test_each_draw_has_the_law_that_it_has_alone(sequence):
    """Draw 5 by 600 seeds, each sequence's beside independent ones': two-sample Kolmogorov-Smirnov."""
    values = []
    for one in (model_of(4).posterior_draws(sequence), model_of(4).posterior_draws()):
        apply = tf.function(lambda seed, one=one: one.apply(X[:1], seed, 5, 1), autograph=False)
        values.append([apply(tf.constant(seed)).numpy()[0, 0, 0] for seed in range(600)])
    assert scipy.stats.ks_2samp(*values).pvalue > 1e-4


@pytest.mark.parametrize("sequence", [pytest.param("antithetic", marks=pytest.mark.slow), "sobol"])
def test_prefixes_agree_and_it_is_saved_and_exported(sequence, tmp_path):
    draws = model_of().posterior_draws(sequence)
    prediction = draws.predict_distribution(X, 32)
    np.testing.assert_array_equal(draws.predict_distribution(X, 7).parameters, prediction.parameters[:7])
    draws.save(tmp_path / "draws.keras")
    again = tfbnn.load_draws(tmp_path / "draws.keras")
    np.testing.assert_array_equal(again.predict_distribution(X, 32).parameters, prediction.parameters)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(draws, tmp_path / "model", num_samples=32))
    answer = served.predict(X)
    np.testing.assert_allclose(answer["probabilities"], prediction.probabilities, atol=1e-5)
    np.testing.assert_allclose(answer["mc_error"], prediction.mc_error, rtol=1e-3)
    np.testing.assert_allclose(served.predict_distribution(X, 32).mc_error, prediction.mc_error, rtol=1e-3)
    as_if_alone = tfbnn.Prediction(prediction.parameters, prediction.likelihood).mc_error
    assert np.allclose(answer["mc_error"], as_if_alone, rtol=1e-2) == (sequence == "sobol")  # twin


def student(dtype, shape, name, trainable, add_variable_fn):
    """A posterior that TFP samples itself."""
    loc = add_variable_fn(name=name + "_loc", shape=shape, dtype=dtype, trainable=trainable)
    return tfp.distributions.Independent(tfp.distributions.StudentT(5.0, loc, 0.3), len(shape))


@pytest.mark.parametrize("sequence", ["antithetic", "sobol"])
@pytest.mark.parametrize(("posterior", "is_of_bits"), [(student, False), ("MeanField", True)])
def test_noise_that_is_not_made_of_bits_stays_independent(posterior, is_of_bits, sequence):
    """A function of TFP's has the draws that it has without; a Gaussian's are others."""
    layer = tfbnn.layers.DenseReparameterization(3, use_bias=False, kernel_posterior_fn=posterior, seed=1)
    network = keras.Sequential([keras.Input((6,)), layer])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(3), num_data=1, seed=3)
    plain, other = (model.predict_distribution(X, 20, sequence=s).parameters for s in ("independent", sequence))
    assert np.array_equal(plain, other) == (not is_of_bits)


def test_of_one_draw_there_is_no_error():
    assert np.isnan(model_of().predict_distribution(X, 1).mc_error).all()


def test_too_many_numbers_and_unknown_names_are_refused():
    with pytest.raises(InvalidInput, match=r"`sequence`.*antithetic.*4,096"):
        model_of(80).predict_distribution(X, 4, coupling="coherent", sequence="sobol")
    with pytest.raises(InvalidInput, match=r"`sequence`.*'antithetic'"):
        model_of().predict_distribution(X, 4, sequence="antithetical")


# --- as many draws as an error needs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("sequence", "wanted"), [("independent", 0.02), ("antithetic", 0.006)])
def test_draws_are_made_until_the_error_is_reached(sequence, wanted, monkeypatch):
    """The least multiple of 20 draws (two blocks together) whose own error is small enough; as predicting so many."""
    model = model_of()
    enough = model.predict_distribution(X, "auto", sequence=sequence, max_error=wanted)
    S = enough.num_samples
    assert S % 20 == 0
    assert enough.mc_error.max() <= wanted * (1 + 1e-4)
    assert S > 20
    fewer = model.predict_distribution(X, S - 20, sequence=sequence)
    assert fewer.mc_error.max() > wanted * (1 - 1e-4)
    same = model.predict_distribution(X, S, sequence=sequence)
    np.testing.assert_allclose(enough.parameters, same.parameters, rtol=1e-5, atol=1e-5)
    unknown = np.concatenate([X, np.full_like(X[:1], np.nan)])  # past the model's own check: it ends nobody's draws
    beside = model.posterior_draws(sequence).predict_distribution(unknown, "auto", max_error=wanted)
    assert beside.num_samples == S
    monkeypatch.setattr(monte_carlo, "ROWS_PER_CALL", 7)
    in_parts = model.predict_distribution(X, "auto", sequence=sequence, max_error=wanted)
    np.testing.assert_allclose(in_parts.parameters, enough.parameters, rtol=1e-4, atol=1e-4)


def test_the_graph_is_traced_once_for_each_coupling(monkeypatch):
    traces, apply_until = [], monte_carlo.NetworkDraws.apply_until

    def told(self, *arguments):
        traces.append(arguments[-1])
        return apply_until(self, *arguments)

    monkeypatch.setattr(monte_carlo.NetworkDraws, "apply_until", told)
    model = model_of(4)
    for rows, seed, wanted in ((3, 1, 0.1), (4, 2, 0.2), (20, 3, 0.05)):
        model.predict_distribution(X[:rows], "auto", seed=seed, max_error=wanted)
    assert traces == ["marginal"]
    model.predict_distribution(X, "auto", coupling="coherent", max_error=0.1)
    assert traces == ["marginal", "coherent"]


def test_it_ends_where_no_number_of_draws_is_enough(monkeypatch):
    monkeypatch.setattr(monte_carlo, "MOST_SAMPLES", 35)
    assert model_of().predict_distribution(X, "auto", max_error=1e-9).num_samples == 35


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({"num_samples": "auto"}, "max_error"), ({"num_samples": 10, "max_error": 0.1}, "max_error"),
     ({"num_samples": "auto", "max_error": -1.0}, "max_error"), ({"num_samples": "automatic"}, "num_samples")],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(arguments, told):
    with pytest.raises(InvalidInput, match=f"`{told}`"):
        model_of().predict_distribution(X, **arguments)


def test_of_a_few_stored_draws_there_is_no_error_to_reach():
    network, likelihood = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)]), tfbnn.likelihoods.Normal()
    draws = StoredDraws(network, likelihood, [[w.numpy() for w in drawn_variables(network, likelihood)]] * 2)
    with pytest.raises(InvalidInput, match=r"`num_samples`.*2"):
        draws.predict_distribution(X, "auto", max_error=0.1)
