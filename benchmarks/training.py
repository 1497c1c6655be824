"""The loop against Keras' `fit`, and 20 models at once against one: a step of 8-50-1, batch 32, 1,000 rows.

Equal work: the same rows, batch size, optimizer (Adam) and number of epochs; the plain net of `fit` has point weights
and the mean squared error, which is less work than the Bayesian net's. Each contestant is traced and compiled before
the clock starts; a round is `--epochs` epochs of an existing training, so that what a call costs once is not in it, and
is told apart ("the first epoch"). Before anything is timed, `tfbnn.train` and `fit` must reach the same ELBO (that each
step is equal for equal noise is a test).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from benchmarks import limit, timing
from tfbnn.training import many
from tfbnn.training.stack import Stack
from tfbnn.training.steps import Steps

ROWS, INPUTS, HIDDEN, BATCH = 1000, 8, 50, 32
STEPS = -(-ROWS // BATCH)
TARGET_FIT, TARGET_MANY = 6.0, 4.0


def main(arguments: list[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks training", description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=20, help="of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", type=int, default=20)
    timing.add_device(parser)
    given = parser.parse_args(arguments)
    with tf.device(timing.device(given.device)):
        report(given)


def report(given: argparse.Namespace) -> None:
    """Measures and prints."""
    x, y = rows()
    check_agreement(x, y)
    seconds = timing.in_turn(contestants(x, y, given.epochs, given.models), given.rounds)
    step = {name: [1e3 * s / (given.epochs * STEPS) for s in times] for name, times in seconds.items()}
    print(f"{INPUTS}-{HIDDEN}-1, batch {BATCH}, {ROWS} rows, {given.epochs} epochs a round")
    print(f"{timing.machine(given.device)}\n")
    print("| what | median ms a step | min - max |\n|---|---|---|")
    for name, times in step.items():
        print(f"| {name} | {statistics.median(times):.3f} | {min(times):.3f} - {max(times):.3f} |")
    print()
    fit, one, many = "Keras fit, plain net", "tfbnn.train", f"tfbnn.train_many, {given.models} models"
    print(f"fit / train: {ratio(step, fit, one):.1f} (target >= {TARGET_FIT:g})")
    print(f"{given.models} models / one: {ratio(step, many, one):.1f} (target <= {TARGET_MANY:g})")
    apart = [f"{name} {ratio(step, many, name):.1f}" for name in step if name.endswith("without XLA")]
    print(f"{given.models} models / one by other loops: {', '.join([*apart, f'{fit} {ratio(step, many, fit):.2f}'])}")


def ratio(seconds: dict[str, list[float]], above: str, below: str) -> float:
    """Median over the rounds."""
    return statistics.median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))


def rows() -> tuple[np.ndarray, np.ndarray]:
    """A smooth function of 8 inputs, with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, INPUTS)).astype(np.float32)
    y = np.sin(x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3] + 0.1 * rng.normal(size=(ROWS, 1))
    return x, y.astype(np.float32)


def contestants(x: np.ndarray, y: np.ndarray, epochs: int, count: int) -> dict:
    """What is timed, by name."""
    plain = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(HIDDEN, "relu"), keras.layers.Dense(1)])
    plain.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    fitted = bayesian(0, y)
    return {
        "Keras fit, plain net": lambda: plain.fit(x, y, BATCH, epochs, verbose=0),
        f"{limit.NAME} of a plain net's steps": bare_steps(epochs * STEPS),
        "tfbnn, fit": lambda: fitted.fit(x, y, BATCH, epochs, verbose=0),
        "tfbnn.train": training([bayesian(0, y)], x, y, epochs, None),
        "tfbnn.train, without XLA": training([bayesian(0, y)], x, y, epochs, False),
        f"tfbnn.train_many, {count} models": training([bayesian(m, y) for m in range(count)], x, y, epochs, None),
    }


def bare_steps(count: int):
    """A function that does the matrix products of so many steps."""
    step = limit.products(limit.dense(INPUTS, HIDDEN, 1), BATCH, training=True)
    return lambda: [step() for _ in range(count)]


def training(models: list, x: np.ndarray, y: np.ndarray, epochs: int, jit_compile: bool | None):
    """A function that goes on with the training of `models` for some epochs; tells what their first epoch took.

    As `train_many` does it with trainings of this length: a large stack is halved for each core.
    """
    data = {"x": keras.ops.convert_to_tensor(x), "y": keras.ops.convert_to_tensor(y)}
    groups = many.halved([list(range(len(models)))], many.cores())
    for model in models:
        model.num_data = ROWS
    stacks = [Steps(Stack([models[m] for m in group]), jit_compile) for group in groups]
    begin = time.perf_counter()
    for steps in stacks:
        steps.epoch(data, ROWS, BATCH, True).numpy()
    seconds = time.perf_counter() - begin
    print(f"the first epoch of {len(models)} in {len(stacks)} stack(s), jit_compile={jit_compile}: {seconds:.1f} s")

    def go_on_with(steps: Steps) -> None:
        for _ in range(epochs):
            steps.epoch(data, ROWS, BATCH, True).numpy()  # read each epoch, as callbacks do

    pool = concurrent.futures.ThreadPoolExecutor(len(stacks))
    return lambda: list(pool.map(go_on_with, stacks))


def bayesian(seed: int, y: np.ndarray) -> tfbnn.BayesianModel:
    """The net, compiled."""
    make = tfbnn.layers.DenseLocalReparameterization
    network = keras.Sequential([keras.Input((INPUTS,)), make(HIDDEN, "relu", seed=seed), make(1, seed=seed + 1)])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal().adapt(y), seed=seed)
    model.compile(keras.optimizers.Adam(0.01))
    return model


def check_agreement(x: np.ndarray, y: np.ndarray, epochs: int = 80, seeds: int = 3, tolerance: float = 0.1) -> None:
    """The ELBO a row that both loops reach: mean of the last 20 epochs of some seeds, within `tolerance` nats."""
    reached = {}
    for name, train in {"fit": tfbnn.BayesianModel.fit, "tfbnn.train": tfbnn.train}.items():
        runs = [train(bayesian(seed, y), x, y, batch_size=BATCH, epochs=epochs, verbose=0) for seed in range(seeds)]
        reached[name] = float(np.mean([run.history["elbo"][-20:] for run in runs])) / ROWS
    print("ELBO reached, nats a row: " + ", ".join(f"{name} {elbo:.3f}" for name, elbo in reached.items()))
    if abs(reached["fit"] - reached["tfbnn.train"]) > tolerance:
        raise AssertionError(f"the loops reach different optima: {reached}")
