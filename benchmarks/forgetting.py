"""Three tasks one after another: what a net still knows of the first, with and without yesterday's posterior as prior.

scikit-learn's digits (8 x 8), a task is a permutation of the pixels; 64-100-10, mean-field, all tasks share one output.
Each task is trained on its own rows alone. "Own prior": the net goes on from yesterday's posterior, its prior is again
Normal(0, 0.3). "Yesterday's posterior": the same beginning, but the posterior is the prior too. "All tasks at once" is
trained on the rows of all, which continual learning cannot have.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

import tfbnn
from benchmarks import timing
from tfbnn.training import posterior_as_prior

TASKS, TEST_ROWS, BATCH = 3, 500, 64
WAYS = ("own prior", "yesterday's posterior", "all tasks at once")


def main(arguments: list[str]) -> None:
    """Prints the table and writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks forgetting", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=timing.positive, default=5)
    parser.add_argument("--epochs", type=timing.positive, default=150, help="of each task")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for seed in range(given.seeds):
        tasks = permuted_digits(seed)
        for way in WAYS:
            found[way].append(accuracies(way, tasks, given.epochs, seed))
            print(f"seed {seed}, {way}: " + ", ".join(f"{100 * each:.1f} %" for each in found[way][-1]), flush=True)
    text = report(found)
    given.out.mkdir(parents=True, exist_ok=True)
    about = {"machine": timing.machine(), "commit": timing.commit(), "epochs": given.epochs, "accuracies": found}
    (given.out / "forgetting.json").write_text(json.dumps(about, indent=1))
    (given.out / "forgetting.md").write_text(text)
    print(f"\n{text}")


def permuted_digits(seed: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """A task each: x, y of training rows, x, y of test rows; the first task's pixels are as they are."""
    rng = np.random.default_rng(seed)
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    x, y = ((x - 8) / 8).astype(np.float32)[order], y.astype(np.int32)[order]
    pixels = [np.arange(x.shape[1]), *(rng.permutation(x.shape[1]) for _ in range(TASKS - 1))]
    n = TEST_ROWS
    return [(x[n:, places], y[n:], x[:n, places], y[:n]) for places in pixels]


def accuracies(way: str, tasks: list, epochs: int, seed: int) -> list[float]:
    """Of each task, after the last."""
    model = None
    if way == WAYS[2]:
        together = [np.concatenate(parts) for parts in zip(*((x, y) for x, y, _, _ in tasks), strict=True)]
        model = fitted(network(seed), *together, epochs, seed)
    else:
        for x, y, _, _ in tasks:
            model = fitted(next_network(model, way, seed), x, y, epochs, seed)
    predicted = [model.predict_distribution(x, 50).probabilities.argmax(axis=1) for _, _, x, _ in tasks]
    return [float(np.mean(classes == y)) for classes, (_, _, _, y) in zip(predicted, tasks, strict=True)]


def next_network(model: tfbnn.BayesianModel | None, way: str, seed: int) -> keras.Model:
    """The net that the next task is trained on: at yesterday's posterior, under the prior of the way."""
    net = network(seed)
    if model is None:
        return net
    if way == WAYS[1]:
        return posterior_as_prior(net, model)
    net.set_weights(model.network.get_weights())
    return net


def network(seed: int) -> keras.Model:
    """64-100-10."""
    prior = tfbnn.priors.Normal(scale=0.3)

    def layer(units: int, activation: str | None, number: int) -> keras.layers.Layer:
        return tfbnn.layers.DenseLocalReparameterization(
            units, activation, kernel_prior_fn=prior, bias_prior_fn=prior, seed=10 * seed + number
        )

    return keras.Sequential([keras.Input((64,)), layer(100, "relu", 1), layer(10, None, 2)])


def fitted(net: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> tfbnn.BayesianModel:
    """The net after its task."""
    model = tfbnn.BayesianModel(net, tfbnn.likelihoods.Categorical(10), seed=seed)
    model.compile(keras.optimizers.Adam(0.003))
    tfbnn.train(model, x, y, epochs=epochs, batch_size=BATCH, verbose=0)
    return model


def report(found: dict[str, list[list[float]]]) -> str:
    """Markdown: mean and standard error over the seeds."""
    names = [f"task {number + 1}" for number in range(TASKS)]
    lines = [f"| prior of the next task | {' | '.join(names)} | mean |", "|---|" + "---|" * (TASKS + 1)]
    for way, results in found.items():
        rows = 100 * np.array(results)
        columns = np.column_stack([rows, rows.mean(axis=1)])
        errors = columns.std(axis=0) / np.sqrt(len(rows))
        told = [f"{mean:.1f} ± {error:.1f} %" for mean, error in zip(columns.mean(axis=0), errors, strict=True)]
        lines.append(f"| {way} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"
