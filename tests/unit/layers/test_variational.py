"""Any Keras layer with drawn weights: equal to it at scale 0, saved, exported, trained; what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, noise_scope, seed_pair
from tfbnn.layers import LowRankAdapter, Variational

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 5, 4)).astype("f")


@keras.saving.register_keras_serializable("test_variational")
class Scaled(keras.layers.Layer):
    """A user's own layer with a weight and a state that training changes."""

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")
        self.calls = self.add_weight(name="calls", shape=(), initializer="zeros", trainable=False)

    def call(self, inputs, training=None):
        if training:
            self.calls.assign_add(1.0)
        return inputs * self.scale


LAYERS = {
    "LSTM": lambda: keras.layers.LSTM(3, return_sequences=True),
    "GRU": lambda: keras.layers.GRU(3),
    "SimpleRNN of cells": lambda: keras.layers.RNN([keras.layers.LSTMCell(3), keras.layers.GRUCell(2)]),
    "Bidirectional": lambda: keras.layers.Bidirectional(keras.layers.GRU(3)),
    "TimeDistributed": lambda: keras.layers.TimeDistributed(keras.layers.Dense(3, "tanh")),
    "LayerNormalization": lambda: keras.layers.LayerNormalization(),
    "BatchNormalization": lambda: keras.layers.BatchNormalization(),
    "Dense": lambda: keras.layers.Dense(3, "tanh"),
    "Conv1D": lambda: keras.layers.Conv1D(3, 2, activation="relu"),
    "own": Scaled,
    "Sequential": lambda: keras.Sequential([keras.layers.Dense(3, "tanh"), keras.layers.Dense(2)]),
}


def made(layer, scale=None, **arguments):
    """The layer with posteriors, built on X, of scales all alike."""
    found = Variational(layer, kl_weight=0.0, seed=1, **arguments)
    found(X)
    if scale is not None:
        for q in found.weight_posteriors:
            q.rho.assign(tf.fill(q.shape, np.log(np.expm1(scale)) if scale else -100.0))
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_with_scales_of_zero_it_is_the_layer(name):
    layer = LAYERS[name]()
    layer(X)
    for variable in layer.trainable_variables:
        variable.assign(RNG.standard_normal(variable.shape) * 0.5)
    expected = layer(X)
    again = made(layer, scale=0.0)
    np.testing.assert_array_equal(again(X), expected)
    if name != "own":
        assert again.compute_output_shape((None, *X.shape[1:])) == layer.compute_output_shape((None, *X.shape[1:]))
    assert [v.path for v in layer.trainable_variables] == [v.path for v in again.layer.trainable_variables]
    ours = [v for v in again.trainable_variables if "rho" in v.name]
    assert len(ours) == len(layer.trainable_variables) == len(again.weight_posteriors)


@pytest.mark.parametrize("name", LAYERS)
def test_draws_differ_and_repeat_by_seed(name):
    layer = made(LAYERS[name](), scale=0.3)

    def drawn(seed):
        with noise_scope(Seeded(seed_pair(seed), [layer])):
            return layer(X).numpy()

    assert not np.allclose(drawn(0), drawn(1))
    np.testing.assert_array_equal(drawn(0), drawn(0))


SLOW = pytest.mark.slow  # each is exported and loaded


@pytest.mark.parametrize(
    "name", ["LSTM", *(pytest.param(name, marks=SLOW) for name in ("Bidirectional", "BatchNormalization", "own"))]
)
def test_it_is_saved_exported_and_answers_the_same(name, tmp_path):
    network = keras.Sequential(
        [keras.Input(X.shape[1:]), Variational(LAYERS[name](), seed=1), keras.layers.Flatten(),
         tfbnn.layers.DenseFlipout(1, seed=2)]
    )  # fmt: skip
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=0.1), seed=3)
    model.compile(keras.optimizers.Adam(0.01))
    before = [variable.numpy() for variable in network.trainable_variables]
    history = tfbnn.train(model, X, X[:, 0, 0], epochs=3, batch_size=3, verbose=0).history
    assert np.isfinite(history["kl"]).all()
    moved = [np.abs(v.numpy() - b).max() for v, b in zip(network.trainable_variables, before, strict=True)]
    assert min(moved) > 0
    expected = model.predict_distribution(X, 20)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict_distribution(X, 20).parameters, expected.parameters)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(model, tmp_path / "model", num_samples=20))
    np.testing.assert_allclose(served.predict(X)["mean"], expected.mean, atol=1e-5)


def test_predictions_are_of_networks_drawn_explicitly():
    """400 draws of an LSTM: mean and spread of each row within 5 standard errors of plain layers with drawn weights."""
    layer = Variational(keras.layers.LSTM(3), seed=1)
    model = tfbnn.BayesianModel(
        keras.Sequential([keras.Input(X.shape[1:]), layer]), tfbnn.likelihoods.Normal(scale=1.0, num_targets=3),
        num_data=6, seed=2,
    )  # fmt: skip
    for q in layer.weight_posteriors:
        q.rho.assign(tf.fill(q.shape, -1.0))
    found = model.predict_distribution(X, 400).parameters[..., :3]
    plain = keras.layers.LSTM(3)
    plain(X)
    run, explicit = tf.function(plain), []
    pairs = [q.factorised_gaussian for q in layer.weight_posteriors]
    for _ in range(400):
        plain.set_weights([loc + scale * RNG.standard_normal(loc.shape) for loc, scale in pairs])
        explicit.append(run(X).numpy())
    explicit = np.array(explicit)
    for a, b in ((found.mean(0), explicit.mean(0)), (found.std(0), explicit.std(0))):
        assert np.abs(a - b).max() < 5 * np.sqrt(2 / 400) * explicit.std(0).max()


def test_attention_with_several_inputs_and_masks():
    queries, values = keras.Input((5, 4)), keras.Input((7, 4))
    mask = keras.Input((5, 7), dtype="bool")
    layer = Variational(keras.layers.MultiHeadAttention(2, 3), seed=1)
    network = keras.Model([queries, values, mask], layer(queries, values, attention_mask=mask))
    for q in layer.weight_posteriors:
        q.rho.assign(tf.fill(q.shape, -100.0))
    x, v = X, RNG.standard_normal((6, 7, 4)).astype("f")
    seen = RNG.random((6, 5, 7)) < 0.5
    seen[..., 0] = True
    model = tfbnn.BayesianModel(
        keras.Model(network.inputs, keras.layers.Reshape((20,))(network.outputs[0])),
        tfbnn.likelihoods.Normal(scale=1.0, num_targets=20), num_data=6,
    )  # fmt: skip
    got = model.predict_distribution([x, v, seen], 10).mean
    np.testing.assert_allclose(got, layer.layer(x, v, attention_mask=seen).numpy().reshape(6, 20), atol=1e-5)


def test_masks_of_an_embedding_and_initial_states_pass_through():
    numbers = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
    embedded = keras.layers.Embedding(5, 4, mask_zero=True)
    layer = made(keras.layers.LSTM(3), scale=0.0)
    np.testing.assert_allclose(layer(embedded(numbers)), layer.layer(embedded(numbers)), atol=1e-6)
    assert not np.allclose(layer(embedded(numbers)), layer(tf.convert_to_tensor(embedded(numbers)) + 0.0))
    states = [tf.ones((6, 3)), tf.ones((6, 3))]
    np.testing.assert_array_equal(layer(X, initial_state=states), layer.layer(X, initial_state=states))


def test_statistics_and_states_are_the_layers_own():
    layer = made(keras.layers.BatchNormalization(momentum=0.5), scale=0.2)
    plain = keras.layers.BatchNormalization(momentum=0.5)
    plain(X)
    layer(X, training=True), plain(X, training=True)
    np.testing.assert_allclose(layer.layer.moving_mean, plain.moving_mean)
    own = made(Scaled())
    own(X, training=True), own(X, training=True), own(X)
    assert float(own.layer.calls) == 2.0


def test_weights_are_chosen_by_name_or_predicate():
    chosen = made(keras.layers.Bidirectional(keras.layers.LSTM(3)), weights=["recurrent_kernel"])
    names = [q.name for q in chosen.weight_posteriors]
    assert names == ["recurrent_kernel", "recurrent_kernel.1"]
    kernels = made(keras.layers.LSTM(3), weights=lambda path, variable: len(variable.shape) == 2)
    assert len(kernels.weight_posteriors) == 2
    with pytest.raises(InvalidInput, match=r"weights.*register_keras_serializable"):
        kernels.get_config()


def test_weights_that_are_not_chosen_are_trained_too():
    layer = Variational(keras.layers.Dense(1), weights=["kernel"], seed=1)
    model = tfbnn.BayesianModel(keras.Sequential([keras.Input((4,)), layer]), tfbnn.likelihoods.Normal(), seed=2)
    model.compile(keras.optimizers.Adam(0.1))
    tfbnn.train(model, X[:, 0], X[:, 0, 0] + 5.0, epochs=5, verbose=0)
    assert float(layer.layer.bias[0]) > 0.1


def test_the_kl_is_that_of_all_its_weights():
    layer = made(keras.layers.Dense(3), scale=0.5)
    loc = np.concatenate([w.numpy().ravel() for w in (layer.layer.kernel, layer.layer.bias)])
    expected = np.sum(0.5 * (0.25 + loc**2 - 1) - np.log(0.5))
    assert float(layer.kl_divergence()) == pytest.approx(expected, rel=1e-5)


def test_a_posterior_without_means_of_its_own_leaves_no_dead_weight():
    def student(dtype, shape, name, trainable, add_variable_fn):
        import tensorflow_probability as tfp

        where = add_variable_fn(name=f"{name}_where", shape=shape, dtype=dtype, trainable=trainable)
        return tfp.distributions.Independent(tfp.distributions.StudentT(5.0, where, 0.1), len(shape))

    layer = made(keras.layers.Dense(3), posterior_fn=student)
    assert not layer.layer.trainable_variables
    assert len(layer.trainable_variables) == 2


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Variational("lstm"), "`layer`"),
        (lambda: Variational(tfbnn.layers.DenseFlipout(1)), "`layer`.*plain"),
        (lambda: Variational(keras.layers.LSTM(3, stateful=True)), "stateful=False"),
        (lambda: Variational(keras.layers.Flatten())(X), "with trainable weights.*none"),
        (lambda: made(keras.layers.LSTM(3), weights=["kernels"]), "recurrent_kernel"),
        (lambda: Variational(keras.layers.LSTM(3), weights="kernel"), "`weights`"),
        (lambda: Variational(keras.layers.LSTM(3), prior_fn=None)(X), "`prior_fn`"),
    ],
)
def test_what_cannot_be_is_refused(make, told):
    with pytest.raises(InvalidInput, match=told):
        make()


# --- LowRankAdapter ---------------------------------------------------------------------------------------------------

RANK = 2
PLAIN = {
    "Dense": lambda: keras.layers.Dense(3, "tanh"),
    "EinsumDense": lambda: keras.layers.EinsumDense("abc,cde->abde", (None, 3, 4), bias_axes="de"),
    "Conv1D": lambda: keras.layers.Conv1D(3, 2, activation="relu"),
    "Embedding": lambda: keras.layers.Embedding(9, 4),
    "MultiHeadAttention": lambda: keras.layers.MultiHeadAttention(2, 3),
    "LSTM": lambda: keras.layers.LSTM(3, return_sequences=True),
    "GRU": lambda: keras.layers.GRU(3),
}


def called(layer, **arguments):
    """On X, on whole numbers, or on X twice."""
    inner = getattr(layer, "layer", layer)
    if isinstance(inner, keras.layers.Embedding):
        return layer(np.arange(9)[None])
    return layer(X, X, **arguments) if isinstance(inner, keras.layers.MultiHeadAttention) else layer(X, **arguments)


def randomised(layer):
    called(layer)
    for variable in layer.variables:
        if variable.dtype == "float32":
            variable.assign(0.5 * RNG.standard_normal(variable.shape))
    return layer


def adapted(layer, scale=None, **arguments):
    """An adapter that was called, of scales all alike."""
    found = LowRankAdapter(layer, **{"rank": RANK, "kl_weight": 0.0, "seed": 1, **arguments})
    called(found)
    if scale is not None:
        for q in found.weight_posteriors:
            q.rho.assign(tf.fill(q.shape, np.log(np.expm1(scale)) if scale else -100.0))
    return found


def split(shape):
    """The cheapest n_in x n_out, by trying all."""
    sizes = [(int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))) for axis in range(1, len(shape))]
    return min(sizes, key=sum)


@pytest.mark.parametrize("name", PLAIN)
def test_with_scales_of_zero_the_adapted_layer_is_the_layer_frozen(name):
    layer = randomised(PLAIN[name]())
    expected = called(layer).numpy()
    matrices = [v for v in layer.trainable_variables if len(v.shape) > 1 and min(split(v.shape)) > RANK]
    found = adapted(layer, scale=0.0)
    np.testing.assert_array_equal(called(found), expected)
    assert not layer.trainable_variables
    shapes = [q.shape for q in found.weight_posteriors]
    sizes = [split(variable.shape) for variable in matrices]
    assert shapes == [shape for n_in, n_out in sizes for shape in ((n_in, RANK), (RANK, n_out))]
    trained = sum(int(np.prod(v.shape)) for v in found.trainable_variables)
    assert trained == 2 * sum(RANK * (n_in + n_out) for n_in, n_out in sizes)
    assert found.changed
    for q in found.weight_posteriors:
        q.rho.assign(tf.fill(q.shape, -1.0))
    assert np.abs(called(found) - expected).max() > 1e-3  # twin


@pytest.mark.parametrize("alpha", [None, 3.0])
def test_a_draw_is_the_layer_with_w0_plus_a_b(alpha):
    """MultiHeadAttention: kernels of three axes, of query, key, value [4, 2, 3] and of the output [2, 3, 4]."""
    layer = randomised(PLAIN["MultiHeadAttention"]())
    plain = keras.layers.MultiHeadAttention(2, 3)
    called(plain)
    values = {id(variable): variable.numpy() for variable in layer.variables}
    found = adapted(layer, scale=0.3, alpha=alpha)
    for q in found.weight_posteriors:
        q.loc.assign(RNG.standard_normal(q.shape))
    with noise_scope(Seeded(seed_pair(4), [found])):
        outputs = called(found).numpy()
        drawn = {q.name: q.sample(found._noise()).numpy() for q in found.weight_posteriors}

    def explicit(scale):
        kernels = [variable for variable in layer.weights if len(variable.shape) == 3]
        for variable, name in zip(kernels, found.changed, strict=True):
            change = (drawn[f"{name}_A"] @ drawn[f"{name}_B"]).reshape(variable.shape)
            values[id(variable)] = variable.numpy() + scale * change
        plain.set_weights([values[id(variable)] for variable in layer.weights])
        return called(plain).numpy()

    scale = 1.0 if alpha is None else alpha / RANK
    np.testing.assert_allclose(outputs, explicit(scale), atol=1e-5)
    assert np.abs(outputs - explicit(scale + 0.1)).max() > 1e-3  # twin


def test_adapters_alone_are_trained_saved_exported_and_loaded(tmp_path):
    layer = keras.layers.Conv1D(3, 2, activation="tanh")
    layer(X)
    network = keras.Sequential(
        [keras.Input(X.shape[1:]), LowRankAdapter(layer, RANK, alpha=4.0, seed=1), keras.layers.Flatten(),
         tfbnn.layers.DenseFlipout(1, seed=2)]
    )  # fmt: skip
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=0.1), seed=3)
    model.compile(keras.optimizers.Adam(0.05))
    frozen = layer.get_weights()
    before = [variable.numpy() for variable in network.trainable_variables]
    assert len(before) == 4 + 4
    history = tfbnn.train(model, X, X[:, 0, 0], epochs=2, batch_size=3, verbose=0, jit_compile=False).history
    assert np.isfinite(history["kl"]).all()
    assert all(np.array_equal(*pair) for pair in zip(layer.get_weights(), frozen, strict=True))
    moved = [np.abs(v.numpy() - b).max() for v, b in zip(network.trainable_variables, before, strict=True)]
    assert min(moved) > 0
    expected = model.predict_distribution(X, 20)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict_distribution(X, 20).parameters, expected.parameters)
    assert len(again.network.trainable_variables) == len(before)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(model, tmp_path / "model", num_samples=20))
    np.testing.assert_allclose(served.predict(X)["mean"], expected.mean, atol=1e-5)


def test_the_layer_stays_frozen_when_the_network_is_unfrozen():
    layer = LowRankAdapter(keras.layers.Dense(3), RANK)
    network = keras.Sequential([keras.Input((4,)), layer])
    for trainable, count in ((False, 0), (True, 4)):
        network.trainable = trainable
        assert len(network.trainable_variables) == count
        assert not layer.layer.trainable


def test_a_layer_that_is_frozen_already_is_adapted_too():
    layer = keras.layers.Dense(3, trainable=False)
    assert adapted(layer).changed == ["kernel"]


def test_a_big_batch_normalisation_in_it_keeps_its_statistics():
    inner = keras.Sequential([keras.layers.Dense(3), keras.layers.BatchNormalization()])
    found = adapted(inner)
    found(X, training=True)
    np.testing.assert_array_equal(inner.layers[1].moving_mean, 0.0)


def test_of_a_layer_small_weights_are_left_but_none_that_is_asked_for():
    assert adapted(keras.layers.GRU(3)).changed == ["kernel", "recurrent_kernel"]  # its bias is 2 x 9
    assert adapted(keras.layers.GRU(3), weights=["kernel"]).changed == ["kernel"]
    with pytest.raises(InvalidInput, match=r"`rank`.*bias of gru.* is 2 x 9"):
        adapted(keras.layers.GRU(3), weights=["kernel", "bias"])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: adapted(keras.layers.Dense(3), rank=3), r"`rank`.*below.*4 x 3.*Received: 3.*Variational"),
        (lambda: adapted(keras.layers.Dense(1), rank=1), r"`rank`.*4 x 1"),
        (lambda: adapted(keras.layers.Dense(3), rank=0), "`rank`.*1 or more"),
        (lambda: adapted(keras.layers.Dense(3), alpha=0.0), "`alpha`"),
        (lambda: adapted(keras.layers.Dense(3), weights=["bias"]), r"two axes or more that are chosen.*: kernel"),
        (lambda: adapted(keras.layers.LayerNormalization()), r"two axes or more.*: none.*plain"),
        (lambda: adapted(keras.layers.LSTM(3, stateful=True)), "stateful=False"),
        (lambda: adapted(tfbnn.layers.DenseFlipout(1)), "`layer`.*plain"),
    ],
)
def test_what_cannot_be_adapted_is_refused(make, told):
    with pytest.raises(InvalidInput, match=told):
        make()
