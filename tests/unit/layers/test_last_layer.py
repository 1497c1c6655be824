"""The variational last layer: its law, its ELBO in closed form, and the exact posterior of linear regression."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import blr
import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.layers import VariationalLastLayer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2)).astype(np.float32)
PROBLEM = blr.LinearRegression(
    np.column_stack([X, np.ones(40)]), X @ [1.0, -2.0] + 0.5 + 0.3 * RNG.normal(size=40), noise_scale=0.3
)
LIKELIHOODS = {
    "Normal": lambda: tfbnn.likelihoods.Normal(scale=0.3),
    "Bernoulli": tfbnn.likelihoods.Bernoulli,
    "Categorical": lambda: tfbnn.likelihoods.Categorical(3),
}
TARGETS = {"Normal": PROBLEM.y, "Bernoulli": np.arange(40) % 2, "Categorical": np.arange(40) % 3}


def model_of(likelihood, covariance="full", scale=-1.0, after=()):
    """A last layer of variables that are neither 0 nor equal."""
    made = LIKELIHOODS[likelihood]()
    layer = VariationalLastLayer(made.num_outputs, covariance, initial_rho=scale, seed=1)
    model = tfbnn.BayesianModel(keras.Sequential([keras.Input((2,)), layer, *after]), made, num_data=40, seed=1)
    rng = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape))
    return model, layer


def objective(model, likelihood):
    terms = model.objective(tf.constant(X), model.likelihood.match_target(TARGETS[likelihood]))[1]
    return float(terms.log_likelihood), float(terms.elbo)


def drawn_log_likelihood(model, likelihood, draws=4000):
    """Mean and standard error, over coherent draws of the weights, of the log likelihood of all rows."""
    y = model.likelihood.match_target(TARGETS[likelihood])
    parameters = model.predict_distribution(X, draws, 7, "coherent").parameters
    values = tf.reduce_sum(model.likelihood.log_prob(parameters, y), axis=1).numpy()
    return values.mean(), values.std() / np.sqrt(draws)


def test_at_the_exact_posterior_the_elbo_is_the_log_evidence():
    model, layer = model_of("Normal")
    L = np.linalg.cholesky(PROBLEM.covariance)
    scale = np.diag(L)
    loc, rho, correlation = (layer.weight_posteriors[0].loc, *layer.trainable_variables[1:])
    loc.assign(PROBLEM.mean[:, None])
    rho.assign(np.log(np.expm1(scale))[None])
    correlation.assign((L / scale[:, None])[None])
    np.testing.assert_allclose(objective(model, "Normal")[1], PROBLEM.log_evidence(), rtol=1e-5)
    loc.assign(PROBLEM.mean[:, None] + 0.05)
    assert objective(model, "Normal")[1] < PROBLEM.log_evidence() - 0.5


def test_training_finds_the_exact_posterior():
    """No draws, no noise: 1,500 steps of all rows end within 0.01 nats of the log evidence."""
    model, layer = model_of("Normal", scale=-3.0)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.05, 1500)))
    history = tfbnn.train(model, X, PROBLEM.y, epochs=1500, batch_size=40, verbose=0).history
    assert abs(history["elbo"][-1] - PROBLEM.log_evidence()) < 0.01
    _, L = layer.weight_posteriors[0].parameters()
    np.testing.assert_allclose(L[0] @ tf.transpose(L[0]), PROBLEM.covariance, atol=3e-4)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_expected_log_likelihood_is_that_of_draws(likelihood, covariance):
    """Of Normal within 5 standard errors of 4,000 draws; of classes a bound, 0 to 10 % below."""
    model, _ = model_of(likelihood, covariance)
    closed = objective(model, likelihood)[0]
    assert objective(model, likelihood)[0] == closed  # it draws nothing
    mean, error = drawn_log_likelihood(model, likelihood)
    if likelihood == "Normal":
        assert abs(closed - mean) < 5 * error
    else:
        assert 1.1 * mean < closed < mean + 5 * error


def test_with_a_layer_behind_it_the_likelihood_is_drawn():
    """The moments are no longer those of the network's outputs."""
    model, _ = model_of("Normal", after=[keras.layers.Activation("tanh")])
    values = {objective(model, "Normal")[0] for _ in range(3)}
    assert len(values) == 3


@pytest.mark.parametrize("coupling", ["marginal", "coherent"])
@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_draws_have_the_moments(covariance, coupling):
    """20,000 draws: mean and variance of each row and output within 5 standard errors."""
    model, layer = model_of("Categorical", covariance)
    f = model.predict_distribution(X[:5], 20_000, 1, coupling).parameters
    a = tf.constant(np.column_stack([X[:5], np.ones(5)]), tf.float32)
    mean, variance = (part.numpy() for part in layer.output_moments(a, layer._noise()))
    assert (np.abs(f.mean(axis=0) - mean) < 5 * np.sqrt(variance / 20_000)).all()
    assert (np.abs(f.var(axis=0) / variance - 1) < 5 * np.sqrt(2 / 20_000)).all()


def test_a_draw_is_one_function_where_rows_are_coupled():
    """f is affine in x: of three points on a line the middle one has the mean of the others."""
    model, _ = model_of("Normal")
    x = tf.constant([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    outputs = model.predict_distribution(x, 50, 1, "coherent").parameters[..., 0]
    np.testing.assert_allclose(outputs[:, 1], outputs[:, [0, 2]].mean(axis=1), atol=1e-5)
    alone = model.predict_distribution(x, 50, 1, "marginal").parameters[..., 0]
    assert np.abs(alone[:, 1] - alone[:, [0, 2]].mean(axis=1)).max() > 1e-3


@pytest.mark.parametrize(("arguments", "shape", "told"), [
    ({"covariance": "ful"}, (None, 2), "Did you mean 'full'"),
    ({}, (None, 4, 2), "Flatten"),
    ({}, (None, 9000), "numbers at most"),
])  # fmt: skip
def test_refused(arguments, shape, told):
    with pytest.raises(InvalidInput, match=told):
        VariationalLastLayer(3, **arguments).build(shape)
