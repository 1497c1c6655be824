"""Deep ensembles: members as trained alone, their mixture, their known optimum."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import blr
import posterior_oracle as oracle
import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.inference import DeepEnsemble
from tfbnn.inference.base import own_likelihood
from tfbnn.layers.convert import as_points


def seeded(layer=tfbnn.layers.DenseFlipout):
    return keras.Sequential([keras.Input((3,)), layer(4, activation="tanh", seed=1), layer(1, seed=2)])


def seeded_with(prior):
    layer = tfbnn.layers.DenseFlipout(1, kernel_prior_fn=prior, seed=1)
    return keras.Sequential([keras.Input((3,)), layer])


def ensemble(network=None, **kwargs):
    arguments = {"members": 3, "seed": 7, "optimizer": keras.optimizers.Adam(0.05), **kwargs}
    return DeepEnsemble(network or seeded(), tfbnn.likelihoods.Normal().adapt(toy.Y), **arguments)


def fit(method, **kwargs):
    return method.fit(toy.X, toy.Y, **{"epochs": 4, "batch_size": 8, "verbose": 0, **kwargs})


def test_members_are_the_models_trained_alone():
    draws = fit(ensemble())
    for m in range(3):
        likelihood = own_likelihood(tfbnn.likelihoods.Normal().adapt(toy.Y))
        alone = toy.model_of(as_points(seeded(), 7 + m), likelihood, seed=7 + m)
        toy.train(alone, epochs=4)
        expected = alone.predict_distribution(toy.X, 1).parameters[0]
        np.testing.assert_allclose(draws.predict_distribution(toy.X).parameters[m], expected, rtol=1e-4, atol=1e-5)


def test_members_differ_and_the_mixture_spreads():
    prediction = fit(ensemble()).predict_distribution(toy.X)
    assert prediction.epistemic_stddev.min() > 0
    assert len(prediction.parameters) == 3


@pytest.mark.slow
def test_variational_members_keep_their_posteriors():
    draws = fit(ensemble(of="variational"))
    assert draws.num_draws is None
    found = draws.predict_distribution(toy.X, 60).parameters[..., 0]
    assert np.abs(found[0] - found[3]).max() > 1e-3
    between = np.var([found[m::3].mean(axis=0) for m in range(3)], axis=0)
    assert between.max() > np.var(found[::3], axis=0).max()  # a few epochs: beginnings differ by more than q


def test_snapshots_are_the_ends_of_cycles():
    method = ensemble(snapshots=True)
    draws = fit(method, epochs=9)
    found = draws.predict_distribution(toy.X).parameters
    assert draws.num_draws == 3
    last = method.model.predict_distribution(toy.X, 1).parameters[0]
    np.testing.assert_allclose(found[-1], last, rtol=2e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_in_linear_regression_each_member_is_the_posterior_mean():
    regression = blr.example()
    method = DeepEnsemble(oracle.network(regression), oracle.likelihood(regression), keras.optimizers.Adam(0.05),
                          members=3, seed=1)  # fmt: skip
    x, y = oracle.data(regression)
    draws = method.fit(x, y, epochs=1500, batch_size=len(y), verbose=0)
    found = oracle.weights(draws, x.shape[1])
    np.testing.assert_allclose(found, np.tile(regression.mean, (3, 1)), atol=2e-3)
    other = regression.X.T @ regression.y
    least_squares = np.linalg.solve(regression.X.T @ regression.X, other)
    assert np.abs(found - least_squares).max() > 2e-3  # without the prior it would be that


@pytest.mark.slow
def test_anchored_members_spread_as_their_closed_form_says():
    """w_m = Sigma (X^T y / sigma^2 + a / s^2), a ~ Normal(0, s^2): the posterior mean, and covariance Sigma^2 / s^2."""
    regression = blr.example(N=8)
    method = DeepEnsemble(oracle.network(regression), oracle.likelihood(regression), keras.optimizers.Adam(0.05),
                          members=60, of="anchored", seed=1)  # fmt: skip
    x, y = oracle.data(regression)
    draws = method.fit(x, y, epochs=1500, batch_size=len(y), verbose=0)
    covariance = regression.covariance @ regression.covariance / regression.prior_scale**2
    assert oracle.errors(draws, regression, regression.mean, covariance).worst < oracle.AT_MOST
    assert oracle.errors(draws, regression, regression.mean, 3 * covariance).worst > oracle.AT_MOST


def test_anchors_are_drawn_from_normal_priors_alone():
    network = seeded_with(tfbnn.priors.ScaleMixture())
    with pytest.raises(InvalidInput, match="priors that are Normal"):
        fit(ensemble(network, of="anchored"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({"members": 1}, "members"), ({"of": "point"}, "points"), ({"of": "variational", "snapshots": True}, "snapshots")],
)
def test_what_cannot_work_is_refused(arguments, told):
    with pytest.raises(InvalidInput, match=told):
        ensemble(**arguments)


def test_rows_have_weights():
    weighed, twin = fit(ensemble(), sample_weight=toy.W), fit(ensemble())
    apart = weighed.predict_distribution(toy.X).parameters - twin.predict_distribution(toy.X).parameters
    assert np.abs(apart).max() > 1e-3
    alike = fit(ensemble(), sample_weight=np.full(toy.N, 3.0))
    np.testing.assert_allclose(
        alike.predict_distribution(toy.X).parameters, twin.predict_distribution(toy.X).parameters, rtol=1e-4, atol=1e-5
    )


def test_a_dataset_is_refused():
    with pytest.raises(InvalidInput, match="DeepEnsemble needs all rows at once"):
        ensemble().fit(tf.data.Dataset.from_tensor_slices((toy.X, toy.Y)).batch(8))


@pytest.mark.parametrize("method", [tfbnn.inference.NUTS, tfbnn.inference.Laplace, tfbnn.inference.SGHMC])
def test_methods_of_one_function_refuse_dropout(method):
    network = keras.Sequential([keras.Input((3,)), tfbnn.layers.MCDropout(0.1), tfbnn.layers.DenseFlipout(1)])
    with pytest.raises(InvalidInput, match="no MCDropout"):
        method(network, "Normal").fit(toy.X, toy.Y, epochs=10, verbose=0)


@pytest.mark.parametrize("method", [tfbnn.inference.NUTS, tfbnn.inference.Laplace, tfbnn.inference.DeepEnsemble])
@pytest.mark.parametrize("layer", [tfbnn.layers.BatchEnsemble, tfbnn.layers.RankOne])
def test_layers_with_members_are_refused(method, layer):
    network = keras.Sequential([keras.Input((3,)), layer(keras.layers.Dense(1), 2)])
    with pytest.raises(InvalidInput, match="no BatchEnsemble"):
        method(network, "Normal").fit(toy.X, toy.Y, epochs=10, verbose=0)


def test_more_snapshots_than_epochs_are_refused():
    with pytest.raises(InvalidInput, match="3 or more, one a snapshot"):
        fit(ensemble(snapshots=True), epochs=2)


def test_a_schedule_and_snapshots_do_not_go_together():
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 100)
    with pytest.raises(InvalidInput, match="learning rate"):
        fit(ensemble(snapshots=True, optimizer=keras.optimizers.Adam(schedule)))
