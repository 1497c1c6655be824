"""Dropout: masks by fixed noise, one mask a draw, the KL of the learned rate, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
import toy
from gaussian import plain_model
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Tape, noise_scope
from tfbnn.layers import ConcreteDropout, MCDropout

RATE = 0.3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype("float32")
ONES = np.ones((4000, 5), "float32")


def with_noise(layer, x, uniforms, **kwargs):
    with noise_scope(Tape({(0, "mask"): np.asarray(uniforms, "float32")}, [layer])):
        return layer(x, **kwargs).numpy()


def model_of(*layers, shape=(3,), **kwargs):
    network = keras.Sequential([keras.Input(shape), *layers])
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=1.0, **kwargs), seed=0, num_data=8)


# --- MCDropout --------------------------------------------------------------------------------------------------------


def test_units_are_dropped_where_the_noise_is_above_the_rate_kept():
    uniforms = RNG.random((8, 3))
    expected = X * (uniforms < 1 - RATE) / (1 - RATE)
    np.testing.assert_allclose(with_noise(MCDropout(RATE), X, uniforms), expected, rtol=1e-6)


def share_dropped(rate, training):
    return float((MCDropout(rate, seed=1)(ONES, training=training).numpy() == 0).mean())


@pytest.mark.parametrize("training", [True, False])
def test_a_share_of_the_units_is_dropped_in_training_and_in_prediction(training):
    """20,000 masks: the standard error is 0.0032; the bound is 5 of them, and a rate off by 0.05 is seen."""
    assert share_dropped(RATE, training) == pytest.approx(RATE, abs=0.016)
    assert share_dropped(RATE + 0.05, training) != pytest.approx(RATE, abs=0.016)


def test_units_that_stay_are_scaled():
    assert set(np.unique(MCDropout(0.2)(ONES))) == {0.0, np.float32(1.25)}


def test_in_training_each_row_has_a_mask_in_prediction_one_serves_all():
    """In both couplings; 2^5 masks, so that 200 equal rows of a training pass cannot be."""
    model = model_of(MCDropout(0.5), shape=(5,), num_targets=5)
    assert len(np.unique(model(ONES[:200], training=True), axis=0)) > 10
    for coupling in ("coherent", "marginal"):
        found = model.predict_distribution(ONES[:7], 50, coupling=coupling).parameters[..., :5]
        np.testing.assert_array_equal(found, np.repeat(found[:, :1], 7, axis=1))
        assert len(np.unique(found[:, 0], axis=0)) > 10


def test_a_row_alone_is_as_in_its_batch_and_draws_have_prefixes_and_seeds():
    model = model_of(keras.layers.Dense(4, "tanh"), MCDropout(0.5), keras.layers.Dense(1))
    found = model.predict_distribution(X, 30).parameters
    np.testing.assert_allclose(model.predict_distribution(X[2:3], 30).parameters[:, 0], found[:, 2], rtol=1e-5)
    np.testing.assert_array_equal(model.predict_distribution(X, 13).parameters, found[:13])
    np.testing.assert_array_equal(model.predict_distribution(X, 30, seed=0).parameters, found)
    assert np.abs(model.predict_distribution(X, 30, seed=1).parameters - found).max() > 1e-3


def test_positions_of_a_row_share_its_mask():
    found = MCDropout(0.5, seed=0)(np.ones((50, 4, 3, 6), "float32")).numpy()
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1, :1], found.shape))
    assert len(np.unique(found[:, 0, 0], axis=0)) > 20


@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_is_called_twice_has_one_mask_a_draw(training):
    inner = keras.Sequential([keras.Input((3,)), MCDropout(0.5), keras.layers.Dense(1)])
    a, b = keras.Input((3,)), keras.Input((3,))
    network = keras.Model([a, b], keras.layers.Subtract()([inner(a), inner(b)]))
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=1.0), seed=0, num_data=8)
    np.testing.assert_allclose(model([X, X], training=training)[:, 0], 0.0, atol=1e-6)
    assert np.abs(model([X, 2 * X], training=training)[:, 0]).max() > 1e-3
    for coupling in ("coherent", "marginal"):
        found = model.predict_distribution([X, X], 20, coupling=coupling).parameters[..., 0]
        np.testing.assert_allclose(found, 0.0, atol=1e-6)


def test_rows_folded_into_the_batch_share_the_mask_of_a_draw():
    inputs = keras.Input((2, 1))
    dropped = MCDropout(0.5)(keras.ops.reshape(inputs, (-1, 1)))
    network = keras.Model(inputs, keras.ops.reshape(dropped, (-1, 2)))
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=1.0, num_targets=2), seed=0)
    found = model.predict_distribution(np.ones((3, 2, 1), "float32"), 40).parameters[..., :2]
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1, :1], found.shape))
    assert set(np.unique(found)) == {0.0, 2.0}


def test_training_calls_on_other_numbers_of_rows_are_refused():
    layer, inputs = MCDropout(0.5), keras.Input((2, 3))
    folded = keras.ops.reshape(layer(keras.ops.reshape(inputs, (-1, 3))), (-1, 2, 3))
    network = keras.Model(inputs, keras.layers.Dense(1)(layer(keras.ops.max(folded, axis=1))))
    with pytest.raises(InvalidInput, match="as many rows"):
        toy.train(toy.model_of(network), np.ones((8, 2, 3), "float32"), toy.Y[:8])


def test_a_network_in_which_dropout_alone_is_random_is_trained_without_a_kl():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), MCDropout(RATE), keras.layers.Dense(1)])
    model = toy.model_of(network)
    history = toy.train(model)
    assert history["kl"] == [0.0, 0.0]
    assert np.isfinite(history["loss"]).all()
    by_fit = toy.model_of(keras.models.clone_model(network))
    assert by_fit.fit(toy.X, toy.Y, verbose=0).history["kl"] == [0.0]


def test_in_a_plain_model_it_trains_and_drops_in_prediction_too():
    dropped = MCDropout(0.5, seed=1)
    model = keras.Sequential([keras.Input((3,)), dropped, keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], verbose=0)
    ones = np.ones((200, 3), "float32")
    assert len(np.unique(model.predict(ones, verbose=0).round(5))) == 2**3
    assert len(np.unique(model(ones, training=True).numpy().round(5))) == 2**3


@pytest.mark.parametrize("rate", [0, 1, 0.0, 1.0, -0.1, True, False, "0.1", None, np.nan])
@pytest.mark.parametrize("make", [MCDropout, lambda rate: ConcreteDropout(keras.layers.Dense(1), initial_rate=rate)])
def test_rates_that_are_no_share_are_refused(make, rate):
    with pytest.raises(InvalidInput, match="rate"):
        make(rate)


def test_inputs_of_another_width_are_refused():
    layer = MCDropout(RATE)
    layer(X)
    with pytest.raises(ValueError, match="incompatible"):
        layer(ONES)


# --- ConcreteDropout --------------------------------------------------------------------------------------------------


def built(layer=None, shape=(None, 3), logit=-0.7, **kwargs):
    made = ConcreteDropout(layer or keras.layers.Dense(2, "tanh"), **{"kl_weight": 0.0, "seed": 1, **kwargs})
    made.build(shape)
    made.rate_logit.assign(logit)
    if made.layer.bias is not None:
        made.layer.bias.assign(np.linspace(-1, 1, made.layer.bias.shape[0]))
    return made


def logit(p):
    return np.log(p / (1 - p))


def relaxed(u, p, temperature):
    return 1 - 1 / (1 + np.exp(-(logit(p) + logit(u)) / temperature))


def test_the_mask_is_the_papers_relaxation_in_training():
    layer, u, p = built(temperature=0.4), RNG.random((8, 3)).astype("float32"), 1 / (1 + np.exp(0.7))
    kernel, bias = layer.layer.get_weights()
    expected = np.tanh(X * relaxed(u, p, 0.4) / (1 - p) @ kernel + bias)
    np.testing.assert_allclose(with_noise(layer, X, u, training=True), expected, rtol=1e-5, atol=1e-6)


def test_the_mask_of_a_draw_is_the_relaxations_limit():
    layer, u, p = built(), RNG.random((8, 3)), 1 / (1 + np.exp(0.7))
    np.testing.assert_array_equal(relaxed(u, p, 0.02) > 0.5, u < 1 - p)
    model = model_of(layer.__class__.from_config({**layer.get_config(), "kl_weight": None}), num_targets=2)
    dropped = model.network.layers[0]
    dropped.layer.set_weights([np.eye(3, 2), np.zeros(2)])
    found = np.arctanh(model.predict_distribution(ONES[:4, :3] / 10, 60).parameters[..., :2])
    np.testing.assert_array_equal(found, np.repeat(found[:, :1], 4, axis=1))
    expected = {0.0, 0.1 / (1 - float(dropped.rate))}
    np.testing.assert_allclose(sorted({round(float(v), 5) for v in found.ravel()}), sorted(expected), atol=1e-4)


def kl_by_hand(kernel, bias, p, scale):
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    inputs = np.moveaxis(kernel, -2, 0).reshape(kernel.shape[-2], -1)
    units = (1 - p) / (2 * scale**2) * ((inputs / (1 - p)) ** 2).sum(axis=1) - entropy
    return units.sum() + (bias**2).sum() / (2 * scale**2)


@pytest.mark.parametrize(
    ("inner", "shape"),
    [
        (lambda: keras.layers.Dense(2), (None, 3)),
        (lambda: keras.layers.Conv1D(2, 3), (None, 7, 4)),
        (lambda: keras.layers.Conv2D(2, (2, 3), padding="same"), (None, 5, 6, 4)),
    ],
)
def test_the_kl_is_the_papers(inner, shape):
    """M / (1 - p) is what the paper calls M."""
    layer = built(inner(), shape, prior_scale=0.6)
    kernel, bias = (value.astype(np.float64) for value in layer.layer.get_weights())
    p = 1 / (1 + np.exp(0.7))
    np.testing.assert_allclose(layer.kl_divergence(), kl_by_hand(kernel, bias, p, 0.6), rtol=1e-5)
    assert abs(float(layer.kl_divergence()) / kl_by_hand(kernel * (1 - p), bias, p, 0.6) - 1) > 0.01  # not M itself
    assert float(layer.penalty()) == 0.0
    x = RNG.normal(size=(2, *shape[1:])).astype("float32")
    assert layer(x).shape == layer.compute_output_shape(x.shape)


@pytest.mark.parametrize("value", [-30.0, -3.0, 0.0, 30.0])
def test_the_rate_has_a_finite_gradient(value):
    layer = built(logit=value)
    uniforms = np.linspace(2.0**-24, 1 - 2.0**-24, 24).reshape(8, 3)
    with tf.GradientTape(persistent=True) as tape:
        kl = layer.kl_divergence()
        with noise_scope(Tape({(0, "mask"): uniforms.astype("float32")}, [layer])):
            outputs = layer(X, training=True)
    for target in (kl, outputs):
        assert np.isfinite(tape.gradient(target, layer.rate_logit.value))


def test_the_gradient_of_the_kl_in_the_rate_is_that_of_its_formula():
    layer = built(prior_scale=0.6)
    kernel, bias = (value.astype(np.float64) for value in layer.layer.get_weights())
    with tf.GradientTape() as tape:
        kl = layer.kl_divergence()
    low, high = (kl_by_hand(kernel, bias, 1 / (1 + np.exp(-v)), 0.6) for v in (-0.701, -0.699))
    np.testing.assert_allclose(tape.gradient(kl, layer.rate_logit.value), (high - low) / 0.002, rtol=1e-4)


def rate_after(x, y, epochs=60, **kwargs):
    layer = ConcreteDropout(keras.layers.Dense(1), initial_rate=0.2, **kwargs)
    network = keras.Sequential([keras.Input((x.shape[1],)), layer])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=0.1), seed=0)
    model.compile(keras.optimizers.Adam(0.05))
    tfbnn.train(model, x, y, epochs=epochs, batch_size=100, verbose=0, jit_compile=False)
    return float(layer.rate)


def test_the_rate_falls_with_much_data_and_is_the_priors_without():
    """Where inputs tell nothing (they are 0) M goes to 0, and the entropy is largest at p = 1/2."""
    x = RNG.normal(size=(1000, 3)).astype("float32")
    y = x @ np.array([1.0, -2.0, 0.5], "float32")
    assert rate_after(x, y) < 0.01
    assert rate_after(0 * x[:100], 0 * y[:100], epochs=300) == pytest.approx(0.5, abs=0.01)


def test_in_a_plain_model_the_loss_gets_kl_weight_times_the_kl():
    layer = ConcreteDropout(keras.layers.Dense(1), kl_weight=1 / 50)
    model = plain_model(layer)
    model(X, training=True)
    assert [float(loss) for loss in model.losses] == [pytest.approx(float(layer.kl_divergence()) / 50)]
    with pytest.raises(InvalidInput, match="kl_weight"):
        plain_model(ConcreteDropout(keras.layers.Dense(1))).fit(X, X[:, :1], verbose=0)


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (keras.layers.LSTM(2), "Dense, Conv1D"),
        (tfbnn.layers.DenseFlipout(2), "Dense, Conv1D"),
        ("Dense", "Dense, Conv1D"),
        (keras.layers.Conv2D(2, 3, data_format="channels_first"), "channels last"),
        (keras.layers.Conv2D(2, 3, groups=2), "one group"),
    ],
)
def test_other_layers_are_refused(layer, told):
    with pytest.raises(InvalidInput, match=told):
        ConcreteDropout(layer)


def test_the_kl_of_a_layer_without_weights_is_refused():
    with pytest.raises(InvalidInput, match="no weights yet"):
        ConcreteDropout(keras.layers.Dense(1)).kl_divergence()


def test_dropout_layers_are_saved_exported_and_answer_the_same(tmp_path):
    """Inside a functional network, of trained weights."""
    inputs = keras.Input((3,))
    hidden = ConcreteDropout(keras.layers.Dense(4, "tanh"), prior_scale=0.5)(inputs)
    network = keras.Model(inputs, keras.layers.Dense(1)(MCDropout(RATE)(hidden)))
    model = toy.model_of(network)
    toy.train(model)
    expected = model.predict_distribution(toy.X, 20).parameters
    model.save(tmp_path / "model.keras")
    loaded = tfbnn.load_draws(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_distribution(toy.X, 20).parameters, expected)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(model, tmp_path / "served", num_samples=20))
    mean = served.predict(toy.X)["mean"]
    np.testing.assert_allclose(mean, model.predict_distribution(toy.X, 20).mean, rtol=1e-5)
