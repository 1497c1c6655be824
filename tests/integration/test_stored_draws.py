"""Kept settings of the weights: finite and endless sets, saved, exported, asked in parts."""

import keras
import numpy as np
import pytest

import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.prediction import StoredDraws

M = 3


def settings_of(network, likelihood, count=M):
    rng = np.random.default_rng(0)
    shapes = [v.shape for v in (*network.trainable_variables, *likelihood.trainable_variables)]
    return [[rng.normal(size=shape).astype("float32") for shape in shapes] for _ in range(count)]


@pytest.fixture
def parts():
    network = toy.network(keras.layers.Dense)
    likelihood = tfbnn.likelihoods.Normal().adapt(toy.Y)
    return network, likelihood, settings_of(network, likelihood)


@pytest.fixture
def draws(parts):
    return StoredDraws(*parts, seed=5, metadata={"method": "by hand"})


def by_hand(network, likelihood, setting, x):
    for variable, value in zip((*network.trainable_variables, *likelihood.trainable_variables), setting, strict=True):
        variable.assign(value)
    return likelihood(network(x)).numpy()


def test_draw_i_is_the_network_with_setting_i(draws, parts):
    found = draws.predict_distribution(toy.X).parameters
    network, likelihood, settings = parts
    assert found.shape == (M, toy.N, 2)
    for i, setting in enumerate(settings):
        np.testing.assert_allclose(found[i], by_hand(network, likelihood, setting, toy.X), rtol=2e-5, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_a_row_alone_is_as_in_its_batch(draws):
    batch = draws.predict_distribution(toy.X).parameters
    alone = draws.predict_distribution(toy.X[4:5]).parameters
    np.testing.assert_allclose(alone[:, 0], batch[:, 4], rtol=1e-5)


def test_a_finite_set_has_an_end(draws):
    assert draws.num_draws == M
    assert draws.predict_distribution(toy.X, 2).parameters.shape[0] == 2
    with pytest.raises(InvalidInput, match="at most 3"):
        draws.predict_distribution(toy.X, M + 1)


def test_saved_and_loaded_it_answers_the_same(draws, tmp_path):
    draws.save(tmp_path / "draws.keras")
    loaded = tfbnn.load_draws(tmp_path / "draws.keras")
    expected = draws.predict_distribution(toy.X).parameters
    np.testing.assert_array_equal(loaded.predict_distribution(toy.X).parameters, expected)
    assert loaded.metadata == {"method": "by hand"}
    assert loaded.num_draws == M


def test_exported_it_answers_the_same_and_refuses_more_draws_than_there_are(draws, tmp_path):
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(draws, tmp_path / "model"))  # not 100 draws
    expected = draws.predict_distribution(toy.X)
    np.testing.assert_allclose(served.predict(toy.X)["mean"], expected.mean, rtol=1e-6)
    np.testing.assert_array_equal(served.predict_distribution(toy.X).parameters, expected.parameters)
    assert served.about["model"]["num_samples"] == M
    assert served.predict_distribution(toy.X).metadata == {"method": "by hand"}
    with pytest.raises(InvalidInput, match=r"`num_samples`.*at most 3, the draws that this model holds"):
        served.predict(toy.X, num_samples=M + 1)
    with pytest.raises(InvalidInput, match=r"`num_samples`.*at most 3, the draws that there are"):
        tfbnn.export_saved_model(draws, tmp_path / "other", num_samples=M + 1)
    assert not (tmp_path / "other").exists()


def test_a_random_network_has_no_end_of_draws():
    network = toy.network()
    likelihood = tfbnn.likelihoods.Normal(scale=0.3)
    draws = StoredDraws(network, likelihood, settings_of(network, likelihood), endless=True, seed=1)
    found = draws.predict_distribution(toy.X, 30).parameters
    assert draws.num_draws is None
    assert np.abs(found[0] - found[M]).max() > 1e-3  # the same setting, other noise
    again = draws.predict_distribution(toy.X, 20).parameters
    np.testing.assert_array_equal(again, found[:20])


def test_each_setting_of_a_random_network_is_sampled_by_its_own_posterior():
    network = toy.linear()
    likelihood = tfbnn.likelihoods.Normal(scale=0.3)
    settings = settings_of(network, likelihood, 2)
    for number, setting in enumerate(settings):  # kernel_loc, kernel_rho, bias_loc, bias_rho
        setting[1][:], setting[3][:] = [-20.0, 1.0][number], [-20.0, 1.0][number]
    draws = StoredDraws(network, likelihood, settings, endless=True, seed=1)
    found = draws.predict_distribution(toy.X, 200).parameters[:, :, 0]
    assert found[::2].std(axis=0).max() < 1e-5
    assert found[1::2].std(axis=0).min() > 0.5


def test_what_all_settings_share_is_kept_once():
    network, likelihood = toy.network(keras.layers.Dense), tfbnn.likelihoods.Normal(scale=0.3)
    settings = settings_of(network, likelihood)
    for setting in settings:
        setting[1] = settings[0][1]
    draws = StoredDraws(network, likelihood, settings)
    assert [list(v.shape) for v in draws.settings] == [[M, 3, 4], [M, 4, 1], [M, 1]]
    np.testing.assert_allclose(draws.predict_distribution(toy.X).parameters[2],
                               by_hand(network, likelihood, settings[2], toy.X), rtol=2e-5, atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("settings", [[], [[np.zeros(2)]]])
def test_settings_that_do_not_fit_are_refused(parts, settings):
    with pytest.raises(InvalidInput, match="settings"):
        StoredDraws(parts[0], parts[1], settings)
