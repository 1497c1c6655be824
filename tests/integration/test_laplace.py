"""Laplace's approximation: exact where the posterior is Gaussian, its evidence, its two predictives, its files."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import blr
import posterior_oracle as oracle
import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.inference import Laplace
from tfbnn.inference.laplace import highest
from tfbnn.layers.convert import as_points
from tfbnn.prediction import GaussianDraws

S = 3000
REGRESSION = blr.example()


# --- linear regression, where Laplace is exact ------------------------------------------------------------------------


def at(regression=REGRESSION, w=None, layer=tfbnn.layers.DenseFlipout, **kwargs):
    """The oracle's network of points with weights w, the posterior's mean unless told."""
    network = as_points(oracle.network(regression, layer, **kwargs))
    w = regression.mean if w is None else w
    for variable, values in zip(network.trainable_variables, ([w] if len(network.trainable_variables) == 1 else
                                                              [w[:-1], w[-1:]]), strict=True):  # fmt: skip
        variable.assign(np.reshape(values, variable.shape))
    return network


def laplace(network=None, regression=REGRESSION, **kwargs):
    return Laplace(network or at(regression), oracle.likelihood(regression), **{"seed": 4, **kwargs})


def fitted(*args, regression=REGRESSION, **kwargs):
    """The method and its draws, from weights that are there already."""
    method = laplace(*args, regression=regression, **kwargs)
    return method, method.fit(*oracle.data(regression), epochs=0)


def covariance_of(draws):
    """F F^T of full and diagonal draws, [W, W]."""
    F = draws.factors[0].numpy().astype(np.float64)
    return F @ F.T if F.ndim == 2 else np.diag(F**2)


@pytest.mark.parametrize("predictive", ["linearised", "sampled"])
@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_it_is_the_exact_posterior(structure, predictive):
    _, draws = fitted(structure=structure, predictive=predictive)
    assert oracle.errors(draws, REGRESSION, REGRESSION.mean, REGRESSION.covariance, S).worst < oracle.AT_MOST


@pytest.mark.parametrize("wrong", [{"prior_precision": 16.0}, {"temperature": 0.7}, {"structure": "diagonal"}])
def test_twin_another_precision_or_temperature_is_not(wrong):
    _, draws = fitted(**{"structure": "full", **wrong})
    assert oracle.errors(draws, REGRESSION, REGRESSION.mean, REGRESSION.covariance, S).worst > oracle.AT_MOST


def test_the_covariance_is_the_inverse_of_the_precision():
    _, draws = fitted(structure="full")
    np.testing.assert_allclose(covariance_of(draws), REGRESSION.covariance, rtol=1e-4, atol=1e-7)
    _, warm = fitted(structure="full", temperature=2.0)
    np.testing.assert_allclose(covariance_of(warm), 2.0 * REGRESSION.covariance, rtol=1e-4, atol=1e-7)


def test_diagonal_is_its_known_optimum():
    _, draws = fitted(structure="diagonal")
    expected = np.diag(1.0 / np.diag(REGRESSION.precision))
    np.testing.assert_allclose(covariance_of(draws), expected, rtol=1e-5)
    assert oracle.errors(draws, REGRESSION, REGRESSION.mean, expected, S).worst < oracle.AT_MOST


def test_a_joint_tensor_of_kernel_and_bias_is_the_same():
    prior = tfbnn.priors.Normal(scale=REGRESSION.prior_scale)
    layer = tfbnn.layers.DenseVariational(1, make_prior_fn=prior)
    network = as_points(keras.Sequential([keras.Input((REGRESSION.X.shape[1] - 1,)), layer]))
    network.trainable_variables[0].assign(REGRESSION.mean[:, np.newaxis])
    for structure in ("full", "kronecker"):
        method, draws = fitted(network, structure=structure)
        np.testing.assert_allclose(method.log_marginal_likelihood, REGRESSION.log_evidence(), rtol=1e-5)
        assert oracle.errors(draws, REGRESSION, REGRESSION.mean, REGRESSION.covariance, S).worst < oracle.AT_MOST


def test_trained_from_a_network_of_posteriors():
    method = Laplace(oracle.network(REGRESSION), oracle.likelihood(REGRESSION), keras.optimizers.Adam(0.1), seed=0)
    x, y = oracle.data(REGRESSION)
    draws = method.fit(x, y, epochs=500, batch_size=len(y), verbose=0)
    assert len(method.history["loss"]) == 500
    assert oracle.errors(draws, REGRESSION, REGRESSION.mean, REGRESSION.covariance, S).worst < oracle.AT_MOST


# --- the evidence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior_scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_the_evidence_is_exact(structure, prior_scale):
    regression = dataclasses.replace(REGRESSION, prior_scale=prior_scale)
    method, draws = fitted(structure=structure, regression=regression)
    np.testing.assert_allclose(method.log_marginal_likelihood, regression.log_evidence(), rtol=1e-5)
    assert draws.metadata["log_marginal_likelihood"] == method.log_marginal_likelihood
    assert abs(method.log_marginal_likelihood - REGRESSION.log_evidence()) > 0.05 or prior_scale == 1.0


def test_with_the_diagonal_it_is_less():
    method, _ = fitted(structure="diagonal")
    expected = REGRESSION.log_evidence() - REGRESSION.mean_field_gap()
    np.testing.assert_allclose(method.log_marginal_likelihood, expected, rtol=1e-5)


def test_full_knows_it_away_from_the_mode_too():
    elsewhere = REGRESSION.mean + np.array([0.05, -0.05, 0.02, 0.1])
    method, _ = fitted(at(w=elsewhere), structure="full")
    np.testing.assert_allclose(method.log_marginal_likelihood, REGRESSION.log_evidence(), rtol=1e-5)
    other, _ = fitted(at(w=elsewhere), structure="kronecker")
    assert other.log_marginal_likelihood < REGRESSION.log_evidence() - 0.1  # that of w* itself


@pytest.mark.parametrize("precision", [0.1, 1.0, 7.0])
def test_a_number_is_the_precision_of_all_priors(precision):
    method, draws = fitted(structure="full", prior_precision=precision)
    expected = dataclasses.replace(REGRESSION, prior_scale=precision**-0.5)
    np.testing.assert_allclose(method.log_marginal_likelihood, expected.log_evidence(), rtol=1e-5)
    np.testing.assert_allclose(covariance_of(draws), expected.covariance, rtol=1e-4, atol=1e-7)
    assert draws.metadata["prior_precision"] == precision


def best_precision():
    """By the exact evidence."""
    return np.exp(highest(lambda log: dataclasses.replace(REGRESSION, prior_scale=np.exp(-0.5 * log)).log_evidence()))


def test_the_precision_of_highest_evidence_is_found():
    method, draws = fitted(structure="full", prior_precision="marginal_likelihood")
    np.testing.assert_allclose(method.prior_precision_found, best_precision(), rtol=2e-3)
    assert draws.metadata["prior_precision"] == method.prior_precision_found
    nearby = [fitted(structure="full", prior_precision=k * best_precision())[0] for k in (0.7, 1.4)]
    assert all(other.log_marginal_likelihood < method.log_marginal_likelihood for other in nearby)


def test_without_priors_it_is_found_unasked():
    network = keras.Sequential([keras.Input((REGRESSION.X.shape[1] - 1,)), keras.layers.Dense(1)])
    network.set_weights([REGRESSION.mean[:-1, None], REGRESSION.mean[-1:]])
    method, _ = fitted(network, structure="full")
    np.testing.assert_allclose(method.prior_precision_found, best_precision(), rtol=2e-3)


@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_layers_without_a_prior_beside_layers_with_one(structure):
    method, draws = fitted(at(bias_prior_fn=None, bias_posterior_fn="Deterministic"), structure=structure)

    def by_hand(log):
        """The evidence, where the bias alone has the precision exp(log)."""
        scales = np.append(np.ones(REGRESSION.X.shape[1] - 1), np.exp(-0.5 * log))
        return blr.LinearRegression(REGRESSION.X * scales, REGRESSION.y, REGRESSION.noise_scale).log_evidence()

    assert structure != "full" or abs(np.log(method.prior_precision_found) - highest(by_hand)) < 5e-3
    precisions = np.append(np.ones(REGRESSION.X.shape[1] - 1), method.prior_precision_found)
    H = REGRESSION.X.T @ REGRESSION.X / REGRESSION.noise_scale**2 + np.diag(precisions)
    assert oracle.errors(draws, REGRESSION, REGRESSION.mean, np.linalg.inv(H), S).worst < oracle.AT_MOST


@pytest.mark.parametrize("structure", ["full", "kronecker", "diagonal"])
def test_the_temperature_widens_the_posterior_and_leaves_the_evidence(structure):
    cold, warm = (fitted(structure=structure, temperature=T) for T in (1.0, 4.0))
    assert cold[0].log_marginal_likelihood == warm[0].log_marginal_likelihood
    spread, wider = (oracle.weights(draws, REGRESSION.X.shape[1] - 1, 50).std(axis=0) for _, draws in (cold, warm))
    np.testing.assert_allclose(wider, 2.0 * spread, rtol=1e-3)


def test_a_prior_that_bends_downwards_is_no_mode():
    prior = tfbnn.priors.ScaleMixture(pi=0.5, scale_1=1.0, scale_2=0.02)
    network = at(w=np.full(len(REGRESSION.mean), 0.07), kernel_prior_fn=prior, bias_prior_fn=prior)
    for structure in ("full", "kronecker", "diagonal"):
        with pytest.raises(InvalidInput, match=r"smallest eigenvalue is -\d.*Train longer"):
            fitted(network, structure=structure)


# --- training, and what cannot work -----------------------------------------------------------------------------------


def small():
    """3-4-1 of points, tanh."""
    return as_points(toy.network())


def test_training_is_that_of_a_model_of_points():
    network = toy.linear(tfbnn.layers.DenseFlipout, seed=2)
    kwargs = {"epochs": 3, "batch_size": 8, "verbose": 0, "jit_compile": False}
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    method = Laplace(network, tfbnn.likelihoods.Normal().adapt(toy.Y), keras.optimizers.Adam(0.05), seed=3)
    method.fit(toy.X, toy.Y, callbacks=[callback], validation_data=(toy.X, toy.Y), **kwargs)
    assert seen == [0, 1, 2]
    assert len(method.history["val_log_likelihood"]) == 3
    assert method.likelihood.rho.numpy() != method.model.likelihood.rho.numpy()  # a copy was trained


def test_interrupted_and_resumed_it_is_the_same(tmp_path):
    def fit(epochs, **kwargs):
        seeded = keras.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(1, seed=1)])
        method = Laplace(seeded, tfbnn.likelihoods.Normal().adapt(toy.Y), keras.optimizers.Adam(0.05), seed=3)
        draws = method.fit(toy.X, toy.Y, epochs, 8, verbose=0, jit_compile=False, **kwargs)
        return draws.predict_distribution(toy.X, 5).parameters

    fit(2, checkpoint=tmp_path, checkpoint_every=1)
    resumed = fit(4, checkpoint=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed, fit(4))
    assert np.abs(resumed - fit(2)).max() > 1e-3


def test_rows_with_weights_count_by_them():
    w = np.where(np.arange(toy.N) < 12, 1.0, 0.0).astype("float32")
    likelihood = tfbnn.likelihoods.Normal(scale=0.4)
    half = Laplace(small(), likelihood, structure="full", num_data=12, seed=0)
    half.fit(toy.X, toy.Y, epochs=0, sample_weight=w)
    alone = Laplace(small(), likelihood, structure="full", seed=0)
    alone.fit(toy.X[:12], toy.Y[:12], epochs=0)
    np.testing.assert_allclose(half.log_marginal_likelihood, alone.log_marginal_likelihood, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"structure": "kron"}, "structure"),
        ({"weights": "first"}, "weights"),
        ({"predictive": "linear"}, "linearised"),
        ({"temperature": 0.0}, "temperature"),
        ({"prior_precision": -1.0}, "prior_precision"),
        ({"prior_precision": "evidence"}, "marginal_likelihood"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, told):
    with pytest.raises(InvalidInput, match=told):
        laplace(**arguments)


def test_too_many_weights_for_full_are_refused_before_training():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1300), keras.layers.Dense(1)])
    with pytest.raises(InvalidInput, match=r"'kronecker' or 'diagonal'.*6501 weights.*weights='last'"):
        Laplace(network, "Normal", structure="full").fit(toy.X, toy.Y, epochs=10**6)


def test_other_things_that_cannot_work_are_refused():
    with pytest.raises(InvalidInput, match="epochs"):
        Laplace(toy.network(), "Normal").fit(toy.X, toy.Y, epochs=0)
    with pytest.raises(InvalidInput, match="epochs"):
        Laplace(small(), "Normal").fit(toy.X, toy.Y, epochs=-1)
    with pytest.raises(InvalidInput, match="arrays, because Laplace"):
        Laplace(small(), "Normal").fit(tf.data.Dataset.from_tensors((toy.X, toy.Y)), None)
    frozen = small()
    frozen.trainable = False
    with pytest.raises(InvalidInput, match="weights that are trained"):
        Laplace(frozen, "Normal").fit(toy.X, toy.Y, epochs=0)
    with pytest.raises(InvalidInput, match="factors"):
        GaussianDraws(small(), tfbnn.likelihoods.Normal(), "diagonal", factors=[np.ones(20)])
