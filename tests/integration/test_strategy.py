"""Two devices: even batches give one device's step, and the KL enters once.

In a process of their own, because the devices must be made before TensorFlow starts.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

COMMON = """
import json
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
import tfbnn
from tfbnn.core.noise import Tape, noise_scope
from tfbnn.core.traversal import sublayers

answers = {}
rng = np.random.default_rng(0)
x = rng.normal(size=(32, 3)).astype("float32")
y = (x.sum(1) + rng.normal(size=32)).astype("float32")[:, None]
eps = {name: rng.normal(size=shape).astype("float32") for name, shape in
       {"0kernel": (3, 4), "0bias": (4,), "1kernel": (4, 1), "1bias": (1,)}.items()}

def make(layer=tfbnn.layers.DenseReparameterization, **kwargs):
    keras.utils.set_random_seed(1)
    layers = [layer(4, activation="tanh", **kwargs), layer(1, **kwargs)]
    network = keras.Sequential([keras.Input((3,)), *layers])
    model = tfbnn.BayesianModel(network, "Normal", num_data=1000, seed=1)
    model.compile(keras.optimizers.SGD(1.0))
    return model

def values(model):
    return [v.numpy() for v in model.trainable_variables]

def change(model, run):
    before = values(model)
    run(model)
    return [a - b for a, b in zip(values(model), before)]

def largest(a, b):
    return float(max(np.abs(i - j).max() for i, j in zip(a, b, strict=True)))

def tape(model):
    layers = sublayers(model)
    number = {id(layer): i for i, layer in enumerate(model.variational_layers)}
    noise = {(i, term.q.name): tf.constant(eps[f"{number[id(layer)]}{term.q.name}"]) for i, layer in enumerate(layers)
             for term in getattr(layer, "weight_terms", ())}
    return Tape(noise, layers)

def one_step(model, x, y):
    with noise_scope(tape(model)):
        return model.train_step((x, y))
"""

INJECTED = """
one = make()
expected = change(one, lambda m: tf.function(one_step)(m, tf.constant(x), tf.constant(y)))
with strategy.scope():
    two = make()
halves = [strategy.experimental_distribute_values_from_function(
    lambda context, a=a: tf.constant(np.split(a, 2)[context.replica_id_in_sync_group])) for a in (x, y)]

@tf.function
def distributed(a, b):
    return strategy.run(one_step, (two, a, b))

found = change(two, lambda m: distributed(*halves))
doubled = make()
doubled.beta = tfbnn.objectives.Constant(2.0)
twice = change(doubled, lambda m: tf.function(one_step)(m, tf.constant(x), tf.constant(y)))
answers["injected"] = {"largest": largest(found, expected), "moved": largest(expected, [0 * v for v in expected]),
                       "if the KL entered twice": largest(found, twice)}
"""

FIT = """
point = dict(kernel_posterior_fn="Deterministic", bias_posterior_fn="Deterministic")
def fit(model):
    fit.history = model.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0, validation_data=(x, y)).history
one = make(**point)
one.optimizer.learning_rate = 0.1
expected = change(one, fit)
losses = fit.history
with strategy.scope():
    two = make(**point)
    two.optimizer.learning_rate = 0.1
found = change(two, fit)
answers["fit"] = {"largest": largest(found, expected), "moved": largest(expected, [0 * v for v in expected]),
                  "loss": float(np.abs(np.array(fit.history["loss"]) - losses["loss"]).max()),
                  "validation": float(np.abs(np.array(fit.history["val_log_likelihood"])
                                             - losses["val_log_likelihood"]).max())}
"""

WEIGHTS = """
weights = np.concatenate([np.ones(20), np.full(12, 9.0)]).astype("float32")
def fit_weighted(model):
    model.fit(x, y, sample_weight=weights, batch_size=32, shuffle=False, verbose=0)
one = make(**point)
one.optimizer.learning_rate = 0.1
expected = change(one, fit_weighted)
with strategy.scope():
    two = make(**point)
    two.optimizer.learning_rate = 0.1
answers["weighted"] = {"largest": largest(change(two, fit_weighted), expected),
                       "if the weights were left out": largest(change(make(**point), lambda m: m.fit(
                           x, y, batch_size=32, shuffle=False, verbose=0)), expected)}
"""

NOISE = """
with strategy.scope():
    model = make(tfbnn.layers.DenseFlipout)

@tf.function
def draws():
    return strategy.run(lambda: model(tf.constant(x), training=True))

first, second = (v.numpy() for v in strategy.experimental_local_results(draws()))
model.optimizer.learning_rate = 1e-3
history = model.fit(x, y, batch_size=32, epochs=20, verbose=0).history
answers["noise"] = {"difference": float(np.abs(first - second).max()), "history": history["loss"],
                    "kl": history["kl"][-1], "expected kl": float(model.kl_divergence()), "num_data": model.num_data}
try:
    tfbnn.train(model, x, y)
except ValueError as error:
    answers["loop"] = str(error)
"""


@pytest.fixture(scope="module")
def seen() -> dict:
    script = COMMON + INJECTED + FIT + WEIGHTS + NOISE + "print(json.dumps(answers))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout.strip().splitlines()[-1])


def test_injected_noise_gives_the_step_of_one_device(seen):
    step = seen["injected"]
    assert step["largest"] < 1e-6
    assert step["moved"] > 1e-2
    assert step["if the KL entered twice"] > 1e-4


def test_fit_gives_the_steps_of_one_device(seen):
    steps = seen["fit"]
    assert steps["largest"] < 1e-6
    assert steps["moved"] > 1e-2
    assert steps["loss"] < 1e-5
    assert steps["validation"] < 1e-5


def test_weights_are_normalised_over_all_replicas(seen):
    assert seen["weighted"]["largest"] < 1e-6
    assert seen["weighted"]["if the weights were left out"] > 1e-2


def test_replicas_draw_their_own_noise_and_report_the_whole(seen):
    trained = seen["noise"]
    assert trained["difference"] > 1e-3
    assert trained["kl"] == pytest.approx(trained["expected kl"], rel=0.05)
    assert trained["num_data"] == 1000
    assert trained["history"][-1] < trained["history"][0]


def test_the_loop_trains_on_one_device_and_says_so(seen):
    assert "Use model.fit with strategies" in seen["loop"]
