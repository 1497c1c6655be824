"""Monte Carlo dropout: what its loss is, its known optimum, its draws, which layers it drops."""

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
from tfbnn.core.noise import Tape, noise_scope
from tfbnn.core.traversal import sublayers
from tfbnn.inference import DeepEnsemble, MonteCarloDropout
from tfbnn.layers import ConcreteDropout, DenseFlipout, DenseVariational, MCDropout

RATE = 0.2


def sequential(layer=keras.layers.Dense):
    return keras.Sequential([keras.Input((3,)), layer(4, activation="tanh", seed=1) if layer is not keras.layers.Dense
                             else layer(4, "tanh"), layer(1)])  # fmt: skip


def method_of(network, **kwargs):
    likelihood = tfbnn.likelihoods.Normal().adapt(toy.Y)
    return MonteCarloDropout(network, likelihood, **{"rate": RATE, "seed": 3, **kwargs})


def fit(method, **kwargs):
    return method.fit(toy.X, toy.Y, **{"epochs": 2, "batch_size": 8, "verbose": 0, "jit_compile": False, **kwargs})


def dropped(network):
    """Names of the layers whose inputs are dropped."""
    masks = [layer.name.removesuffix("_mask") for layer in sublayers(network) if isinstance(layer, MCDropout)]
    return masks + [layer.name for layer in sublayers(network) if isinstance(layer, ConcreteDropout)]


# --- the known optimum of linear regression ---------------------------------------------------------------------------


def optimum(regression, rate, factor=None):
    """argmin_M sum_i (y_i - x_i M)^2 + rate / (1 - rate) sum_j M_j^2 sum_i x_ij^2 - 2 noise^2 log p(M).

    The kernel's prior has variance factor s^2, 1 - rate unless told, the bias's s^2, and the bias is not dropped.
    """
    X, D = regression.X, regression.X.shape[1] - 1
    squares = np.append((X[:, :D] ** 2).sum(axis=0), 0.0)
    prior = np.append(np.full(D, factor or 1 - rate), 1.0) * regression.prior_scale**2
    penalty = rate / (1 - rate) * squares + regression.noise_scale**2 / prior
    return np.linalg.solve(X.T @ X + np.diag(penalty), X.T @ regression.y)


@pytest.fixture(scope="module")
def linear_regression():
    """The regression, the draws after training, and 4,000 of their weights [S, D + 1].

    Each row is there 100 times, with N as if once: 100 masks a row and step. The prior is narrow and the rows are few,
    so that the prior's factor is seen.
    """
    regression = dataclasses.replace(blr.example(N=10), prior_scale=0.2)
    x, y = oracle.data(regression)
    rate = keras.optimizers.schedules.CosineDecay(0.05, 1500)
    method = MonteCarloDropout(oracle.network(regression), oracle.likelihood(regression), keras.optimizers.Adam(rate),
                               rate=RATE, drop_inputs=True, seed=1, num_data=10)  # fmt: skip
    draws = method.fit(np.tile(x, (100, 1)), np.tile(y, 100), epochs=1500, batch_size=1000, verbose=0)
    return regression, draws, oracle.weights(draws, x.shape[1], 4000)


def means_of(found):
    """M of draws [S, D + 1]: (1 - rate) times what a kernel's weight is where it is not dropped; the bias."""
    kernel = found[:, :-1]
    return np.append(kernel[np.abs(kernel).argmax(axis=0), range(kernel.shape[1])] * (1 - RATE), found[0, -1])


def test_in_linear_regression_the_weights_are_ridges(linear_regression):
    """Up to the training's noise; other rates, and a prior of M without its factor, are seen."""
    regression, _, found = linear_regression
    M = means_of(found)
    np.testing.assert_allclose(M, optimum(regression, RATE), atol=0.01)
    for twin in (optimum(regression, 0.1), optimum(regression, 0.3), optimum(regression, RATE, factor=1.0)):
        assert np.abs(M - twin).max() > 0.03


def test_the_law_of_the_weights_is_the_masks(linear_regression):
    """Mean M, covariance rate / (1 - rate) diag(M^2, 0), in standard errors of 4,000 draws of two values."""
    _, _, found = linear_regression
    M, kernel, size = means_of(found), found[:, :-1], len(found)
    np.testing.assert_allclose(found[:, -1], M[-1], atol=1e-5)
    kept = kernel / M[:-1] * (1 - RATE)
    np.testing.assert_allclose(kept * (kept - 1.0), 0.0, atol=1e-4)
    error = np.abs(kernel.mean(axis=0) / M[:-1] - 1) / np.sqrt(RATE / (1 - RATE) / size)
    assert error.max() < oracle.AT_MOST
    assert np.abs(np.corrcoef(kernel.T)[np.triu_indices(3, 1)]).max() * np.sqrt(size) < oracle.AT_MOST
    variance = (kernel / M[:-1]).var(axis=0)
    np.testing.assert_allclose(variance, RATE / (1 - RATE), rtol=0.1)  # standard error of a variance of two values: 2 %
    assert np.abs(variance / (0.3 / 0.7) - 1).min() > 0.1


@pytest.mark.parametrize("coupling", ["marginal", "coherent"])
def test_the_epistemic_variance_is_known(linear_regression, coupling):
    """rate / (1 - rate) sum_j x_j^2 M_j^2, with a standard error of 1 % or 2 %; that of another rate is seen."""
    regression, draws, _ = linear_regression
    at = oracle.far_and_near(regression)[:, :-1]
    found = draws.predict_distribution(at.astype("float32"), 4000, seed=2, coupling=coupling).epistemic_stddev[:, 0]

    def stddev(rate):
        return np.sqrt(rate / (1 - rate) * (at**2 * optimum(regression, rate)[:-1] ** 2).sum(axis=1))

    np.testing.assert_allclose(found, stddev(RATE), rtol=0.06)
    assert np.abs(found / stddev(0.3) - 1).max() > 0.06


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_penalty_is_the_kl_of_dropout_in_the_dropped_layer():
    """KL(q || p) = E -log p(z M / (1 - rate)) of p = Normal(m, s^2), but for a constant; enumerated over z."""
    m, s = 0.3, 0.7
    prior = tfbnn.priors.Normal(m, s)
    network = keras.Sequential([keras.Input((2,)), DenseFlipout(1, kernel_prior_fn=prior, bias_prior_fn=prior)])
    layer = method_of(network, drop_inputs=True).model.variational_layers[0]

    def penalty_and_kl(kernel):
        layer.weights[0].assign(np.reshape(kernel, (2, 1)))
        kept = (np.array(kernel) / (1 - RATE) - m) ** 2
        return float(layer.penalty()), ((1 - RATE) * kept + RATE * m**2).sum() / (2 * s**2)

    (penalty, kl), (other_penalty, other_kl) = penalty_and_kl([0.5, -1.0]), penalty_and_kl([2.0, 0.1])
    assert penalty - other_penalty == pytest.approx(kl - other_kl, rel=1e-5)
    plain = (0.5 - m) ** 2 + (-1.0 - m) ** 2 - (2.0 - m) ** 2 - (0.1 - m) ** 2
    assert penalty - other_penalty != pytest.approx(plain / (2 * s**2), rel=1e-2)


@pytest.mark.parametrize("concrete", [False, True])
def test_a_step_is_that_by_hand(concrete):
    method = method_of(sequential(DenseFlipout), concrete=concrete, optimizer=keras.optimizers.SGD(0.1), num_data=24)
    model, u = method.model, np.random.default_rng(0).random((8, 4)).astype("float32")
    layers = sublayers(model)
    kind = ConcreteDropout if concrete else MCDropout
    index = next(i for i, layer in enumerate(layers) if isinstance(layer, kind))
    first, last = ([v.numpy() for v in layer.trainable_variables] for layer in model.network.layers)
    logit, (kernel, bias) = (last[0] if concrete else None), last[-2:]
    x, y = toy.X[:8], toy.Y[:8, None]

    def loss(first_kernel, first_bias, kernel, bias, scale_rho, logit):
        rate = tf.sigmoid(logit) if concrete else RATE
        noise = tf.math.log(u) - tf.math.log1p(-u)
        kept = tf.sigmoid(-(logit + noise) / 0.1) if concrete else tf.cast(u < 1 - RATE, tf.float32)
        f = (tf.tanh(x @ first_kernel + first_bias) * kept / (1 - rate)) @ kernel + bias
        likelihood = model.likelihood
        likelihood.trainable_variables[0].assign(scale_rho)
        log_likelihood = 24 * tf.reduce_mean(likelihood.log_prob(likelihood(f), y))
        norms = tf.reduce_sum(first_kernel**2) + tf.reduce_sum(first_bias**2) + tf.reduce_sum(bias**2)
        regular = (norms + tf.reduce_sum(kernel**2) / (1 - rate)) / 2
        regular -= 4 * (-rate * tf.math.log(rate) - (1 - rate) * tf.math.log(1 - rate))
        return (regular - log_likelihood) / 24

    likelihood_rho = model.likelihood.trainable_variables[0].numpy()
    parts = [tf.constant(v) for v in (*first, kernel, bias)] + ([tf.constant(logit)] if concrete else [])
    with tf.GradientTape() as tape:
        tape.watch(parts)
        value = loss(*parts[:4], likelihood_rho, parts[-1] if concrete else None)
    expected = [part - 0.1 * gradient for part, gradient in zip(parts, tape.gradient(value, parts), strict=True)]
    with noise_scope(Tape({(index, "mask"): u}, layers)):
        model.train_step((tf.constant(x), tf.constant(y)))
    found = [v.numpy() for layer in model.network.layers for v in layer.trainable_variables]
    found = [*found[:2], *found[-2:], *([found[2]] if concrete else [])]
    for mine, its in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-6)


# --- draws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concrete", [False, True])
def test_draws_are_networks_with_one_mask_each(concrete):
    """Equal rows answer alike, a row alone as in its batch, a seed gives the same, fewer draws are the first ones."""
    draws = fit(method_of(sequential(), concrete=concrete))
    assert draws.num_draws is None
    x = np.vstack([toy.X[:5], toy.X[:5]])
    for coupling in ("marginal", "coherent"):
        found = draws.predict_distribution(x, 30, coupling=coupling).parameters
        np.testing.assert_array_equal(found[:, :5], found[:, 5:])
        alone = draws.predict_distribution(x[2:3], 30, coupling=coupling).parameters
        np.testing.assert_allclose(alone[:, 0], found[:, 2], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(draws.predict_distribution(x, 12).parameters, found[:12])
    assert np.abs(draws.predict_distribution(x, 30, seed=9).parameters - found).max() > 1e-3
    masks = found[:, :, 0].round(5)
    assert 2 <= len(np.unique(masks, axis=0)) <= 2**4  # four hidden units, in or out


@pytest.mark.parametrize("concrete", [pytest.param(False, marks=pytest.mark.slow), True])
def test_saved_loaded_and_exported_they_answer_the_same(concrete, tmp_path):
    draws = fit(method_of(sequential(DenseFlipout), concrete=concrete, drop_inputs=True))
    expected = draws.predict_distribution(toy.X, 20)
    draws.save(tmp_path / "draws.keras")
    loaded = tfbnn.load_draws(tmp_path / "draws.keras")
    np.testing.assert_array_equal(loaded.predict_distribution(toy.X, 20).parameters, expected.parameters)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(draws, tmp_path / "model", num_samples=20))
    np.testing.assert_allclose(served.predict(toy.X)["mean"], expected.mean, rtol=1e-5)


def test_two_methods_of_one_seed_are_equal_and_the_history_is_kept():
    methods = [method_of(sequential(lambda units, **kw: DenseFlipout(units, **{"seed": 5, **kw})), seed=s)
               for s in (3, 3, 4)]  # fmt: skip
    first, second, other = (fit(method).predict_distribution(toy.X, 10).parameters for method in methods)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-3
    assert len(methods[0].history["loss"]) == 2


def test_training_honours_validation_and_checkpoints(tmp_path):
    method = method_of(sequential())
    fit(method, validation_data=(toy.X, toy.Y), checkpoint=tmp_path / "kept")
    assert len(method.history["val_log_likelihood"]) == 2
    assert any((tmp_path / "kept").iterdir())


def test_members_of_an_ensemble_keep_their_masks():
    network = method_of(sequential(DenseFlipout)).model.network
    ensemble = DeepEnsemble(network, tfbnn.likelihoods.Normal(scale=1.0), members=2, seed=0)
    draws = ensemble.fit(toy.X, toy.Y, epochs=1, verbose=0)
    found = draws.predict_distribution(toy.X, 40).parameters[..., 0]
    assert draws.num_draws is None
    assert found[::2].std(axis=0).max() > 1e-3


# --- which layers are dropped -----------------------------------------------------------------------------------------


def functional():
    """Two inputs; b is called on its own output, `both` follows a and b, `skip` meets an input alone."""
    a, b = keras.layers.Dense(3, name="a"), keras.layers.Dense(3, name="b")
    one, two = keras.Input((3,)), keras.Input((3,))
    inner = keras.Sequential([keras.layers.Dense(2, name="inner_1"), keras.layers.Dense(3, name="inner_2")])
    skip = keras.layers.Dense(3, name="skip")(keras.ops.square(two))
    both = keras.layers.Dense(3, name="both")(keras.ops.tanh(a(one) + b(b(two))) + skip)
    return keras.Model([one, two], keras.layers.Dense(1, name="last")(inner(both)))


@pytest.mark.parametrize(("concrete", "drop_inputs"), [(False, False), (True, False), (False, True)])
def test_every_layer_but_the_first_of_each_path_is_dropped(concrete, drop_inputs):
    network = functional()
    copy = method_of(network, concrete=concrete, drop_inputs=drop_inputs).model.network
    expected = ["b", "both", "inner_1", "inner_2", "last", *(["a", "skip"] if drop_inputs else [])]
    assert sorted(dropped(copy)) == sorted(expected)
    assert dropped(network) == []
    x = [toy.X, 2 * toy.X]
    assert copy(x).shape == (toy.N, 1)


def test_the_copy_of_a_plain_network_has_its_weights():
    network = functional()
    copy = method_of(network, rate=1e-6).model.network
    x = [toy.X, 2 * toy.X]
    np.testing.assert_allclose(copy(x), network(x), rtol=1e-4, atol=1e-5)


def test_convolutions_are_dropped():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.Conv2D(5, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
    network = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    for concrete in (False, True):
        assert len(dropped(method_of(network, concrete=concrete).model.network)) == 2


@pytest.mark.parametrize("layer", [DenseFlipout, DenseVariational])
def test_posteriors_become_points(layer):
    network = keras.Sequential([keras.Input((3,)), layer(4), layer(1)])
    model = method_of(network).model
    assert all(term.q.is_point for part in model.variational_layers for term in part.weight_terms)
    assert fit(method_of(network)).num_draws is None


def test_a_network_that_drops_already_is_used_itself():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), MCDropout(0.5), keras.layers.Dense(1)])
    assert method_of(network).model.network is network


def with_prior(prior, **kwargs):
    return keras.Sequential([keras.Input((3,)), DenseFlipout(2), DenseFlipout(1, kernel_prior_fn=prior, **kwargs)])


@pytest.mark.parametrize(
    ("make", "arguments", "told"),
    [
        (sequential, {"rate": 1.0}, "rate"),
        (sequential, {"rate": True}, "rate"),
        (lambda: toy.linear(keras.layers.Dense), {}, "drop_inputs=True"),
        (lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.1)]), {}, "MCDropout"),
        (lambda: with_prior("ScaleMixture"), {}, "kernel_prior_fn"),
        (lambda: with_prior("EmpiricalBayesNormal"), {}, "kernel_prior_fn"),
        (lambda: with_prior(tfbnn.priors.Normal(0.5)), {"concrete": True}, "Normal"),
        (lambda: with_prior(tfbnn.priors.Normal(0.0, 0.5)), {"concrete": True}, "bias_prior_fn"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(make, arguments, told):
    with pytest.raises(InvalidInput, match=told):
        method_of(make(), **arguments)
