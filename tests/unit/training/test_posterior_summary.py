"""The summary of a posterior: closed forms of what was put into the layers, and of stored draws."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn import posteriors, priors
from tfbnn.core.positive import inverse_positive
from tfbnn.prediction import StoredDraws
from tfbnn.training import posterior_summary


def model_of(units=5, layer="DenseReparameterization", **kwargs):
    dense = getattr(tfbnn.layers, layer)
    network = keras.Sequential([keras.Input((3,)), dense(units, name="hidden", **kwargs), dense(1, name="output")])
    return tfbnn.BayesianModel(network, "Normal", seed=0)


def test_a_layer_with_known_means_and_scales_is_told_as_they_are():
    model = model_of()
    for q in model.network.layers[0].weight_posteriors:
        q.loc.assign(np.full(q.shape, 0.3))
        q.rho.assign(np.full(q.shape, inverse_positive(np.float64(0.1))))
    found = posterior_summary(model)
    assert list(found["layer"]) == ["hidden", "output"]
    row = found.iloc[0]
    assert row["weights"] == 3 * 5 + 5
    assert row["scale"] == pytest.approx(0.1, rel=1e-5)
    np.testing.assert_allclose(row[["snr_25", "snr_50", "snr_75"]].astype(float), 3.0, rtol=1e-5)
    of_one = np.log(1.0 / 0.1) + (0.1**2 + 0.3**2) / 2 - 0.5  # KL(N(m, s) || N(0, 1))
    assert row["kl"] == pytest.approx(20 * of_one, rel=1e-4)
    assert found["kl"].sum() == pytest.approx(float(model.kl_divergence()), rel=1e-5)


def test_the_draws_of_a_model_are_told_as_the_model():
    model = model_of()
    left, right = posterior_summary(model), posterior_summary(model.posterior_draws())
    assert left.equals(right)


def test_a_monte_carlo_kl_is_the_same_each_time_and_near_the_true_one():
    model = model_of(kernel_prior_fn=priors.ScaleMixture())
    first, again = posterior_summary(model), posterior_summary(model)
    assert first.equals(again)
    assert not first.equals(posterior_summary(model, seed=1))


def test_correlated_weights_have_their_marginal_scales():
    model = model_of(make_posterior_fn=posteriors.FullCovariance(), layer="DenseVariational")
    row = posterior_summary(model).iloc[0]
    scale = model.network.layers[0].weight_posteriors[0].distribution().stddev().numpy()
    assert row["scale"] == pytest.approx(scale.mean(), rel=1e-5)


def test_stored_settings_are_told_by_their_mean_and_spread():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="only")])
    rng = np.random.default_rng(0)
    settings = [[rng.normal(2.0, 0.5, v.shape) for v in network.trainable_variables] for _ in range(13)]
    draws = StoredDraws(network, tfbnn.likelihoods.Normal(scale=1.0), [[*s] for s in settings])
    flat = np.array([np.concatenate([part.reshape(-1) for part in setting]) for setting in settings])
    [row] = posterior_summary(draws).to_dict("records")
    assert (row["layer"], row["weights"]) == ("only", 8)
    assert row["scale"] == pytest.approx(flat.std(axis=0).mean(), rel=1e-4)
    assert row["snr_75"] >= row["snr_50"] > 1.0
    assert np.isnan(row["kl"])


def test_a_network_of_points_has_no_rows():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert len(posterior_summary(tfbnn.BayesianModel(network, "Normal"))) == 0


def test_the_models_summary_tells_its_posterior():
    """Aligned, with sums; a plain network has no such part."""
    model, lines = model_of(), []
    model.summary(print_fn=lines.append)
    told = lines[-1].splitlines()
    found = posterior_summary(model)
    assert told[0] == "Posterior"
    assert len({len(line) for line in told[1:]}) == 1
    assert told[3].split()[:2] == ["hidden", "20"]
    assert told[-1].split() == ["total", "26", f"{found['kl'].sum():,.1f}"]
    plain = tfbnn.BayesianModel(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), "Normal")
    plain.summary(print_fn=(others := []).append)
    assert not [line for line in others if "Posterior" in line]
