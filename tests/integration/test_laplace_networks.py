"""Laplace's approximation of networks: outputs in closed form, draws, files, likelihoods, layers."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import posterior_oracle as oracle
import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import seed_pair
from tfbnn.inference import Laplace
from tfbnn.layers.convert import as_points
from tfbnn.prediction.jacobians import trained_weights

S = 3000


def network_of(units=1):
    """3-4-units, of points, tanh."""
    layers = [tfbnn.layers.DenseFlipout(4, activation="tanh", seed=1), tfbnn.layers.DenseFlipout(units)]
    network = as_points(keras.Sequential([keras.Input((3,)), *layers]))
    rng = np.random.default_rng(5)
    for variable in network.trainable_variables:
        variable.assign(0.6 * rng.normal(size=variable.shape))
    return network


def trained(likelihood=None, y=toy.Y, units=1, **kwargs):
    likelihood = likelihood or tfbnn.likelihoods.Normal(scale=0.4).adapt(toy.Y)
    method = Laplace(network_of(units), likelihood, **{"structure": "full", "seed": 4, **kwargs})
    return method, method.fit(toy.X, y, epochs=0)


def jacobian(network, variables, x):
    """[B, P, W]."""
    with tf.GradientTape() as tape:
        f = network(x)
    blocks = tape.jacobian(f, [variable.value for variable in variables])
    return np.concatenate([np.reshape(block, [*f.shape, -1]) for block in blocks], axis=-1).astype(np.float64)


def weight_covariance(draws):
    """F F^T, [W, W], whatever its structure."""
    values = [factor.numpy().astype(np.float64) for factor in draws.factors]
    if draws.structure != "kronecker":
        return values[0] @ values[0].T if draws.structure == "full" else np.diag(values[0] ** 2)
    blocks = []
    for Ra, s, Rg in (values[i : i + 3] for i in range(0, len(values), 3)):
        F = np.kron(Ra, Rg) * s.reshape(-1)
        blocks.append(F @ F.T)
    sizes = np.cumsum([0, *map(len, blocks)])
    whole = np.zeros([sizes[-1], sizes[-1]])
    for begin, block in zip(sizes[:-1], blocks, strict=True):
        whole[begin : begin + len(block), begin : begin + len(block)] = block
    return whole


@pytest.mark.parametrize("units", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("structure", ["full", "kronecker", "diagonal"])
def test_linearised_outputs_have_their_closed_form(structure, units):
    likelihood = tfbnn.likelihoods.Normal(scale=0.4) if units == 1 else tfbnn.likelihoods.Categorical(3)
    y = toy.Y if units == 1 else np.arange(toy.N) % 3
    method, draws = trained(likelihood, y, units, structure=structure)
    J = jacobian(method.model.network, method.model.network.trainable_variables, toy.X)
    expected = np.einsum("bpw,wv,bqv->bpq", J, weight_covariance(draws), J)
    mean, root = draws.output_moments(tf.constant(toy.X))
    np.testing.assert_allclose(mean, method.model.network(toy.X), rtol=1e-6)
    np.testing.assert_allclose(tf.matmul(root, root), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("coupling", ["marginal", "coherent"])
@pytest.mark.parametrize("structure", ["full", "kronecker", "diagonal"])
def test_linearised_draws_are_of_that_gaussian(structure, coupling):
    method, draws = trained(structure=structure)
    f = draws.predict_distribution(toy.X, S, coupling=coupling).parameters[..., 0]
    loc, scale = (method.likelihood.target_loc.numpy(), method.likelihood.target_scale.numpy())
    J = jacobian(method.model.network, method.model.network.trainable_variables, toy.X)[:, 0]
    covariance = J @ weight_covariance(draws) @ J.T * scale**2
    mean = loc + scale * method.model.network(toy.X).numpy()[:, 0]
    stddev = np.sqrt(np.diag(covariance))
    assert (np.abs(f.mean(axis=0) - mean) / stddev).max() < oracle.AT_MOST / np.sqrt(S)
    assert np.abs(f.var(axis=0) / stddev**2 - 1.0).max() < oracle.AT_MOST * np.sqrt(2.0 / S)
    correlated = np.corrcoef(f.T) - covariance / np.outer(stddev, stddev)
    assert (np.abs(correlated).max() < oracle.AT_MOST / np.sqrt(S)) == (coupling == "coherent")


@pytest.mark.parametrize("structure", ["full", "kronecker", "diagonal"])
def test_a_draw_is_the_network_with_its_weights(structure):
    method, draws = trained(structure=structure, predictive="sampled")
    found = draws.predict_distribution(toy.X, 3).parameters
    for s in range(3):
        network = as_points(method.model.network)
        pairs = draws.drawn(seed_pair(draws.seed), tf.constant(0))
        for variable, (_, values) in zip(network.trainable_variables, pairs, strict=True):
            variable.assign(values[s])
        np.testing.assert_allclose(found[s], draws.likelihood(network(toy.X)), rtol=1e-4, atol=1e-5)


def apart(temperature):
    """How far linearised and sampled draws of one noise are apart, and how far the former spread."""
    both = [trained(temperature=temperature, predictive=predictive)[1] for predictive in ("linearised", "sampled")]
    f, g = (draws.predict_distribution(toy.X, 20, coupling="coherent").parameters[..., 0] for draws in both)
    return np.abs(f - g).max(), f.std(axis=0).max()


def test_linearised_and_sampled_draws_part_in_second_order():
    """Of a posterior a tenth as wide, draws spread a tenth as far, and the two kinds are a hundredth as far apart."""
    (far, spread), (near, tenth) = apart(1e-2), apart(1e-4)
    np.testing.assert_allclose(spread / tenth, 10.0, rtol=1e-3)
    assert 70.0 < far / near < 140.0


@pytest.mark.parametrize("structure", ["full", "diagonal"])
def test_of_the_last_layer_it_is_that_part_of_all(structure):
    _, every = trained(structure=structure)
    method, last = trained(structure=structure, weights="last")
    precision = np.linalg.inv(weight_covariance(every))[-5:, -5:]
    np.testing.assert_allclose(np.linalg.inv(weight_covariance(last)), precision, rtol=1e-3, atol=1e-3)
    assert last.metadata["num_weights"] == 5
    assert [part.layer for part in trained_weights(last.network)][-1] is method.model.network.layers[-1]


def test_of_one_last_output_kronecker_is_full():
    """A kron B with B [1, 1] is exact where every row has the same Lambda."""
    method, full = trained(weights="last")
    other, kronecker = trained(weights="last", structure="kronecker")
    np.testing.assert_allclose(weight_covariance(kronecker), weight_covariance(full), rtol=1e-3, atol=1e-6)
    gain = method.log_marginal_likelihood - other.log_marginal_likelihood  # full alone counts the way to the mode
    assert gain > 0.0


@pytest.mark.parametrize("structure", ["full", "kronecker", pytest.param("diagonal", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("likelihood", "units"),
    [
        (tfbnn.likelihoods.Bernoulli, 1),
        (lambda: tfbnn.likelihoods.Categorical(3), 3),
        (tfbnn.likelihoods.Poisson, 1),
        (tfbnn.likelihoods.HeteroscedasticNormal, 2),
        (tfbnn.likelihoods.StudentT, 1),
    ],
)
def test_it_takes_every_likelihood(likelihood, units, structure):
    likelihood = likelihood()
    classes = likelihood.is_classifier
    y = np.arange(toy.N) % (likelihood.num_classes if classes else 4)
    method, draws = trained(likelihood, y, units, structure=structure)
    prediction = draws.predict_distribution(toy.X, 20)
    assert np.isfinite(method.log_marginal_likelihood)
    spread = prediction.mutual_information if classes else prediction.epistemic_stddev
    assert (spread > 0.0).all()


def test_layers_of_other_kinds_have_full_and_diagonal():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Reshape((4, 1)), keras.layers.Conv1D(2, 3, activation="tanh"), keras.layers.Flatten()]
    network = keras.Sequential([keras.Input((4,)), *layers, keras.layers.LayerNormalization(), keras.layers.Dense(1)])
    x = np.hstack([toy.X, toy.X[:, :1]])
    for structure in ("full", "diagonal"):
        method = Laplace(network, tfbnn.likelihoods.Normal(0.3), structure=structure, prior_precision=1.0, seed=0)
        draws = method.fit(x, toy.Y, epochs=0)
        assert (draws.predict_distribution(x, 10).epistemic_stddev > 0.0).all()
        J = jacobian(network, network.trainable_variables, x)
        G = np.einsum("bpw,bpv->wv", J, J) / 0.3**2
        H = G + np.eye(len(G)) if structure == "full" else np.diag(np.diag(G) + 1.0)
        np.testing.assert_allclose(weight_covariance(draws), np.linalg.inv(H), rtol=1e-2, atol=1e-4)
    with pytest.raises(InvalidInput, match=r"'full' or 'diagonal'.*conv1d.*Conv1D"):
        Laplace(network, "Normal", structure="kronecker").fit(x, toy.Y, epochs=0)
    last = Laplace(network, tfbnn.likelihoods.Normal(0.3), weights="last", prior_precision=1.0, seed=0)
    assert last.fit(x, toy.Y, epochs=0).metadata["num_weights"] == 5


def named_inputs():
    inputs = {"second": keras.Input((1,), name="second"), "first": keras.Input((2,), name="first")}
    hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Concatenate()([inputs["first"], inputs["second"]]))
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))


@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_rows_of_named_inputs(structure):
    keras.utils.set_random_seed(1)
    network, x = named_inputs(), {"first": toy.X[:, :2], "second": toy.X[:, 2:]}
    arguments = {"structure": structure, "prior_precision": 1.0, "seed": 0}
    draws = Laplace(network, tfbnn.likelihoods.Normal(0.4), **arguments).fit(x, toy.Y, epochs=0)
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)])
    plain.set_weights(network.get_weights())
    expected = Laplace(plain, tfbnn.likelihoods.Normal(0.4), **arguments).fit(toy.X, toy.Y, epochs=0)
    for coupling in ("marginal", "coherent"):
        found = draws.predict_distribution(x, 10, coupling=coupling).parameters
        other = expected.predict_distribution(toy.X, 10, coupling=coupling).parameters
        np.testing.assert_allclose(found, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_a_network_that_is_built_when_it_is_trained_in_mixed_precision(structure):
    policy = keras.DTypePolicy("mixed_bfloat16")
    layers = [keras.layers.Dense(4, activation="tanh", dtype=policy), keras.layers.Dense(1, dtype=policy)]
    method = Laplace(keras.Sequential(layers), tfbnn.likelihoods.Normal(0.4), structure=structure, seed=0)
    draws = method.fit(toy.X, toy.Y, epochs=2, verbose=0, jit_compile=False)
    for coupling in ("marginal", "coherent"):
        assert (draws.predict_distribution(toy.X, 10, coupling=coupling).epistemic_stddev > 0.0).all()


def test_a_layer_that_is_called_twice_is_refused_before_training():
    inputs, shared = keras.Input((3,)), keras.layers.Dense(3, activation="tanh")
    network = keras.Model(inputs, keras.layers.Dense(1)(shared(shared(inputs))))
    with pytest.raises(InvalidInput, match="calls it 2 times"):
        Laplace(network, "Normal").fit(toy.X, toy.Y, epochs=10**6)
    method = Laplace(network, tfbnn.likelihoods.Normal(0.4), structure="full", prior_precision=1.0, seed=0)
    draws = method.fit(toy.X, toy.Y, epochs=0)
    J = jacobian(network, network.trainable_variables, toy.X)
    expected = np.linalg.inv(np.einsum("bpw,bpv->wv", J, J) / 0.4**2 + np.eye(J.shape[-1]))
    np.testing.assert_allclose(weight_covariance(draws), expected, rtol=1e-2, atol=1e-4)


# --- draws ------------------------------------------------------------------------------------------------------------

KINDS = [(structure, predictive) for structure in ("full", "kronecker", "diagonal")
         for predictive in ("linearised", "sampled")]  # fmt: skip


@pytest.mark.parametrize(
    ("structure", "predictive", "coupling"),
    [
        ("full", "linearised", "marginal"),
        pytest.param("full", "linearised", "coherent", marks=pytest.mark.slow),
        pytest.param("full", "sampled", "marginal", marks=pytest.mark.slow),
        ("kronecker", "linearised", "marginal"),
        ("kronecker", "sampled", "coherent"),
        ("diagonal", "linearised", "marginal"),
    ],
)
def test_saved_loaded_and_exported_it_answers_the_same(structure, predictive, coupling, tmp_path):
    _, draws = trained(structure=structure, predictive=predictive)
    draws.save(tmp_path / "draws.keras")
    loaded = tfbnn.load_draws(tmp_path / "draws.keras")
    assert loaded.metadata == draws.metadata
    expected = draws.predict_distribution(toy.X, 15, coupling=coupling).parameters
    np.testing.assert_array_equal(loaded.predict_distribution(toy.X, 15, coupling=coupling).parameters, expected)
    exported = tfbnn.export_saved_model(loaded, tmp_path / "model", num_samples=15, coupling=coupling)
    served = tfbnn.load_saved_model(exported).predict_distribution(toy.X, 15).parameters
    np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-6)


def test_another_process_loads_it(tmp_path):
    _, draws = trained(structure="kronecker")
    draws.save(tmp_path / "draws.keras")
    code = f"import tfbnn; print(type(tfbnn.load_draws({str(tmp_path / 'draws.keras')!r})).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "GaussianDraws", done.stderr


@pytest.mark.parametrize("coupling", ["marginal", "coherent"])
@pytest.mark.parametrize(("structure", "predictive"), KINDS)
def test_a_row_alone_is_as_in_its_batch_and_few_draws_begin_many(structure, predictive, coupling):
    _, draws = trained(structure=structure, predictive=predictive)
    batch = draws.predict_distribution(toy.X, 14, coupling=coupling).parameters
    alone = draws.predict_distribution(toy.X[4:5], 14, coupling=coupling).parameters
    np.testing.assert_allclose(alone[:, 0], batch[:, 4], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(draws.predict_distribution(toy.X, 3, coupling=coupling).parameters, batch[:3])
    other = draws.predict_distribution(toy.X, 14, seed=draws.seed + 1, coupling=coupling).parameters
    assert np.abs(other - batch).max() > 1e-3


def test_rows_are_taken_in_parts(monkeypatch):
    monkeypatch.setattr("tfbnn.prediction.gaussian_draws.NUMBERS_AT_ONCE", 7 * 21)  # 7 rows of 21 weights
    _, draws = trained()
    found = draws.output_moments(tf.constant(toy.X))[1]
    monkeypatch.undo()
    np.testing.assert_allclose(found, draws.output_moments(tf.constant(toy.X))[1], rtol=1e-5)
