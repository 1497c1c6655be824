"""Gauss-Newton matrices against brute force: Hessians, explicit Jacobians, explicit Kronecker factors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.layers.convert import as_points
from tfbnn.prediction.jacobians import DensePass, jacobian_products, row_jacobians, trained_weights, unflat
from tfbnn.training.curvature import (
    CURVATURES,
    Data,
    DiagonalCurvature,
    FullCurvature,
    KroneckerCurvature,
    output_curvature,
)

RNG = np.random.default_rng(1)
LIKELIHOODS = {
    "Normal": lambda: tfbnn.likelihoods.Normal(num_targets=2).adapt(RNG.normal(size=(50, 2)) * [2.0, 5.0]),
    "HeteroscedasticNormal": lambda: tfbnn.likelihoods.HeteroscedasticNormal().adapt(toy.Y),
    "Categorical": lambda: tfbnn.likelihoods.Categorical(3),
    "Bernoulli": tfbnn.likelihoods.Bernoulli,
    "Poisson": tfbnn.likelihoods.Poisson,
}


def targets(likelihood, rows):
    if likelihood.is_classifier:
        return tf.constant(RNG.integers(0, likelihood.num_classes, [rows, 1]), tf.int32)
    return tf.constant(RNG.integers(0, 5, [rows, likelihood.num_targets]), tf.float32)


def setting(likelihood, rows=6, hidden=4, joint=False):
    """A network of points with P outputs, its weights, and rows."""
    P = likelihood.num_outputs
    last = tfbnn.layers.DenseVariational(P, seed=2) if joint else keras.layers.Dense(P)
    keras.utils.set_random_seed(3)
    layers = [tfbnn.layers.DenseFlipout(hidden, activation="tanh", seed=1), last] if hidden else [last]
    network = as_points(keras.Sequential([keras.Input((3,)), *layers]))
    for variable in network.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape) * 0.5)
    data = Data(tf.constant(toy.X[:rows]), targets(likelihood, rows), np.ones(rows))
    return network, trained_weights(network), data


def values_of(parts):
    return [variable.value for part in parts for variable in part.variables]


def brute_jacobian(network, parts, x):
    """[B, P, W] by tape.jacobian of the whole batch."""
    with tf.GradientTape() as tape:
        f = network(x)
    blocks = tape.jacobian(f, values_of(parts))
    return np.concatenate([np.reshape(block, [*f.shape, -1]) for block in blocks], axis=-1)


def brute_hessian(network, likelihood, parts, data):
    """-d^2 log p(y|X, w) / dw^2 of a network of one tensor of weights."""
    (weights,) = values_of(parts)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(weights)
            total = -tf.reduce_sum(likelihood.log_prob(likelihood(network(data.x)), data.y))
        gradient = inner.gradient(total, weights)
    W = int(tf.size(weights))
    return outer.jacobian(gradient, weights).numpy().reshape(W, W)


def lambda_by_hand(name, likelihood, f):
    f = f.astype(np.float64)
    if name == "Normal":
        return np.tile(
            np.diag((likelihood.target_scale.numpy() / likelihood(f[:1]).numpy()[0, 2:]) ** 2), [len(f), 1, 1]
        )
    if name == "Bernoulli":
        p = 1.0 / (1.0 + np.exp(-f))
        return (p * (1.0 - p))[..., None]
    if name == "Poisson":
        return np.exp(f)[..., None]
    if name == "Categorical":
        p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
        return np.einsum("bp,pq->bpq", p, np.eye(3)) - np.einsum("bp,bq->bpq", p, p)
    scale = np.log1p(np.exp(f[:, 1])) + likelihood.smallest_scale  # Fisher of a Normal: 1 / s^2 and 2 / s^2
    slope = 1.0 / (1.0 + np.exp(-f[:, 1]))
    return np.stack([np.diag([1.0 / s**2, 2.0 * k**2 / s**2]) for s, k in zip(scale, slope, strict=True)])


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_outputs_curvature_is_fishers(name):
    likelihood = LIKELIHOODS[name]()
    f = RNG.normal(size=(5, likelihood.num_outputs)).astype(np.float32)
    found = output_curvature(likelihood, tf.constant(f), targets(likelihood, 5))
    np.testing.assert_allclose(found, lambda_by_hand(name, likelihood, f), rtol=2e-4, atol=2e-5)


def test_of_student_t_it_is_the_known_formula():
    likelihood = tfbnn.likelihoods.StudentT().adapt(5.0 * toy.Y)
    _, scale, df = likelihood.parts(likelihood(tf.zeros([1, 1])))
    expected = (df + 1.0) / (df + 3.0) * (likelihood.target_scale / scale) ** 2
    found = output_curvature(likelihood, tf.constant([[0.0], [0.5]]), tf.constant([[0.1], [80.0]]))
    np.testing.assert_allclose(found[:, 0, 0], np.tile(expected.numpy()[0], 2), rtol=1e-5)


class CauchyLike(tfbnn.likelihoods.Normal):
    """A likelihood whose Fisher information nobody has told."""

    def log_prob(self, parameters, y):
        loc, scale = self.parts(parameters)
        return -tf.reduce_sum(tf.math.log1p(tf.square((y - loc) / scale)) + tf.math.log(np.pi * scale), axis=-1)

    def distribution(self, parameters):
        raise NotImplementedError


def test_where_fishers_is_not_known_what_bends_downwards_counts_as_flat():
    found = output_curvature(CauchyLike(1.0), tf.constant([[0.0], [0.0]]), tf.constant([[0.0], [8.0]]))[:, 0, 0]
    np.testing.assert_allclose(found, [2.0, 0.0], atol=1e-5)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_slope_is_that_of_the_log_likelihood(name):
    likelihood = LIKELIHOODS[name]()
    network, parts, data = setting(likelihood)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(likelihood.log_prob(likelihood(network(data.x)), data.y))
    expected = np.concatenate([np.reshape(g, -1) for g in tape.gradient(total, values_of(parts))])
    found = FullCurvature.of(network, likelihood, parts, data).slope
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["Normal", "Categorical", "Bernoulli", "Poisson"])
def test_of_a_linear_network_full_is_the_hessian(name):
    likelihood = LIKELIHOODS[name]()
    network, parts, data = setting(likelihood, hidden=0, joint=True)
    expected = brute_hessian(network, likelihood, parts, data)
    found = FullCurvature.of(network, likelihood, parts, data).G
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_full_is_the_sum_of_products_of_jacobians(name):
    likelihood = LIKELIHOODS[name]()
    network, parts, data = setting(likelihood)
    J = brute_jacobian(network, parts, data.x)
    Lambda = output_curvature(likelihood, network(data.x), data.y)
    expected = np.einsum("bpw,bpq,bqv->wv", J, Lambda, J)
    found = FullCurvature.of(network, likelihood, parts, data).G
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    diagonal = DiagonalCurvature.of(network, likelihood, parts, data).G
    np.testing.assert_allclose(diagonal, np.diag(expected), rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected - np.einsum("bpw,bqv->wv", J, J)).max() > 1e-2 * np.abs(expected).max()  # Lambda matters


def explicit_factors(network, parts, data, Lambda):
    """(mean of a a^T, sum of g Lambda g^T) of both layers of 3-tanh-P, by the chain rule written out."""
    kernel, bias = (v.numpy() for v in parts[0].variables)
    out = parts[1].variables[0].numpy()[: kernel.shape[1]]
    x = data.x.numpy()
    h = np.tanh(x @ kernel + bias)
    ones = np.ones([len(x), 1])
    a = [np.hstack([x, ones]), np.hstack([h, ones])]
    P = out.shape[1]
    g = [(1.0 - h**2)[:, None, :] * out.T, np.tile(np.eye(P), [len(x), 1, 1])]
    return [
        (a_l.T @ a_l / len(x), np.einsum("bpu,bpq,bqv->uv", g_l, Lambda, g_l)) for a_l, g_l in zip(a, g, strict=True)
    ]


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_kronecker_factors_are_the_means_and_sums_of_the_paper(name, joint):
    likelihood = LIKELIHOODS[name]()
    network, parts, data = setting(likelihood, joint=joint)
    Lambda = output_curvature(likelihood, network(data.x), data.y)
    found = KroneckerCurvature.of(network, likelihood, parts, data).layers
    for layer, (A, B) in zip(found, explicit_factors(network, parts, data, Lambda), strict=True):
        np.testing.assert_allclose(layer.A, A, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.B, B, rtol=1e-4, atol=1e-5 * np.abs(B).max())


@pytest.mark.parametrize(("rows", "exact"), [(1, True), (6, False)])
def test_of_one_row_kronecker_is_each_layers_block_of_full(rows, exact):
    likelihood = LIKELIHOODS["Categorical"]()
    network, parts, data = setting(likelihood, rows, joint=True)
    full = FullCurvature.of(network, likelihood, parts, data).G
    start, errors = 0, []
    for layer in KroneckerCurvature.of(network, likelihood, parts, data).layers:
        product = np.kron(layer.A, layer.B)
        block = full[start : start + len(product), start : start + len(product)]
        errors.append(np.abs(product - block).max() / np.abs(block).max())
        start += len(product)
    assert start == len(full)
    assert (max(errors) < 1e-4) == exact


def precision_of(shapes, uneven):
    """d of layers [R, U]: equal everywhere, or another one for the bias."""
    each = [np.full(shape, 2.0) for shape in shapes]
    for d in each if uneven else []:
        d[-1] = 0.5
    return np.concatenate([d.reshape(-1) for d in each])


def block_diagonal(layers):
    W = sum(len(layer.A) * len(layer.B) for layer in layers)
    G, start = np.zeros([W, W]), 0
    for layer in layers:
        end = start + len(layer.A) * len(layer.B)
        G[start:end, start:end] = np.kron(layer.A, layer.B)
        start = end
    return G


@pytest.mark.parametrize("uneven", [False, True])
def test_kroneckers_determinant_and_inverse_are_those_of_its_products(uneven):
    likelihood = LIKELIHOODS["Categorical"]()
    network, parts, data = setting(likelihood)
    found = KroneckerCurvature.of(network, likelihood, parts, data)
    d = precision_of([layer.shape for layer in found.layers], uneven)
    H = block_diagonal(found.layers) + np.diag(d)
    np.testing.assert_allclose(found.log_det(d), np.linalg.slogdet(H)[1], rtol=1e-8)
    F = [found.factors(d)[i : i + 3] for i in (0, 3)]
    blocks = [np.kron(Ra, Rg) @ np.diag(s.reshape(-1) ** 2) @ np.kron(Ra, Rg).T for Ra, s, Rg in F]
    expected = np.linalg.inv(H)
    W = len(blocks[0])
    np.testing.assert_allclose(blocks[0], expected[:W, :W], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(blocks[1], expected[W:, W:], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("structure", ["full", "diagonal"])
def test_determinant_and_inverse(structure):
    likelihood = LIKELIHOODS["Bernoulli"]()
    network, parts, data = setting(likelihood)
    found = CURVATURES[structure].of(network, likelihood, parts, data)
    d = np.linspace(0.5, 2.0, len(found.G))
    H = found.G + np.diag(d) if structure == "full" else np.diag(found.G + d)
    F = found.factors(d)[0]
    np.testing.assert_allclose(
        F @ F.T if structure == "full" else np.diag(F**2), np.linalg.inv(H), rtol=1e-7, atol=1e-9
    )
    np.testing.assert_allclose(found.log_det(d), np.linalg.slogdet(H)[1], rtol=1e-9)


def test_prepared_for_many_questions_full_answers_the_same():
    likelihood = LIKELIHOODS["Bernoulli"]()
    network, parts, data = setting(likelihood)
    found = FullCurvature.of(network, likelihood, parts, data)
    d, g = np.full(len(found.G), 0.3), RNG.normal(size=len(found.G))
    before = found.log_det(d), found.newton_gain(d, g)
    assert found.prepared() is found
    np.testing.assert_allclose([found.log_det(d), found.newton_gain(d, g)], before, rtol=1e-9)


@pytest.mark.parametrize("structure", CURVATURES)
def test_a_row_that_counts_twice_is_two_rows(structure):
    likelihood = LIKELIHOODS["Categorical"]()
    network, parts, data = setting(likelihood)
    counts = np.array([1.0, 2.0, 0.0, 1.0, 1.0, 1.0])
    rows = np.repeat(np.arange(6), counts.astype(int))
    each = Data(tf.gather(data.x, rows), tf.gather(data.y, rows), np.ones(len(rows)))
    d = np.ones(sum(v.shape.num_elements() for v in values_of(parts)))
    found = CURVATURES[structure].of(network, likelihood, parts, Data(data.x, data.y, counts)).log_det(d)
    expected = CURVATURES[structure].of(network, likelihood, parts, each).log_det(d)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert abs(found - CURVATURES[structure].of(network, likelihood, parts, data).log_det(d)) > 1e-2


def test_jacobians_by_the_row_and_products_with_them():
    network, parts, data = setting(LIKELIHOODS["Categorical"]())
    variables = [variable for part in parts for variable in part.variables]
    J = brute_jacobian(network, parts, data.x)
    np.testing.assert_allclose(row_jacobians(network, variables, data.x), J, rtol=1e-4, atol=1e-6)
    dw = RNG.normal(size=[4, J.shape[-1]]).astype(np.float32)
    f, along = jacobian_products(network, variables, data.x, 3, unflat(tf.constant(dw), variables))
    np.testing.assert_allclose(f, network(data.x), rtol=1e-6)
    np.testing.assert_allclose(along, np.einsum("bpw,sw->sbp", J, dw), rtol=1e-4, atol=1e-5)


def test_a_dense_pass_tells_the_jacobian():
    network, parts, data = setting(LIKELIHOODS["Categorical"]())
    _, layers = DensePass(network, parts)(data.x)
    found = np.concatenate([np.einsum("br,bpu->bpru", a, g).reshape(6, 3, -1) for a, g in layers], axis=-1)
    np.testing.assert_allclose(found, brute_jacobian(network, parts, data.x), rtol=1e-4, atol=1e-6)


def twice():
    inputs, shared = keras.Input((3,)), keras.layers.Dense(3, name="again")
    return keras.Model(inputs, keras.layers.Dense(1)(shared(shared(inputs))))


def sequences():
    return keras.Sequential([keras.Input((4, 3)), keras.layers.Dense(2), keras.layers.Flatten(), keras.layers.Dense(1)])


def nested():
    return keras.Sequential([keras.Input((3,)), keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])])


class ScaledDense(keras.layers.Dense):
    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs)


@pytest.mark.parametrize(
    ("make", "told"), [(twice, "2 times"), (sequences, r"\[None, 4, 3\]"), (nested, "inside another")]
)
def test_dense_layers_that_cannot_be_followed_are_refused(make, told):
    network = make()
    with pytest.raises(InvalidInput, match=told):
        DensePass(network, trained_weights(network))


def test_a_users_own_kind_of_dense_layer_is_found_out():
    network = keras.Sequential([keras.Input((3,)), ScaledDense(1)])
    data = Data(tf.constant(toy.X), tf.constant(toy.Y[:, None]), np.ones(toy.N))
    with pytest.raises(InvalidInput, match="ScaledDense"):
        KroneckerCurvature.of(network, tfbnn.likelihoods.Normal(1.0), trained_weights(network), data)


def test_priors_that_differ_between_units_have_no_kronecker_form():
    network, parts, data = setting(LIKELIHOODS["Bernoulli"]())
    found = KroneckerCurvature.of(network, LIKELIHOODS["Bernoulli"](), parts, data)
    with pytest.raises(InvalidInput, match="differ from unit to unit"):
        found.log_det(np.linspace(1.0, 2.0, 21))
