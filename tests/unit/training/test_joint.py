"""The log joint density: against closed forms, against the loss of training, and what of a network it is of."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import blr
import posterior_oracle as oracle
import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.layers.convert import as_points
from tfbnn.training.joint import FREE_SCALE, LogJoint

REGRESSION = blr.example()
POSITIONS = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")


def of_regression(**kwargs):
    model = toy.model_of(as_points(oracle.network(REGRESSION, **kwargs)), oracle.likelihood(REGRESSION))
    return LogJoint(model, *oracle.data(REGRESSION))


def of_net(likelihood=None, **kwargs):
    return LogJoint(toy.model_of(as_points(toy.network()), likelihood or "Normal"), toy.X, toy.Y, **kwargs)


def exact(w):
    return REGRESSION.log_likelihood(w) + REGRESSION.log_prior(w)


def test_it_is_that_of_linear_regression():
    found = of_regression()(tf.constant(POSITIONS)).numpy()
    np.testing.assert_allclose(found, [exact(w) for w in POSITIONS.astype(float)], rtol=2e-6)


def test_twin_another_prior_scale_is_seen():
    prior = tfbnn.priors.Normal(scale=1.1)
    found = of_regression(kernel_prior_fn=prior)(tf.constant(POSITIONS)).numpy()
    assert not np.allclose(found, [exact(w) for w in POSITIONS.astype(float)], rtol=2e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_its_gradient_is_that_of_linear_regression(jit_compile):
    joint = of_regression()

    @tf.function(autograph=False, jit_compile=jit_compile)
    def gradient_of_twice(position):
        with tf.GradientTape() as tape:
            tape.watch(position)
            twice = 2.0 * joint(position)
        return tape.gradient(twice, position)

    w = POSITIONS.astype(float)
    residual = REGRESSION.y - w @ REGRESSION.X.T
    expected = residual @ REGRESSION.X / REGRESSION.noise_scale**2 - w / REGRESSION.prior_scale**2
    np.testing.assert_allclose(gradient_of_twice(tf.constant(POSITIONS)), 2.0 * expected, rtol=1e-4)


def test_it_is_minus_n_times_the_loss_of_training():
    likelihood = tfbnn.likelihoods.Normal(scale=0.3)
    joint = of_net(likelihood)
    _, _, loss = joint.model.objective(joint.rows["x"], joint.rows["y"])
    assert float(joint(joint.present()[tf.newaxis])[0]) == pytest.approx(-toy.N * float(loss), rel=1e-5)


def test_chains_together_are_chains_alone():
    joint = of_net()
    position = joint.prior_draws(4, tf.constant([1, 2]))
    alone = tf.concat([joint(position[c : c + 1]) for c in range(4)], axis=0)
    np.testing.assert_allclose(joint(position), alone, rtol=1e-5)


def test_a_learned_scale_has_a_weak_prior_about_its_value():
    joint = of_net()
    assert [v.name for v in joint.variables][-1] == "rho"
    here = joint.present().numpy()
    there = here.copy()
    there[-1] += 2.0
    values = joint(tf.constant(np.stack([here, there]))).numpy()
    likelihoods = []
    for rho in (here[-1], there[-1]):
        joint.free[0].assign([rho])
        rows = joint.model.likelihood.log_prob(joint.model(toy.X), joint.rows["y"])
        likelihoods.append(float(tf.reduce_sum(rows)))
    of_prior = (values[1] - values[0]) - (likelihoods[1] - likelihoods[0])
    assert of_prior == pytest.approx(-0.5 * (2.0 / FREE_SCALE) ** 2, abs=1e-4)


def test_weights_of_rows_count_as_in_training():
    plain, ones, weighted = (of_net(sample_weight=w) for w in (None, np.ones(toy.N), toy.W))
    position = plain.present()[tf.newaxis]
    np.testing.assert_allclose(ones(position), plain(position), rtol=1e-6)
    _, _, loss = weighted.model.objective(weighted.rows["x"], weighted.rows["y"], tf.constant(toy.W))
    position = weighted.present()
    of_free = weighted.model.likelihood.trainable_variables[0]
    normaliser = -np.log(FREE_SCALE) - 0.5 * np.log(2 * np.pi)
    assert of_free.shape == (1,)
    assert float(weighted(position[tf.newaxis])[0]) == pytest.approx(-toy.N * float(loss) + normaliser, rel=1e-5)


def test_settings_are_stacked_in_the_order_of_the_variables():
    joint = of_net()
    position = tf.range(joint.size, dtype=tf.float32)[tf.newaxis]
    parts = joint.unstacked(position)
    assert [list(part.shape) for part in parts] == [[1, 3, 4], [1, 4], [1, 4, 1], [1, 1], [1, 1]]
    np.testing.assert_array_equal(tf.concat([tf.reshape(part, [1, -1]) for part in parts], axis=1), position)
    np.testing.assert_array_equal(joint.unstacked(position.numpy())[2], parts[2])


def test_draws_of_the_prior_have_its_moments():
    joint = of_regression(kernel_prior_fn=tfbnn.priors.Normal(2.0, 3.0))
    drawn = joint.prior_draws(4000, tf.constant([1, 2])).numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), [2, 2, 2, 0], atol=4 * 3 / np.sqrt(4000))  # 4 standard errors
    np.testing.assert_allclose(drawn.std(axis=0), [3, 3, 3, 1], rtol=4 / np.sqrt(2 * 4000))


def test_only_weights_that_are_trained_and_have_a_prior_are_sampled():
    points = {"kernel_posterior_fn": "Deterministic", "bias_posterior_fn": "Deterministic"}
    layers = [tfbnn.layers.DenseFlipout(4, **points), keras.layers.Dense(4), tfbnn.layers.DenseFlipout(2, **points),
              tfbnn.layers.DenseFlipout(1, **points)]  # fmt: skip
    net = keras.Sequential([keras.Input((3,)), *layers])
    layers[2].trainable = False
    joint = LogJoint(toy.model_of(net, tfbnn.likelihoods.Normal(scale=0.3)), toy.X, toy.Y)
    assert [list(v.shape) for v in joint.variables] == [[3, 4], [4], [2, 1], [1]]


@pytest.mark.parametrize(
    ("network", "told"), [(keras.layers.Dense, "Use layers of tfbnn"), (tfbnn.layers.DenseFlipout, "points")]
)
def test_networks_that_cannot_be_sampled_are_refused(network, told):
    with pytest.raises(InvalidInput, match=told):
        LogJoint(toy.model_of(toy.network(network)), toy.X, toy.Y)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_beside_weights_that_are_not_sampled_it_has_a_gradient(jit_compile):
    points = {"kernel_posterior_fn": "Deterministic", "bias_posterior_fn": "Deterministic"}
    layers = [keras.layers.Dense(4, "tanh"), tfbnn.layers.DenseFlipout(1, **points)]
    net = keras.Sequential([keras.Input((3,)), *layers])
    joint = LogJoint(toy.model_of(net, tfbnn.likelihoods.Normal(scale=0.3)), toy.X, toy.Y)
    position = joint.prior_draws(2, tf.constant([1, 2]))

    @tf.function(autograph=False, jit_compile=jit_compile)
    def gradient(position):
        with tf.GradientTape() as tape:
            tape.watch(position)
            value = joint(position)
        return tape.gradient(value, position)

    np.testing.assert_allclose(gradient(position), joint.values_and_gradients(position)[1], rtol=1e-4)
    layers[0].kernel.assign(tf.zeros([3, 4]))  # what the others are is read at each call
    np.testing.assert_allclose(gradient(position), joint.values_and_gradients(position)[1], rtol=1e-4)
