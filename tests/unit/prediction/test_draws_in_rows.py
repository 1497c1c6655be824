"""Draws of a block as so many rows more: the same answers, and only where no layer is known to mix rows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.prediction import monte_carlo

K, L = keras.layers, tfbnn.layers
WIDE = tfbnn.posteriors.MeanField(initial_rho=-1.0)
ROWS = np.random.default_rng(0).normal(size=(4, 6)).astype("f")


def dense(units, activation=None, make=L.DenseFlipout, **arguments):
    return make(units, activation, kernel_posterior_fn=WIDE, seed=units, **arguments)


def chain(*layers, inputs=6, batch_size=None):
    return keras.Sequential([keras.Input((inputs,), batch_size), *layers])


def of_points(units):
    values = tfbnn.posteriors.Deterministic(keras.initializers.GlorotUniform(seed=units))
    points = {
        "kernel_posterior_fn": values,
        "bias_posterior_fn": values,
        "kernel_prior_fn": None,
        "bias_prior_fn": None,
    }
    return L.DenseReparameterization(units, "relu", **points)


def normalised():
    """What has running statistics, what does nothing in prediction, and what folds no rows, between layers."""
    batch_norm = K.BatchNormalization()
    network = chain(K.Dense(5), dense(4, "tanh"), batch_norm, K.Dropout(0.5), K.Reshape((2, 2)), K.LSTM(3), dense(2))
    batch_norm.set_weights([np.float32([1, 2, 3, 4]), np.ones(4, "f"), np.float32([0, 1, 0, 1]), np.ones(4, "f")])
    return network


def functional():
    x = keras.Input((6,))
    return keras.Model(x, dense(2, use_bias=False)(dense(4, "relu")(dense(5, "relu")(x))))


STACKED = {
    "MLP": lambda: chain(dense(5, "relu"), dense(4, "relu"), dense(2)),
    "functional, no bias": functional,
    "other layers between": normalised,
    "one joint tensor": lambda: chain(
        L.DenseVariational(5, WIDE, "Normal", activation="relu", kl_weight=None, seed=1), dense(2)
    ),
    "variational last layer": lambda: chain(dense(4, "relu"), L.VariationalLastLayer(2, seed=1)),
    "points before the first noise": lambda: chain(of_points(5), of_points(5), dense(4, "relu"), dense(2)),
    "points behind it": lambda: chain(dense(4, "relu"), of_points(3), chain(K.Dense(3), inputs=3), dense(2)),
}


class Centred(K.Layer):
    """Minus the mean over the rows of the batch."""

    def call(self, inputs):
        return inputs - tf.reduce_mean(inputs, axis=0)


def with_a_skip():
    x = keras.Input((6,))
    return keras.Model(x, dense(2)(K.Add()([x, dense(6, "relu")(x)])))


def centred_rows(inputs):
    return inputs - tf.reduce_mean(inputs, axis=0)


def centred_inside():
    x = keras.Input((4,))
    return keras.Model(x, x - keras.ops.mean(x, axis=0))


NOT_STACKED = {
    "a layer of one's own": lambda: chain(dense(4), Centred(), dense(2)),
    "operations that are no layers, in a nested model": lambda: chain(dense(4), centred_inside(), dense(2)),
    "a layer over the rows": lambda: chain(dense(4), K.Softmax(axis=0), dense(2)),
    "counted from behind": lambda: chain(dense(4), K.UnitNormalization(axis=-2), dense(2)),
    "a lambda": lambda: chain(dense(4), K.Lambda(centred_rows), dense(2)),
    "an activation of one's own": lambda: chain(dense(4, centred_rows), dense(2)),
    "a skip connection": with_a_skip,
    "dropout that stays": lambda: chain(dense(4), L.MCDropout(0.5, seed=1), dense(2)),
    "correlated weights": lambda: chain(
        L.DenseReparameterization(4, kernel_posterior_fn=tfbnn.posteriors.LowRank(1), seed=1), dense(2)
    ),
    "a batch of fixed size": lambda: chain(dense(4), dense(2), batch_size=4),
    "noise inside a nested model": lambda: chain(chain(dense(4), dense(3)), dense(2, make=L.DenseFlipout)),
}


def predicted(network, monkeypatch, force=None, **arguments):
    """Parameters [S, B, P'], and whether the draws were stacked in the rows."""
    found = []

    def spy(network, plan):
        found.append(natural(network, plan))
        return found[-1] if force is None else force

    natural = monte_carlo.draws_stack_in_rows
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.HeteroscedasticNormal(), seed=3)
    with monkeypatch.context() as patch:
        patch.setattr(monte_carlo, "draws_stack_in_rows", spy)
        return model.predict_distribution(ROWS, 12, **arguments).parameters, found[0]


@pytest.mark.parametrize("make", STACKED.values(), ids=STACKED)
def test_stacked_in_the_rows_the_draws_are_the_same(make, monkeypatch):
    network = make()
    parameters, stacked = predicted(network, monkeypatch)
    assert stacked
    apart, _ = predicted(network, monkeypatch, force=False)
    np.testing.assert_allclose(parameters, apart, rtol=1e-4, atol=1e-5)
    assert apart.std(axis=0).min() > 0.01
    np.testing.assert_array_less(0.01, np.abs(np.diff(parameters[..., 0], axis=1)).max(axis=0))  # twin: rows differ


@pytest.mark.parametrize("make", NOT_STACKED.values(), ids=NOT_STACKED)
def test_what_is_not_known_to_keep_rows_apart_is_not_stacked(make, monkeypatch):
    assert not predicted(make(), monkeypatch)[1]


def test_nor_are_draws_of_whole_networks(monkeypatch):
    assert not predicted(STACKED["MLP"](), monkeypatch, coupling="coherent")[1]


def test_twin_a_layer_that_mixes_rows_would_mix_draws(monkeypatch):
    network = NOT_STACKED["a layer of one's own"]()
    parameters, _ = predicted(network, monkeypatch)
    mixed, _ = predicted(network, monkeypatch, force=True)
    assert np.abs(mixed - parameters).max() > 0.1
