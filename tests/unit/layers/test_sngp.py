"""Random features of the Gaussian kernel, trunks of spectral norm 1, and answers far from the data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.core.checks import InvalidInput

K, L = keras.layers, tfbnn.layers
RNG = np.random.default_rng(0)


def test_products_of_features_are_the_kernel():
    """exp(-|h - g|^2 / (2 l^2)) of all pairs of 6 inputs, within 5 standard errors of 20,000 features."""
    h = RNG.normal(size=(6, 3)).astype(np.float32)
    phi = L.RandomFeatures(20_000, length_scale=1.5, seed=1)(h).numpy()
    distances = np.square(h[:, None] - h[None]).sum(axis=-1)
    np.testing.assert_allclose(phi @ phi.T, np.exp(-distances / (2 * 1.5**2)), atol=5 * np.sqrt(1 / 20_000))
    assert np.ptp(distances) > 5


def test_features_are_those_of_the_seed_and_are_saved(tmp_path):
    h = tf.ones([2, 3])
    made = [L.RandomFeatures(8, seed=seed)(h).numpy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(made[0], made[1])
    assert np.abs(made[0] - made[2]).max() > 0.1
    network = keras.Sequential([keras.Input((3,)), L.RandomFeatures(8)])
    network.save(tmp_path / "features.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "features.keras")(h), network(h))


def residual_trunk():
    inputs = keras.Input((2,))
    h = K.Dense(16)(inputs)
    for _ in range(2):
        h = K.Add()([h, K.Dense(16, "relu")(h)])
    return keras.Model(inputs, h)


def two_groups(count=60):
    """Classes 0 and 1 about (-1, 0) and (1, 0)."""
    y = np.arange(count) % 2
    return (RNG.normal(0, 0.3, (count, 2)) + np.column_stack([2 * y - 1, 0 * y])).astype(np.float32), y


FAR = np.float32([[0, 9], [0, -9], [9, 9], [-9, 9]])


def test_far_from_the_data_it_does_not_know():
    """Near the data sure and right; far away near 1/2, where the same trunk with a plain last layer is sure."""
    keras.utils.set_random_seed(0)
    x, y = two_groups()
    network = L.sngp(residual_trunk(), 2, features=256, prior_scale=3.0, seed=0)
    adam = keras.optimizers.Adam(0.01)
    method = tfbnn.inference.Laplace(network, tfbnn.likelihoods.Categorical(2), adam, weights="last", seed=0)
    draws = method.fit(x, y, epochs=60, verbose=0)
    assert (draws.predict_distribution(x).probabilities[np.arange(60), y] > 0.8).mean() > 0.9
    assert np.abs(draws.predict_distribution(FAR).probabilities - 0.5).max() < 0.25
    trunk = residual_trunk()
    plain = tfbnn.BayesianModel(keras.Model(trunk.inputs, K.Dense(2)(trunk.output)), tfbnn.likelihoods.Categorical(2))
    plain.compile(keras.optimizers.Adam(0.01))
    tfbnn.train(plain, x, y, epochs=60, verbose=0)
    assert np.abs(plain.predict(FAR, verbose=0) - 0.5).max() > 0.45


@pytest.mark.parametrize("loop", ["fit", "train", pytest.param("train_many", marks=pytest.mark.slow)])
def test_kernels_are_kept_at_norm_1_by_all_loops(loop):
    """Keras' power iterations leave 5 %; before training the norms are near 2."""
    x, y = two_groups()
    models = [tfbnn.BayesianModel(L.sngp(residual_trunk(), 2, 32, seed=s), tfbnn.likelihoods.Categorical(2), seed=s)
              for s in range(2 if loop == "train_many" else 1)]  # fmt: skip
    assert min(np.linalg.norm(layer.layer.kernel, 2) for layer in normalised(models[0])[1:]) > 1.3
    for model in models:
        model.compile(keras.optimizers.Adam(0.01))
    if loop == "train_many":
        tfbnn.train_many(models, (x, y), epochs=10, verbose=0)
    elif loop == "train":
        tfbnn.train(models[0], x, y, epochs=10, verbose=0)
    else:
        models[0].fit(x, y, epochs=10, verbose=0)
    found = [np.linalg.norm(layer.layer.kernel, 2) for model in models for layer in normalised(model)]
    np.testing.assert_allclose(found, 1.0, atol=0.06)


def normalised(model):
    return [layer for layer in model.network.layers if isinstance(layer, K.SpectralNormalization)]


def test_the_trunks_weights_are_taken_and_left():
    trunk = keras.Sequential([keras.Input((8, 8, 1)), K.Conv2D(2, 3), K.BatchNormalization(), K.Flatten()])
    before = [np.array(w) for w in trunk.get_weights()]
    network = L.sngp(trunk, 3, features=8)
    np.testing.assert_array_equal(normalised(tfbnn.BayesianModel(network, "Bernoulli"))[0].layer.kernel, before[0])
    assert network(tf.ones([2, 8, 8, 1])).shape == (2, 3)
    for old, new in zip(before, trunk.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_kernels_of_nested_models_are_normalised_too():
    inner = keras.Sequential([keras.Input((3,)), K.Dense(4, name="one"), K.Dense(4, name="two")], name="inner")
    trunk = keras.Sequential([keras.Input((3,)), inner, K.Dense(4, name="three")])
    network = L.sngp(trunk, 2, features=8)
    found = [*network.get_layer("inner").layers, network.get_layer("three")]
    assert all(isinstance(layer, K.SpectralNormalization) for layer in found)
    np.testing.assert_array_equal(found[1].layer.kernel, inner.layers[1].kernel)


@pytest.mark.parametrize(("trunk", "told"), [
    (keras.Sequential([keras.Input((4, 4)), K.LSTM(3)]), "norm 1.*LSTM.*SpectralNormalization"),
    (keras.Sequential([K.Dense(3)]), "built"),
    (keras.Sequential([keras.Input((4, 2)), K.Dense(3)]), "global pooling"),
    ("trunk", "sequential or functional"),
])  # fmt: skip
def test_refused(trunk, told):
    with pytest.raises(InvalidInput, match=told):
        L.sngp(trunk, 2)
