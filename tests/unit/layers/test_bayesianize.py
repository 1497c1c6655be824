"""Converting plain models: for every layer of Keras outputs at scale 0 are the model's; the report tells of each."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.layers import VariationalLayer
from tfbnn.layers.convert import as_points

RNG = np.random.default_rng(0)
L = keras.layers
SEQUENCE, IMAGE, VOLUME = (6, 4), (8, 8, 3), (4, 4, 4, 2)
# A layer of each kind that has weights: what it is made by, and the shape of its inputs.
LAYERS = {
    "AdditiveAttention": (lambda: L.AdditiveAttention(), "pair"),
    "Attention": (lambda: L.Attention(use_scale=True), "pair"),
    "BatchNormalization": (lambda: L.BatchNormalization(), SEQUENCE),
    "Bidirectional": (lambda: L.Bidirectional(L.GRU(3)), SEQUENCE),
    "Conv1D": (lambda: L.Conv1D(4, 2, groups=2, activation="relu"), SEQUENCE),
    "Conv1DTranspose": (lambda: L.Conv1DTranspose(3, 2, strides=2), SEQUENCE),
    "Conv2D": (lambda: L.Conv2D(3, 2, strides=2, padding="same", use_bias=False), IMAGE),
    "Conv2DTranspose": (lambda: L.Conv2DTranspose(3, 2), IMAGE),
    "Conv3D": (lambda: L.Conv3D(3, 2, dilation_rate=2), VOLUME),
    "Conv3DTranspose": (lambda: L.Conv3DTranspose(3, 2), VOLUME),
    "ConvLSTM1D": (lambda: L.ConvLSTM1D(2, 2), (3, 6, 4)),
    "ConvLSTM2D": (lambda: L.ConvLSTM2D(2, 2), (3, *IMAGE)),
    "ConvLSTM3D": (lambda: L.ConvLSTM3D(2, 2), (3, *VOLUME)),
    "Dense": (lambda: L.Dense(3, "tanh"), SEQUENCE),
    "DepthwiseConv1D": (lambda: L.DepthwiseConv1D(2, depth_multiplier=2), SEQUENCE),
    "DepthwiseConv2D": (lambda: L.DepthwiseConv2D(2), IMAGE),
    "EinsumDense": (lambda: L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"), SEQUENCE),
    "Embedding": (lambda: L.Embedding(7, 3, mask_zero=True), "integers"),
    "GRU": (lambda: L.GRU(3, return_sequences=True), SEQUENCE),
    "GroupNormalization": (lambda: L.GroupNormalization(2), SEQUENCE),
    "GroupQueryAttention": (lambda: L.GroupQueryAttention(3, 4, 2), "pair"),
    "LSTM": (lambda: L.LSTM(3), SEQUENCE),
    "LayerNormalization": (lambda: L.LayerNormalization(), SEQUENCE),
    "MultiHeadAttention": (lambda: L.MultiHeadAttention(2, 3), "pair"),
    "PReLU": (lambda: L.PReLU(), SEQUENCE),
    "RMSNormalization": (lambda: L.RMSNormalization(), SEQUENCE),
    "RNN": (lambda: L.RNN([L.LSTMCell(3), L.GRUCell(2)]), SEQUENCE),
    "ReversibleEmbedding": (lambda: L.ReversibleEmbedding(7, 3), "integers"),
    "SeparableConv1D": (lambda: L.SeparableConv1D(3, 2), SEQUENCE),
    "SeparableConv2D": (lambda: L.SeparableConv2D(3, 2), IMAGE),
    "SimpleRNN": (lambda: L.SimpleRNN(3), SEQUENCE),
    "SpectralNormalization": (lambda: L.SpectralNormalization(L.Dense(3)), SEQUENCE),
    "TimeDistributed": (lambda: L.TimeDistributed(L.Dense(3)), SEQUENCE),
}
# No layers that a network calls, or ones whose weights are not trained.
OTHERS = {"GRUCell", "LSTMCell", "SimpleRNNCell", "Normalization", "STFTSpectrogram"}
SLOW = {"ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Conv3D", "Conv3DTranspose", "Conv1DTranspose", "SeparableConv1D",
        "SimpleRNN", "GroupQueryAttention", "GRU", "DepthwiseConv1D"}  # fmt: skip


def model_of(name):
    """A functional model of one layer, and inputs."""
    make, shape = LAYERS[name]
    if shape == "integers":
        given = keras.Input((5,), dtype="int32")
        return keras.Model(given, make()(given)), RNG.integers(0, 7, (3, 5)).astype("int32")
    given = keras.Input(SEQUENCE if shape == "pair" else shape)
    x = RNG.standard_normal((3, *given.shape[1:])).astype("f")
    layer = make()
    if shape != "pair":
        return keras.Model(given, layer(given)), x
    takes_list = "inputs" in inspect.signature(layer.call).parameters
    return keras.Model(given, layer([given, given]) if takes_list else layer(given, given)), x


def randomised(model):
    for variable in model.trainable_variables:
        variable.assign(0.5 * RNG.standard_normal(variable.shape))
    return model


def without_scale(network):
    for layer in network._flatten_layers():
        for q in getattr(layer, "weight_posteriors", ()):
            q.rho.assign(tf.fill(q.shape, -100.0))
    return network


def with_weights():
    """Public layers of Keras whose code, or whose parents', adds weights; aliases once."""
    found = set()
    for name in dir(keras.layers):
        cls = getattr(keras.layers, name)
        if not (inspect.isclass(cls) and issubclass(cls, L.Layer)) or cls.__name__ != name:
            continue
        sources = [inspect.getsource(part) for part in cls.__mro__
                   if part.__module__.startswith("keras.src.layers") and part is not L.Layer]  # fmt: skip
        if any("add_weight" in source for source in sources):
            found.add(name)
    return found


def test_every_layer_of_keras_that_has_weights_is_tried():
    assert with_weights() - OTHERS <= set(LAYERS)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in LAYERS])
def test_with_scales_of_zero_outputs_are_the_models(name):
    model, x = model_of(name)
    randomised(model)
    network, report = tfbnn.bayesianize(model, seed=1)
    [line] = report[report["weights"] > 0].to_dict("records")
    assert line["what"] == "Bayesian"
    drawn = [np.asarray(network(x)) for _ in range(2)]
    assert not np.allclose(*drawn)
    np.testing.assert_allclose(without_scale(network)(x), model(x), atol=2e-6)


def lenet():
    return keras.Sequential(
        [keras.Input((8, 8, 1)), L.Conv2D(3, 3, activation="relu", kernel_regularizer="l2"), L.MaxPooling2D(2),
         L.Dropout(0.1), L.Flatten(), L.BatchNormalization(), L.Dense(4, "relu"), L.Dense(2)]
    )  # fmt: skip


def test_the_report_tells_what_became_of_each_layer():
    model = lenet()
    network, report = tfbnn.bayesianize(model, estimator="local_reparameterization")
    assert report["layer"].tolist() == [layer.name for layer in model.layers]
    assert report["became"].tolist() == [
        "Conv2DLocalReparameterization", "MaxPooling2D", "Dropout", "Flatten", "Variational",
        "DenseLocalReparameterization", "DenseLocalReparameterization",
    ]  # fmt: skip
    assert report["what"].tolist() == ["Bayesian", "kept", "kept", "kept", *["Bayesian"] * 3]
    assert "kernel_regularizer: the prior" in report["why"][0]
    assert report["why"][1] == "no trainable weights"
    assert report["weights"].sum() == sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert [layer.name for layer in network.layers] == [layer.name for layer in model.layers]


@pytest.mark.parametrize(
    ("layers", "bayesian"),
    [("last", 1), (lambda layer: isinstance(layer, L.Conv2D), 1), ("names", 2), ("all", 4)],
    ids=["last", "predicate", "names", "all"],
)
def test_layers_are_chosen(layers, bayesian):
    model = lenet()
    chosen = [model.layers[0].name, model.layers[-1].name] if layers == "names" else layers
    network, report = tfbnn.bayesianize(model, chosen)
    assert (report["what"] == "Bayesian").sum() == bayesian
    x = RNG.standard_normal((3, 8, 8, 1)).astype("f")
    np.testing.assert_allclose(without_scale(network)(x), model(x), atol=1e-6)


def test_nested_models_shared_layers_several_inputs_and_outputs(tmp_path):
    inner = keras.Sequential([keras.Input((3,)), L.Dense(4, "relu"), L.Dense(3)])
    shared = L.Dense(2, name="shared")
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    joined = L.Concatenate()([shared(inner(a)), shared(b)])
    model = keras.Model([a, b], [joined, shared(a)])
    network, report = tfbnn.bayesianize(model)
    assert report.set_index("layer").loc["shared", "became"] == "DenseReparameterization"
    x = [RNG.standard_normal((5, 3)).astype("f") for _ in range(2)]
    for own, plain in zip(without_scale(network)(x), model(x), strict=True):
        np.testing.assert_allclose(own, plain, atol=1e-6)
    network, _ = tfbnn.bayesianize(model)
    trained = keras.Model(network.inputs, network.outputs[0])
    bayesian = tfbnn.BayesianModel(trained, tfbnn.likelihoods.Normal(num_targets=4), seed=1)
    bayesian.compile(keras.optimizers.Adam(0.01))
    tfbnn.train(bayesian, dict(zip("ab", x, strict=True)), np.zeros((5, 4)), epochs=2, verbose=0)
    bayesian.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    given = dict(zip("ab", x, strict=True))
    np.testing.assert_array_equal(
        again.predict_distribution(given, 10).mean, bayesian.predict_distribution(given, 10).mean
    )


def test_operations_between_layers_stay():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.tanh(inputs + L.Dense(3, name="dense")(inputs))[:, :2])
    network, report = tfbnn.bayesianize(model)
    assert report["layer"].tolist() == ["dense"]
    x = RNG.standard_normal((5, 3)).astype("f")
    np.testing.assert_allclose(without_scale(network)(x), model(x), atol=1e-6)


def test_moped_scales_are_a_fraction_of_the_weights():
    model = randomised(lenet())
    network, _ = tfbnn.bayesianize(model, moped=0.1)
    for layer in network.layers:
        for q in getattr(layer, "weight_posteriors", ()):
            loc, scale = (np.asarray(part) for part in q.factorised_gaussian)
            np.testing.assert_allclose(scale, 0.1 * np.abs(loc), rtol=1e-4)


def test_a_stateful_rnn_is_refused_and_kept():
    model = keras.Sequential([keras.Input((6, 4), batch_size=2), L.LSTM(3, stateful=True), L.Dense(1)])
    _, report = tfbnn.bayesianize(model)
    assert report["what"].tolist() == ["refused", "Bayesian"]
    assert "stateful=False" in report["why"][0]


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(1)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    ("model", "arguments", "told"),
    [
        (lambda: L.Dense(1), {}, "`model`.*a Keras model"),
        (lambda: keras.Sequential([L.Dense(1)]), {}, "`model`.*built"),
        (lenet, {"layers": "first"}, "`layers`"),
        (lenet, {"layers": ["conv"]}, "`layers`"),
        (lenet, {"layers": lambda layer: False}, "`layers`.*not chosen"),
        (lenet, {"estimator": "flipouts"}, "`estimator`.*'flipout'"),
        (lenet, {"moped": 0.1, "posterior": "FullCovariance"}, "`moped`"),
        (lenet, {"moped": -1}, "`moped`"),
    ],
)
def test_what_cannot_be_is_refused(model, arguments, told):
    with pytest.raises(InvalidInput, match=rf"(?s){told}"):
        tfbnn.bayesianize(model(), **arguments)


def test_a_model_of_an_own_class_is_refused_with_the_mend():
    model = Own()
    model(np.zeros((2, 3), "f"))
    with pytest.raises(InvalidInput, match=r"Variational"):
        tfbnn.bayesianize(model)


def test_converted_twice_it_is_as_converted_once():
    network, _ = tfbnn.bayesianize(lenet(), "last")
    again, report = tfbnn.bayesianize(network)
    assert report["why"].tolist()[-1] == "it has a posterior already"
    assert sum(isinstance(layer, VariationalLayer) for layer in again.layers) == 4


def test_a_network_with_functions_of_keras_ops_is_converted():
    inputs = keras.Input((4,))
    left, right = (L.Dense(3, name=name)(inputs) for name in ("left", "right"))
    model = keras.Model(inputs, L.Dense(2, name="output")(keras.ops.softmax(left + right)))
    network, report = tfbnn.bayesianize(model, seed=1)
    assert report["layer"][report["what"] == "Bayesian"].tolist() == ["left", "right", "output"]
    x = RNG.normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(without_scale(network)(x), model(x), atol=2e-6)


def test_each_layer_has_a_seed_of_its_own():
    """Else copies of the network, as an ensemble has them, would begin with equal weights in layers of one shape."""
    model = keras.Sequential([keras.Input((3,)), *(L.Dense(3, name=f"dense_{i}") for i in range(3))])
    assert [layer.seed for layer in tfbnn.bayesianize(model, seed=7)[0].layers] == [7, 8, 9]
    assert [layer.seed for layer in tfbnn.bayesianize(model)[0].layers] == [None] * 3
    copy = as_points(tfbnn.bayesianize(model, seed=7)[0], seed=1)
    one, two, _ = (layer.weight_posteriors[0].loc for layer in copy.layers)
    assert not np.array_equal(one, two)


def test_parts_that_do_not_go_together_are_told_as_such():
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    with pytest.raises(InvalidInput, match=r"`posterior`.*factorised.*estimator='reparameterization'"):
        tfbnn.bayesianize(model, posterior="FullCovariance")


# --- adapters of a frozen model ---------------------------------------------------------------------------------------

RANK = 2


def transformer():
    """A small one of each: embedding, attention, normalisation, convolution, dense layers."""
    words, image = keras.Input((5,), dtype="int32"), keras.Input((6, 6, 3))
    h = L.Embedding(9, 4, name="words")(words)
    h = L.LayerNormalization(name="norm")(h + L.MultiHeadAttention(2, 3, name="attention")(h, h))
    seen = L.Flatten()(L.BatchNormalization(name="batch")(L.Conv2D(3, 3, activation="relu", name="conv")(image)))
    both = L.Concatenate()([L.Flatten()(h), seen])
    outputs = L.Dense(1, name="head")(L.Dense(5, "tanh", name="hidden")(both))
    return keras.Model([words, image], outputs)


ROWS = [RNG.integers(0, 9, (8, 5)).astype("int32"), RNG.standard_normal((8, 6, 6, 3)).astype("f")]
# n_in + n_out of each weight that is changed: the kernel [3, 3, 3, 3] is 9 x 9; hidden has 5 x 4 + 4 x 4 x 3 inputs.
MATRICES = {"words": 9 + 4, "attention": 4 * (4 + 6), "conv": 9 + 9, "hidden": 68 + 5}


@pytest.mark.parametrize("frozen", [False, True])
def test_adapters_leave_the_model_as_it_is_and_are_all_that_is_trainable(frozen):
    model = randomised(transformer())
    model.trainable = not frozen
    network, report = tfbnn.bayesianize(model, adapter_rank=RANK, seed=1)
    assert model.trainable != frozen
    told = report.set_index("layer")
    for name, size in MATRICES.items():
        assert told.loc[name, "became"] == "LowRankAdapter"
        assert told.loc[name, "what"] == "Bayesian"
        assert told.loc[name, "trainable"] == 2 * RANK * size  # means and scales
    assert told.loc["attention", "why"] == "rank 2 on kernel, kernel.1, kernel.2, kernel.3"
    assert told.loc["norm", ["weights", "trainable", "what", "why"]].tolist() == [
        8, 0, "frozen", "no weight of two axes or more",
    ]  # fmt: skip
    assert told.loc["head", "what"] == "refused"
    assert "head is 5 x 1" in told.loc["head", "why"]
    assert report["weights"].sum() == sum(int(np.prod(v.shape)) for v in transformer().trainable_variables)
    assert report["trainable"].sum() == sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert all(v.name.endswith(("_A_loc", "_A_rho", "_B_loc", "_B_rho")) for v in network.trainable_variables)
    np.testing.assert_allclose(without_scale(network)(ROWS), model(ROWS), atol=1e-6)
    other, _ = tfbnn.bayesianize(randomised(transformer()), adapter_rank=RANK)
    assert np.abs(without_scale(other)(ROWS) - model(ROWS)).max() > 1e-2  # twin


def test_training_leaves_frozen_weights_and_statistics_bit_for_bit(tmp_path):
    from tfbnn.training.posterior_summary import posterior_summary

    network, _ = tfbnn.bayesianize(randomised(transformer()), adapter_rank=RANK, seed=1)
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=0.1), seed=2)
    model.compile(keras.optimizers.Adam(0.01))
    trained = {id(variable) for variable in network.trainable_variables}
    frozen = [variable for variable in network.weights if id(variable) not in trained]
    before = [variable.numpy() for variable in frozen]
    started = [variable.numpy() for variable in network.trainable_variables]
    x = dict(zip(network.input_names, ROWS, strict=True)) if hasattr(network, "input_names") else ROWS
    history = tfbnn.train(model, x, np.ones(8, "f"), epochs=3, batch_size=4, verbose=0, jit_compile=False).history
    assert history["log_likelihood"][-1] > history["log_likelihood"][0]
    for variable, old in zip(frozen, before, strict=True):
        np.testing.assert_array_equal(variable, old, err_msg=variable.path)
    for variable, old in zip(network.trainable_variables, started, strict=True):
        assert np.abs(variable.numpy() - old).max() > 0, variable.path
    table = posterior_summary(model)
    assert table["layer"].tolist() == list(MATRICES)
    assert table["weights"].tolist() == [RANK * size for size in MATRICES.values()]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert len(again.trainable_variables) == len(model.trainable_variables)
    np.testing.assert_array_equal(
        again.predict_distribution(x, 10).parameters, model.predict_distribution(x, 10).parameters
    )


# Of which no weight has more than RANK rows and columns.
WITHOUT_MATRIX = {"AdditiveAttention", "Attention", "BatchNormalization", "DepthwiseConv1D", "GroupNormalization",
                  "LayerNormalization", "RMSNormalization"}  # fmt: skip
ADAPTED = ("Bidirectional", "EinsumDense", "LSTM", "RNN", "TimeDistributed")


@pytest.mark.parametrize(
    "name",
    [n if n in ADAPTED else pytest.param(n, marks=pytest.mark.slow) for n in LAYERS if n not in WITHOUT_MATRIX],
)
def test_every_layer_of_keras_that_has_a_matrix_is_adapted(name):
    model, x = model_of(name)
    randomised(model)
    network, report = tfbnn.bayesianize(model, adapter_rank=RANK, seed=1)
    [line] = report[report["weights"] > 0].to_dict("records")
    assert line["what"] == "Bayesian"
    np.testing.assert_allclose(without_scale(network)(x), model(x), atol=2e-6)


@pytest.mark.parametrize("name", ["LayerNormalization", "DepthwiseConv1D"])
def test_a_model_without_a_matrix_is_refused(name):
    with pytest.raises(InvalidInput, match=r"(?s)`layers`.*(two axes|below)"):
        tfbnn.bayesianize(model_of(name)[0], adapter_rank=RANK)


def test_parts_that_a_layer_makes_when_it_is_built_are_frozen_too():
    network, report = tfbnn.bayesianize(transformer(), ["hidden"], adapter_rank=RANK)
    assert report.set_index("layer").loc["attention", ["trainable", "what"]].tolist() == [0, "frozen"]
    assert len(network.trainable_variables) == 4


def test_chosen_layers_alone_get_adapters_and_posteriors_that_are_there_stay():
    inputs = keras.Input((4,))
    h = tfbnn.layers.DenseFlipout(4, name="before")(inputs)
    model = keras.Model(inputs, L.Dense(4, name="b")(L.Dense(4, name="a")(h)))
    network, report = tfbnn.bayesianize(model, ["b"], adapter_rank=2)
    assert report["what"].tolist() == ["kept", "frozen", "Bayesian"]
    assert report["trainable"].tolist() == [40, 0, 2 * 2 * 8]
    assert network.get_layer("before").trainable


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"adapter_rank": 2, "moped": 0.1}, "`moped`.*adapter_rank"),
        ({"adapter_rank": 0}, "`adapter_rank`.*1 or more"),
        ({"adapter_rank": 200}, r"`layers`.*refused"),
    ],
)
def test_adapters_that_cannot_be_are_refused(arguments, told):
    with pytest.raises(InvalidInput, match=rf"(?s){told}"):
        tfbnn.bayesianize(lenet(), **arguments)


# --- layers that are shared, functions without a name -----------------------------------------------------------------


def test_a_layer_that_stands_in_a_nested_model_too_is_one_layer():
    shared, inputs = L.Dense(6, name="shared"), keras.Input((6,))
    inner = keras.Sequential([keras.Input((6,)), shared])
    network, report = tfbnn.bayesianize(keras.Model(inputs, L.Subtract()([inner(inputs), shared(inputs)])), seed=1)
    assert report["layer"].tolist() == ["shared", "subtract"]
    assert len(network.trainable_variables) == 4
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(num_targets=6), num_data=1, seed=1)
    x = RNG.normal(size=(5, 6)).astype("float32")
    assert model.predict_distribution(x, 10).epistemic_stddev.max() < 1e-6  # f(x) - f(x), of one draw of the weights


def test_a_nested_model_that_stands_twice_is_one():
    inner, inputs = keras.Sequential([keras.Input((3,)), L.Dense(3, name="inside")]), keras.Input((3,))
    model = keras.Model(inputs, L.Dense(1)(inner(inner(inputs))))
    network, report = tfbnn.bayesianize(model, seed=1)
    assert report["layer"].tolist() == ["inside", model.layers[-1].name]
    x = RNG.normal(size=(5, 3)).astype("float32")
    np.testing.assert_allclose(without_scale(network)(x), model(x), atol=2e-6)


def test_a_layer_that_a_wrapper_holds_too_is_refused():
    shared, inputs = L.Dense(3, name="shared"), keras.Input((4, 6))
    model = keras.Model(inputs, L.Add()([L.TimeDistributed(shared)(inputs), shared(inputs)]))
    with pytest.raises(InvalidInput, match=r"no layer holds the weights of another.*wrapper"):
        tfbnn.bayesianize(model)


def test_a_lambda_is_told_as_what_it_is():
    model = keras.Sequential([keras.Input((2,)), L.Lambda(lambda t: t, name="by_lambda"), L.Dense(1)])
    with pytest.raises(InvalidInput, match=r"`layer by_lambda`.*registered"):
        tfbnn.bayesianize(model)


def test_an_unknown_prior_is_told_at_once():
    with pytest.raises(InvalidInput, match=r"`prior`.*Did you mean 'Normal'"):
        tfbnn.bayesianize(keras.Sequential([keras.Input((2,)), L.Dense(1)]), prior="Norml")
