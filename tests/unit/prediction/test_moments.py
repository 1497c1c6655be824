"""Moments in closed form: exact where they should be, against quadrature and draws; what is dropped is seen."""

import json

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.prediction import MomentDraws
from tfbnn.prediction.moments import DenseWeights, Moments, dense, relu
from tfbnn.recipes.builders import mlp

K, L = keras.layers, tfbnn.layers
X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
WIDE = tfbnn.posteriors.MeanField(initial_rho=-1.0)
POINT = {"kernel_posterior_fn": "Deterministic", "bias_posterior_fn": "Deterministic"}


def flipout(units, activation=None, posterior=WIDE, seed=1, **kwargs):
    own = {"kernel_posterior_fn": posterior, "bias_posterior_fn": posterior, **kwargs}
    return L.DenseFlipout(units, activation, seed=seed, **own)


def chain(*layers, shape=(3,)):
    return keras.Sequential([keras.Input(shape), *layers])


def draws_of(network, **kwargs):
    return MomentDraws(network, tfbnn.likelihoods.Normal(scale=0.5), **kwargs)


def moments_of(network, x=X, **kwargs):
    return [part.numpy() for part in MomentDraws(network, Outputs(network), **kwargs).output_moments(x)]


class Outputs(K.Layer):
    """A likelihood that takes what a network puts out, of any size."""

    def __init__(self, network):
        super().__init__()
        self.num_outputs = self.num_parameters = network.outputs[0].shape[-1]

    def check_outputs(self, outputs):
        return outputs

    def call(self, outputs):
        return outputs


# --- ReLU -------------------------------------------------------------------------------------------------------------


def relu_by_quadrature(mean, sigma):
    """E relu(y) and Var relu(y) of y ~ Normal(mean, sigma^2)."""
    density = scipy.stats.norm(mean, sigma).pdf
    top = max(mean, 0) + 12 * sigma
    first, second = (
        scipy.integrate.quad(lambda y, n=n: y**n * density(y), 0, top, points=[max(mean, 0)], epsabs=0, epsrel=1e-10)[0]
        for n in (1, 2)
    )
    # E (relu - first)^2, so that no digits are lost
    above = scipy.integrate.quad(lambda y: (y - first) ** 2 * density(y), 0, top, points=[max(mean, 0)], epsrel=1e-10)
    below = first**2 * scipy.stats.norm.cdf(-mean / sigma)
    assert second >= 0
    return first, above[0] + below


@pytest.mark.parametrize("sigma", [1e-3, 0.7, 20.0])
@pytest.mark.parametrize("a", [-4.0, -1.3, 0.0, 0.4, 2.0, 6.0])
def test_one_unit_behind_relu_is_as_by_quadrature(a, sigma):
    found = relu(Moments(tf.constant([[a * sigma]]), tf.constant([[sigma**2]])))
    mean, variance = relu_by_quadrature(a * sigma, sigma)
    np.testing.assert_allclose(found.mean[0, 0], mean, rtol=3e-4 if a < -3 else 3e-6)  # tails: differences of float32
    np.testing.assert_allclose(found.variance[0, 0], variance, rtol=3e-4 if a < -3 else 1e-5)


def test_units_of_no_variance_are_points_behind_relu():
    mean = tf.constant([[-2.0, 0.0, 3.0, 1e8, -1e8]])
    zeros = tf.zeros([1, 5])
    found = relu(Moments(mean, zeros, tf.zeros([1, 5, 5])))
    np.testing.assert_array_equal(found.mean, np.maximum(mean, 0))
    np.testing.assert_array_equal(found.covariance, np.zeros([1, 5, 5]))


def covariance_by_quadrature(a, b, rho):
    """Cov(relu(a + z), relu(b + z')) of standard normals of correlation rho."""
    spread = np.sqrt(1 - rho**2)

    def inner(z):
        """E[relu(b + z') | z]."""
        at = (b + rho * z) / spread
        return spread * (at * scipy.stats.norm.cdf(at) + scipy.stats.norm.pdf(at))

    def integrand(z):
        return (a + z) * inner(z) * scipy.stats.norm.pdf(z)

    both = scipy.integrate.quad(integrand, -a, max(12, 12 - a), epsabs=1e-12, limit=200)[0]
    return both - np.prod([m * scipy.stats.norm.cdf(m) + scipy.stats.norm.pdf(m) for m in (a, b)])


def left_of_the_series(a, terms):
    """r = Var relu(a + z) - sum_(n <= terms) c_n^2 / n!."""
    Phi, phi = scipy.stats.norm.cdf(a), scipy.stats.norm.pdf(a)
    c = [Phi, phi, -a * phi][:terms]
    return relu_by_quadrature(a, 1.0)[1] - sum(value**2 / factor for value, factor in zip(c, (1, 2, 6), strict=False))


def pair_behind_relu(a, b, rho, terms):
    y = Moments(tf.constant([[a, b]]), tf.ones([1, 2]), tf.constant([[[1.0, rho], [rho, 1.0]]]))
    return float(relu(y, terms).covariance[0, 0, 1])


PAIRS = [(0.0, 0.0, 0.9), (0.0, 0.0, -0.9), (0.5, -0.7, 0.5), (1.0, 1.0, -0.8), (-1.0, 2.0, 0.99), (-2.0, -2.0, 0.7)]


@pytest.mark.parametrize("terms", [1, 2, 3])
@pytest.mark.parametrize(("a", "b", "rho"), PAIRS)
def test_a_covariance_behind_relu_is_within_the_stated_error(a, b, rho, terms):
    bound = abs(rho) ** (terms + 1) * np.sqrt(left_of_the_series(a, terms) * left_of_the_series(b, terms))
    error = pair_behind_relu(a, b, rho, terms) - covariance_by_quadrature(a, b, rho)
    assert abs(error) <= bound + 1e-6


def test_twin_fewer_terms_are_outside_the_error_of_more():
    bound = 0.9**4 * left_of_the_series(0.0, 3)
    exact = covariance_by_quadrature(0.0, 0.0, 0.9)
    errors = [abs(pair_behind_relu(0.0, 0.0, 0.9, terms) - exact) for terms in (1, 2, 3)]
    assert errors[0] > 5 * bound
    assert errors[1] < bound  # c_3 is 0 where the mean is
    assert errors[2] <= bound


def test_what_is_cut_stays_a_covariance():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(5, 20, 3)).astype(np.float32)  # of rank 3: correlations near 1
    covariance = root @ root.transpose(0, 2, 1)
    y = Moments(tf.constant(rng.normal(size=(5, 20)), tf.float32), tf.linalg.diag_part(covariance), covariance)
    least = np.linalg.eigvalsh(relu(y).covariance.numpy().astype(np.float64)).min()
    assert least > -1e-5


# --- linear layers ----------------------------------------------------------------------------------------------------


def weights(rng, D, U):
    kernel, bias = rng.normal(size=(D, U)), rng.normal(size=U)
    variances = rng.uniform(0.1, 1, size=(D, U)), rng.uniform(0.1, 1, size=U)
    return DenseWeights(*(tf.constant(part, tf.float32) for part in (kernel, variances[0], bias, variances[1])))


@pytest.mark.parametrize("independent", [False, True])
def test_moments_through_a_linear_layer_are_those_of_total_covariance(independent):
    """Inputs that are one of a few points with equal probability: Cov y = E Cov(y | h) + Cov E(y | h)."""
    rng = np.random.default_rng(2)
    w = weights(rng, 3, 4)
    sides = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T if independent else np.array([[1], [-1]])
    h = rng.normal(size=3) + sides * rng.uniform(0.5, 1.5, size=3)  # [points, 3]
    covariance = None if independent else tf.constant(np.cov(h.T, ddof=0)[np.newaxis], tf.float32)
    given = Moments(*(tf.constant(part[np.newaxis], tf.float32) for part in (h.mean(0), h.var(0))), covariance)
    of_points = h @ w.kernel.numpy() + w.bias.numpy()
    within = (h**2 @ w.kernel_variance.numpy() + w.bias_variance.numpy()).mean(0)
    expected = np.cov(of_points.T, ddof=0) + np.diag(within)
    found = dense(given, w)
    np.testing.assert_allclose(found.mean[0], of_points.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.covariance[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.variance[0], np.diag(expected), rtol=1e-5)
    alone = dense(given, w, joint=False)
    assert alone.covariance is None
    np.testing.assert_allclose(alone.variance[0], np.diag(expected), rtol=1e-5)


def pruned():
    layer = flipout(2, posterior=tfbnn.posteriors.Pruned(WIDE))
    layer.build((None, 3))
    layer.weight_posteriors[0].keep(np.array([[1, 0], [0, 1], [1, 1]], bool))
    return layer


LINEAR = {
    "flipout": lambda: flipout(2),
    "local": lambda: L.DenseLocalReparameterization(2, kernel_posterior_fn=WIDE, seed=1),
    "reparameterization": lambda: L.DenseReparameterization(2, kernel_posterior_fn=WIDE, use_bias=False, seed=1),
    "one tensor": lambda: L.DenseVariational(2, WIDE, seed=1),
    "one tensor, no bias": lambda: L.DenseVariational(2, WIDE, use_bias=False, seed=1),
    "a kernel of points": lambda: L.DenseFlipout(2, kernel_posterior_fn="Deterministic", bias_posterior_fn=WIDE),
    "pruned": pruned,
}


@pytest.mark.parametrize("name", LINEAR)
def test_one_linear_layer_is_exact_for_every_layer(name):
    layer = LINEAR[name]()
    m, V = moments_of(chain(layer))
    parts = [[part.numpy() for part in q.factorised_gaussian] for q in layer.weight_posteriors]
    x = np.c_[X, np.ones(4)] if layer.use_bias else X
    loc, scale = (np.concatenate([part[side].reshape(-1, 2) for part in parts]) for side in (0, 1))
    np.testing.assert_allclose(m, x @ loc, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.diagonal(V, axis1=1, axis2=2), x**2 @ scale**2, rtol=1e-5)
    np.testing.assert_array_equal(V[:, 0, 1], 0)


def test_no_covariance_is_dropped_where_no_relu_is():
    network = chain(flipout(5), flipout(5, seed=2), flipout(2, seed=3))
    for full, diagonal in zip(moments_of(network), moments_of(network, covariance="diagonal"), strict=True):
        np.testing.assert_allclose(full, diagonal, rtol=1e-5)
    assert np.abs(full[:, 0, 1]).min() > 1e-3


# --- networks ---------------------------------------------------------------------------------------------------------


def explicit_outputs(network, count):
    """Outputs [count, B, P] by drawing every weight in NumPy."""
    rng = np.random.default_rng(5)
    h = np.broadcast_to(X, (count, *X.shape)).astype(np.float64)
    for layer in network.layers:
        kernel, bias = (
            loc.numpy() + scale.numpy() * rng.standard_normal((count, *loc.shape), np.float32)
            for loc, scale in (q.factorised_gaussian for q in layer.weight_posteriors)
        )
        h = h @ kernel + bias[:, np.newaxis]
        h = np.maximum(h, 0) if layer.activation is keras.activations.relu else h
    return h


def standard_errors_off(m, V, outputs):
    """How many standard errors mean and covariance [B, P, P] are from those of outputs, at most."""
    centred = outputs - outputs.mean(axis=0)
    products = centred[..., np.newaxis] * centred[..., np.newaxis, :]
    of_mean = (m - outputs.mean(axis=0)) / (outputs.std(axis=0) / np.sqrt(len(outputs)))
    of_covariance = (V - products.mean(axis=0)) / (products.std(axis=0) / np.sqrt(len(outputs)))
    return np.abs(of_mean).max(), np.abs(of_covariance).max()


@pytest.fixture(scope="module")
def one_hidden():
    network = chain(flipout(6, "relu"), flipout(2, seed=2))
    return network, explicit_outputs(network, 100_000)


def test_one_hidden_layer_is_exact(one_hidden):
    """Within 4.5 standard errors: 28 numbers, false alarms in 2 of 10,000; a stddev 2 % off is seen."""
    network, outputs = one_hidden
    for covariance in ("full", "diagonal"):
        assert max(standard_errors_off(*moments_of(network, covariance=covariance), outputs)) < 4.5
    m, V = moments_of(network)
    assert standard_errors_off(m, 1.02**2 * V, outputs)[1] > 4.5
    assert standard_errors_off(m, V * np.eye(2), outputs)[1] > 4.5


def test_points_are_the_plain_network():
    narrow = tfbnn.posteriors.MeanField(initial_rho=-100.0)
    layers = [
        flipout(5, "relu", narrow),
        K.Dense(4, "relu"),
        flipout(5, "relu", narrow, seed=2),
        flipout(2, None, narrow),
    ]
    network = chain(*layers)
    m, V = moments_of(network)
    np.testing.assert_allclose(m, network(X, training=False), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(V, 0, atol=1e-12)
    m, V = moments_of(chain(K.Dense(4, "tanh"), L.DenseFlipout(1, **POINT)))  # no noise at all
    np.testing.assert_array_equal(V, 0)


def test_what_comes_before_the_first_noise_may_be_anything():
    normalise = K.Normalization()
    normalise.adapt(3 * X + 1)
    before = [normalise, K.Reshape((3, 1)), K.Conv1D(2, 2, activation="tanh"), K.Dropout(0.5), K.Flatten()]
    before = [*before, L.DenseFlipout(3, "softplus", **POINT)]
    last = flipout(1)
    network = chain(keras.Sequential(before), K.Dropout(0.5), K.Flatten(), last)
    h = keras.Sequential(before)(X, training=False).numpy()
    (kernel, kernel_scale), (bias, bias_scale) = (q.factorised_gaussian for q in last.weight_posteriors)
    m, V = moments_of(network)
    np.testing.assert_allclose(m, h @ kernel + bias, rtol=1e-5)
    np.testing.assert_allclose(V[..., 0], h**2 @ kernel_scale**2 + bias_scale**2, rtol=1e-5)


def test_relu_in_each_way_of_writing_it():
    first, last = flipout(5), flipout(1, seed=2)
    spelled = chain(flipout(5, "relu"), flipout(1, seed=2))
    for activation in (K.ReLU(), K.Activation("relu")):
        inputs = keras.Input((3,))
        functional = keras.Model(inputs, last(K.Dropout(0.1)(activation(first(inputs)))))
        for one, other in zip(moments_of(functional), moments_of(spelled), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("layer", mlp.LAYERS)
def test_networks_of_recipes_are_taken(layer):
    network = mlp.build(mlp.Options(hidden=[4, 4], layer=layer), 3, 1, seed=0)
    m, V = moments_of(network)
    np.testing.assert_allclose(m, network_of_means(network), atol=0.1 * np.sqrt(V).max())
    assert (V > 0).all()


def network_of_means(network):
    """Outputs where every weight is at its mean; small scales move them little."""
    h = np.c_[X, np.ones(4)]
    for layer in network.layers:
        loc = np.concatenate(
            [q.factorised_gaussian[0].numpy().reshape(-1, layer.units) for q in layer.weight_posteriors]
        )
        h = h @ loc
        h = np.c_[np.maximum(h, 0) if layer.activation is keras.activations.relu else h, np.ones(4)]
    return h[:, :-1]


def all_pull_one_way():
    """Hidden units that move together: positive means of the weights behind the first layer."""
    together = tfbnn.posteriors.MeanField(keras.initializers.Constant(0.2), -3.0)
    layers = [flipout(30, "relu", tfbnn.posteriors.MeanField(initial_rho=0.0)), flipout(30, "relu", together, seed=2)]
    return chain(*layers, flipout(30, "relu", together, seed=3), flipout(1, None, together, seed=4))


def test_deep_networks_are_near_draws_and_diagonal_is_worse():
    """20,000 draws: the standard error of a stddev is 0.5 %."""
    network = all_pull_one_way()
    outputs = explicit_outputs(network, 20_000)[..., 0]
    stddev = outputs.std(axis=0)
    for covariance, least, most in (("full", 0.0, 0.05), ("diagonal", 0.5, 1.0)):
        m, V = moments_of(network, covariance=covariance)
        assert np.abs((m[:, 0] - outputs.mean(axis=0)) / stddev).max() < 0.05
        off = np.abs(np.sqrt(V[:, 0, 0]) / stddev - 1)
        assert least <= off.min()
        assert off.max() < most


def test_rows_in_parts_are_rows_together(monkeypatch):
    network = all_pull_one_way()
    together = moments_of(network)
    monkeypatch.setattr("tfbnn.prediction.moment_draws.NUMBERS_AT_ONCE", 3 * 30**2)  # of 4 rows
    for one, other in zip(moments_of(network), together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


# --- draws ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    network = chain(flipout(6, "relu"), flipout(5, "relu", seed=2), flipout(2, seed=3))
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.HeteroscedasticNormal(), num_data=1, seed=7)


@pytest.fixture(scope="module")
def predicted(model):
    return model.predict_distribution(X, 1024, method="moments")


def test_points_have_the_moments_of_the_outputs():
    draws = draws_of(chain(flipout(6, "relu"), flipout(1, seed=2)))
    m, V = draws.output_moments(X)
    f = draws.predict_distribution(X, 4096).parameters[..., 0]
    stddev = np.sqrt(V[:, 0, 0])
    np.testing.assert_allclose((f.mean(axis=0) - m[:, 0]) / stddev, 0, atol=1e-3)
    np.testing.assert_allclose(f.std(axis=0) / stddev, 1, atol=2e-3)


def test_several_outputs_keep_their_covariance():
    network = chain(flipout(6, "relu"), flipout(2, seed=2))
    draws = MomentDraws(network, Outputs(network), sequence="independent")
    m, V = (part.numpy() for part in draws.output_moments(X))
    f = draws.apply(tf.constant(X), 0, 0, 2000).numpy()
    assert max(standard_errors_off(m, V, f)) < 4.5
    assert standard_errors_off(m, V * np.eye(2), f)[1] > 4.5  # twin


def test_a_seed_gives_the_same_points_and_first_ones_are_first(model, predicted):
    again = model.predict_distribution(X, 4, method="moments")
    np.testing.assert_array_equal(again.parameters, predicted.parameters[:4])
    other = model.predict_distribution(X, 4, seed=1, method="moments")
    assert np.abs(other.parameters - again.parameters).max() > 0.01
    assert predicted.metadata == {"prediction": "moments", "covariance": "full", "sequence": "sobol"}


def test_rows_are_answered_alone_as_together(model, predicted):
    alone = model.predict_distribution(X[1:2], 1024, method="moments")
    np.testing.assert_allclose(alone.parameters[:, 0], predicted.parameters[:, 1], rtol=1e-5, atol=1e-5)


def test_draws_follow_the_weights(model):
    draws = model.posterior_draws(method="moments", covariance="diagonal")
    assert draws is model.posterior_draws("sobol", "moments", "diagonal")
    before = draws.predict_distribution(X, 4).parameters
    bias = model.network.layers[-1].weight_posteriors[1].loc
    bias.assign_add([1.0, 0.0])
    after = draws.predict_distribution(X, 4).parameters
    bias.assign_add([-1.0, 0.0])
    np.testing.assert_allclose(after[..., 0] - before[..., 0], 1, rtol=1e-4)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_saved_draws_answer_the_same(model, tmp_path, covariance):
    draws = model.posterior_draws("antithetic", "moments", covariance)
    draws.save(tmp_path / "draws.keras")
    loaded = tfbnn.load_draws(tmp_path / "draws.keras")
    assert (type(loaded), loaded.covariance, loaded.sequence) == (MomentDraws, covariance, "antithetic")
    expected = draws.predict_distribution(X, 8).parameters
    np.testing.assert_array_equal(loaded.predict_distribution(X, 8).parameters, expected)


def test_what_is_exported_answers_the_same(model, predicted, tmp_path):
    path = tfbnn.export_saved_model(model.posterior_draws(method="moments"), tmp_path / "model", num_samples=1024)
    found = tfbnn.load_saved_model(path).predict(X)
    np.testing.assert_allclose(found["mean"], predicted.mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["epistemic_stddev"], predicted.epistemic_stddev, rtol=1e-5, atol=1e-5)
    with open(f"{path}/assets.extra/inference.json") as file:
        assert json.load(file) == {"prediction": "moments", "covariance": "full"}


# --- what is refused --------------------------------------------------------------------------------------------------


def branches():
    inputs = keras.Input((3,))
    h = flipout(3)(inputs)
    return keras.Model(inputs, K.Add()([inputs, h]))


REFUSED = {
    "an activation": (lambda: chain(flipout(4, "tanh"), flipout(1)), "activation 'relu' or none"),
    "ReLU with a limit": (lambda: chain(flipout(4), K.ReLU(6.0), flipout(1)), "without a limit"),
    "ReLU at the end": (lambda: chain(flipout(4), flipout(1), K.ReLU()), "a last layer without activation"),
    "a posterior with correlations": (lambda: chain(L.DenseVariational(1, "FullCovariance")), "MeanField"),
    "a layer with noise of its own": (lambda: chain(L.MCDropout(0.5), flipout(1)), "MCDropout"),
    "behind the noise": (lambda: chain(flipout(4), K.LayerNormalization(), flipout(1)), "LayerNormalization"),
    "a convolution": (lambda: chain(L.Conv1DFlipout(2, 2), K.Flatten(), shape=(4, 3)), "Conv1DFlipout"),
    "branches": (branches, "chain"),
    "not built": (lambda: keras.Sequential([flipout(1)]), "built"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_whose_moments_are_not_known_are_refused(name):
    make, told = REFUSED[name]
    with pytest.raises(InvalidInput, match=told) as refused:
        draws_of(make())
    assert "method='sampling'" in str(refused.value)


class OwnNoise(K.Layer):
    """A layer that asks for noise, of which its class does not tell."""

    def call(self, inputs):
        from tfbnn.core.noise import noise_for

        return inputs * noise_for(self, keras.random.SeedGenerator(1)).normal("own", inputs.shape[1:])


def test_noise_that_was_not_foreseen_is_refused_when_it_is_asked_for():
    draws = draws_of(chain(OwnNoise(name="own"), flipout(1)))
    with pytest.raises(InvalidInput, match="layer own"):
        draws.output_moments(X)


def test_the_same_layer_twice_is_refused():
    layer = flipout(3, "relu")
    with pytest.raises(InvalidInput, match="called once"):
        draws_of(chain(keras.Sequential([layer]), keras.Sequential([layer]), flipout(1)))


def test_positions_of_a_row_are_refused():
    draws = draws_of(chain(flipout(1), shape=(4, 3)))
    with pytest.raises(InvalidInput, match=r"rows \[B, D\]"):
        draws.output_moments(np.zeros((2, 4, 3), np.float32))


def test_joint_draws_of_rows_and_options_of_the_other_method_are_refused(model):
    with pytest.raises(InvalidInput, match="marginal"):
        model.predict_distribution(X, method="moments", coupling="coherent")
    with pytest.raises(InvalidInput, match="covariance"):
        model.posterior_draws(covariance="full")
    with pytest.raises(InvalidInput, match="moments"):
        model.posterior_draws(method="moment")
    with pytest.raises(InvalidInput, match="diagonal"):
        model.posterior_draws(method="moments", covariance="diag")
