"""Noise that is drawn where the graph does not show it, and operations that stacking would get wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn

K, L = keras.layers, tfbnn.layers
WIDE = tfbnn.posteriors.MeanField(initial_rho=0.0)
NARROW = tfbnn.posteriors.MeanField(initial_rho=-15.0)


class NoisyCell(K.Layer):
    """A recurrent cell of one layer with a posterior."""

    state_size = 4

    def __init__(self):
        super().__init__()
        self.dense = L.DenseReparameterization(4, "tanh", kernel_posterior_fn=WIDE, seed=1)

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1] + 4))
        self.built = True

    def call(self, inputs, states):
        state = self.dense(keras.ops.concatenate([inputs, states[0]], axis=-1))
        return state, [state]


class OfEachStep(K.Layer):
    """A layer with a posterior, in a loop of the layer's own."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        steps = tf.map_fn(self.inner, tf.transpose(inputs, [1, 0, 2]))
        return tf.reshape(tf.transpose(steps, [1, 0, 2]), [-1, 5 * 3])


class Padded(K.Layer):
    def call(self, inputs):
        return tf.pad(inputs, [[0, 0], [0, 1]], constant_values=7.0)


def last(name):
    return L.DenseReparameterization(1, kernel_posterior_fn=NARROW, bias_posterior_fn=NARROW, seed=2, name=name)


def recurrent():
    return keras.Sequential([keras.Input((5, 3)), K.RNN(NoisyCell()), last("output")])


def in_a_loop():
    return keras.Sequential([keras.Input((5, 3)), OfEachStep(L.MCDropout(0.5, seed=1)), last("output")])


def dense_in_a_loop():
    inner = L.DenseReparameterization(3, kernel_posterior_fn=WIDE, seed=1)
    return keras.Sequential([keras.Input((5, 3)), OfEachStep(inner), last("output")])


def padded():
    mask = L.MCDropout(0.5, seed=1)
    return keras.Sequential([keras.Input((5, 3)), K.Flatten(), mask, Padded(), last("output")])


@pytest.mark.parametrize("make", [recurrent, in_a_loop, dense_in_a_loop, padded])
def test_spread_and_mean_are_those_of_single_calls(make):
    """Of 400 draws and 400 calls of the network: within 5 standard errors; none without spread."""
    model = tfbnn.BayesianModel(make(), tfbnn.likelihoods.Normal(scale=1.0), num_data=1, seed=1)
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
    call = tf.function(lambda: model(x)[:, 0], autograph=False)
    calls = np.stack([call() for _ in range(400)])
    found = model.predict_distribution(x, 400, coupling="coherent").parameters[..., 0]
    error = np.sqrt((calls.var(axis=0) + found.var(axis=0)) / 400)
    assert (np.abs(calls.mean(axis=0) - found.mean(axis=0)) < 5 * error + 1e-5).all()
    assert (calls.std(axis=0) > 0.05).all()
    assert np.abs(np.log(found.std(axis=0) / calls.std(axis=0))).max() < 5 / np.sqrt(400)  # of log stddev: sqrt(1 / n)
