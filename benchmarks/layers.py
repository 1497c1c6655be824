"""What posteriors on convolutions and recurrent layers cost: LeNet-5's training step and draws, an LSTM's draws.

Equal work. Training: the same images, batch size, optimizer and number of steps in the same loop (`tfbnn.train`); the
plain net has points for posteriors. Prediction: S draws for B rows against one compiled deterministic pass of the plain
net over B x S rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from benchmarks import limit, timing

ESTIMATORS = ("Flipout", "LocalReparameterization", "Reparameterization")
ROWS, BATCH = 1280, 128
PLAIN, FLAT = "plain net", "one pass over B x S rows"
TARGETS = {"LeNet-5, a step of Flipout": 2.6, "LeNet-5, 50 draws": 1.3, "LSTM(128), 20 draws": 1.2}


def main(arguments: list[str]) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks layers", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=timing.positive, default=7)
    timing.add_device(parser)
    given = parser.parse_args(arguments)
    with tf.device(timing.device(given.device)):
        report(given)


def report(given: argparse.Namespace) -> None:
    """Measures and prints."""
    print(f"{timing.machine(given.device)}; commit {timing.commit()}\n", flush=True)
    tables = {
        f"LeNet-5, 28 x 28, a step, batch {BATCH} ({ROWS // BATCH} steps a round)": (training_steps(), PLAIN),
        "LeNet-5, S = 50, B = 64": (
            {**predictions(lenet("Flipout"), lenet(None), images(64), 50),
             f"{limit.NAME}, B x S rows": limit.products(limit.LENET, 64 * 50)}, FLAT),
        "LSTM(128), 50 steps of 16 inputs, S = 20, B = 32": (
            predictions(recurrent(True), recurrent(False), sequences(32), 20), FLAT),
    }  # fmt: skip
    for title, (functions, reference) in tables.items():
        print(f"**{title}**\n\n{timing.table(timing.in_turn(functions, given.rounds), reference)}\n", flush=True)
    print("Targets: " + ", ".join(f"{what} <= {most:g} x" for what, most in TARGETS.items()))


def images(rows: int) -> np.ndarray:
    """Noise of the shape of MNIST's images."""
    return np.random.default_rng(0).random((rows, 28, 28, 1), np.float32)


def sequences(rows: int) -> np.ndarray:
    """Noise, [rows, 50, 16]."""
    return np.random.default_rng(0).standard_normal((rows, 50, 16), np.float32)


def lenet(estimator: str | None) -> keras.Model:
    """LeNet-5; None: of plain Keras layers."""
    if estimator is None:
        return lenet_of(keras.layers.Conv2D, keras.layers.Dense)
    return lenet_of(getattr(tfbnn.layers, f"Conv2D{estimator}"), getattr(tfbnn.layers, f"Dense{estimator}"))


def lenet_of(conv: Callable, dense: Callable, before: Sequence[keras.layers.Layer] = ()) -> keras.Model:
    """LeNet-5 of these layers, behind others."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *before,
            conv(6, 5, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            conv(16, 5, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            dense(120, activation="relu"),
            dense(84, activation="relu"),
            dense(10),
        ]
    )


def recurrent(is_bayesian: bool) -> keras.Model:
    """An LSTM and a dense layer."""
    lstm, dense = keras.layers.LSTM(128), keras.layers.Dense(1)
    layers = [tfbnn.layers.Variational(lstm), tfbnn.layers.Variational(dense)] if is_bayesian else [lstm, dense]
    return keras.Sequential([keras.Input((50, 16)), *layers])


def training_steps() -> dict:
    """An epoch of each contestant."""
    x, y = images(ROWS), np.arange(ROWS) % 10

    def epoch(network: keras.Model):
        model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(10), seed=1)
        model.compile(keras.optimizers.Adam(1e-3))
        return lambda: tfbnn.train(model, x, y, epochs=1, batch_size=BATCH, verbose=0)

    step = limit.products(limit.LENET, BATCH, training=True)
    bare = {f"{limit.NAME} of the plain net": lambda: [step() for _ in range(ROWS // BATCH)]}
    return {PLAIN: epoch(lenet(None)), **bare, **{name: epoch(lenet(name)) for name in ESTIMATORS}}


def predictions(network: keras.Model, plain: keras.Model, x: np.ndarray, samples: int) -> dict:
    """S draws in one graph, and one compiled pass over as many rows."""
    rank = int(network.outputs[0].shape[-1])
    likelihood = tfbnn.likelihoods.Categorical(rank) if rank > 1 else tfbnn.likelihoods.Normal()
    draws = tfbnn.BayesianModel(network, likelihood, num_data=1, seed=1).posterior_draws()
    rows, many = tf.constant(x), tf.constant(np.repeat(x, samples, axis=0))
    apply = tf.function(lambda seed: draws.apply(rows, seed, 0, samples), autograph=False)
    flat = tf.function(lambda x: plain(x, training=False), autograph=False)
    return {FLAT: lambda: flat(many).numpy(), f"{samples} draws": lambda: apply(tf.constant(1)).numpy()}
