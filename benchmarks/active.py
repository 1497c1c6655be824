"""MNIST with few labels: test accuracy against the number of labels, acquisition function by acquisition function.

The network is small (two convolutions, 16 and 32 filters of 5 x 5, each followed by a maximum over 2 x 2; dropout 0.25,
128 units, dropout 0.5, 10 classes), so that a round takes seconds; its posterior is that of Monte Carlo dropout. It
starts with 2 labels a class, asks for `--count` more a round, and is trained anew from the same initial weights on all
of them. To save time each round looks at `--candidates` rows of the pool, chosen at random, of all that are left (the
papers look at all). No validation rows are used: nothing is tuned while it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

import tfbnn
from benchmarks import timing
from benchmarks.mnist import read_images
from tfbnn.core.checks import InvalidInput
from tfbnn.plots import plot_learning_curves, write

BATCH, EPOCH_BATCHES = 64, 25  # all trainings have arrays of one size, so that one graph is traced for all rounds
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-3
TARGETS = (0.95, 0.98)
TEST_DRAWS = 20


def main(arguments: list[str]) -> None:
    """Prints the table, writes it and the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks active", description=__doc__.split("\n")[0])
    known = [name for name in tfbnn.active.ACQUISITIONS if name != "variance"]
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mnist/")
    parser.add_argument("--by", nargs="+", choices=known, default=known)
    parser.add_argument("--count", type=timing.positive, default=10, help="labels a round")
    parser.add_argument("--rounds", type=timing.positive, default=98)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a run each; the start and the net differ")
    parser.add_argument("--candidates", type=timing.positive, default=5000, help="rows of the pool looked at a round")
    parser.add_argument("--samples", type=timing.positive, default=50, help="draws by which they are looked at")
    parser.add_argument("--epochs", type=timing.positive, default=32, help=f"of {EPOCH_BATCHES} batches of {BATCH}")
    parser.add_argument("--warm", action="store_true", help="go on from the weights of the round before")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    try:
        train, test = (read_images(given.data / "mnist", part) for part in ("train", "test"))
    except InvalidInput as error:
        sys.exit(f"Error: {error}")
    given.out.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(given).items() if name not in ("data", "out")}
    runs: list[dict[str, Any]] = []
    for seed in given.seeds:
        for by in given.by:
            runs.append(one_run(train, test, by, seed, given))
            about = {"machine": timing.machine(), "commit": timing.commit(), "settings": settings}
            (given.out / "active.json").write_text(json.dumps({**about, "runs": runs}, indent=1))
            (given.out / "active.md").write_text(table(runs) + "\n", encoding="utf-8")
            draw(given.out / "active.png", runs)
    print(f"\n{timing.machine()}\n\n{table(runs)}")


# --- one run ----------------------------------------------------------------------------------------------------------


def one_run(train: tuple, test: tuple, by: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """The history of one acquisition function, with its time."""
    x, y = train
    start = balanced(y, 2, seed)
    rest = np.setdiff1d(np.arange(len(y)), start)
    begin = time.perf_counter()

    def score(draws: tfbnn.Draws) -> dict[str, float]:
        # By draws of the whole network: one mask for all rows, so that what has none before it is computed once.
        probabilities = draws.predict_distribution(test[0], TEST_DRAWS).probabilities
        return {"accuracy": float((probabilities.argmax(axis=1) == test[1]).mean())}

    def told(row: dict[str, float]) -> None:
        seconds = time.perf_counter() - begin
        print(f"{by:10} seed {seed}  {row['labels']:5.0f} labels  {row['accuracy']:.2%}  {seconds:6.0f} s", flush=True)

    found = tfbnn.active.simulate(
        trainer(seed, given.epochs, given.warm), x[rest], y[rest], score, given.count, given.rounds, by,
        labelled=(x[start], y[start]), num_samples=given.samples, candidates=given.candidates, seed=seed, told=told,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    return {"by": by, "seed": seed, "seconds": seconds, "history": found.history.to_dict("list")}


def balanced(y: np.ndarray, each: int, seed: int) -> np.ndarray:
    """Positions of `each` rows of every class."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(np.flatnonzero(y == k), each, replace=False) for k in np.unique(y)])


def trainer(seed: int, epochs: int, warm: bool) -> Callable[[np.ndarray, np.ndarray], tfbnn.Draws]:
    """What trains on labelled rows: one model, whose graph is traced once, set back before each training."""
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    method = tfbnn.inference.MonteCarloDropout(network(seed), tfbnn.likelihoods.Categorical(10), optimizer, seed=seed)
    model = method.model
    model.optimizer.build(model.trainable_variables)
    variables = [*model.network.trainable_variables, *model.optimizer.variables]
    initial = [variable.numpy() for variable in variables]
    draws = model.posterior_draws()  # of the weights as they are when it is asked
    shown = np.random.default_rng(seed)

    def fit(x: np.ndarray, y: np.ndarray) -> tfbnn.Draws:
        if not warm:
            for variable, value in zip(variables, initial, strict=True):
                variable.assign(value)
        rows = np.concatenate([shown.permutation(len(y)) for _ in range(-(-EPOCH_BATCHES * BATCH // len(y)))])
        rows = rows[: EPOCH_BATCHES * BATCH]
        method.fit(x[rows], y[rows], epochs=epochs, batch_size=BATCH, verbose=0)
        return draws

    return fit


def network(seed: int) -> keras.Model:
    """[B, 28, 28, 1] -> [B, 10]."""

    def glorot(layer: int) -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(100 * seed + layer)

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(16, 5, activation="relu", kernel_initializer=glorot(0)),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(32, 5, activation="relu", kernel_initializer=glorot(1)),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            tfbnn.layers.MCDropout(0.25),
            keras.layers.Dense(128, activation="relu", kernel_initializer=glorot(2)),
            tfbnn.layers.MCDropout(0.5),
            keras.layers.Dense(10, kernel_initializer=glorot(3)),
        ]
    )


# --- report -----------------------------------------------------------------------------------------------------------


def labels_for(history: dict[str, list[float]], target: float) -> float:
    """The fewest labels with which the accuracy was reached; infinite where it was not."""
    enough = [n for n, accuracy in zip(history["labels"], history["accuracy"], strict=True) if accuracy >= target]
    return min(enough, default=np.inf)


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: labels for each target, the mean over the runs, and how the last accuracy and the time were."""
    heading = " | ".join(f"labels for {target:.0%}" for target in TARGETS)
    lines = [f"| acquisition | {heading} | with all labels asked for | minutes a run | runs |", "|---" * 6 + "|"]
    for by in dict.fromkeys(run["by"] for run in runs):
        own = [run for run in runs if run["by"] == by]
        needed = [np.mean([labels_for(run["history"], target) for run in own]) for target in TARGETS]
        cells = [f"{number:.0f}" if np.isfinite(number) else "not reached" for number in needed]
        last = np.mean([run["history"]["accuracy"][-1] for run in own])
        most, minutes = own[0]["history"]["labels"][-1], np.mean([run["seconds"] for run in own]) / 60
        lines.append(f"| {by} | {' | '.join(cells)} | {last:.2%} ({most}) | {minutes:.1f} | {len(own)} |")
    return "\n".join(lines)


def draw(path: Path, runs: list[dict[str, Any]]) -> None:
    """The learning curves."""
    names = dict.fromkeys(run["by"] for run in runs)
    histories = {by: [pd.DataFrame(run["history"]) for run in runs if run["by"] == by] for by in names}
    write(plot_learning_curves(histories, "accuracy", TARGETS, "test accuracy on MNIST", lowest=0.6), path)
