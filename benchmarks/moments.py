"""Moments in closed form against draws of the weights: the error of each against many draws, and what each costs.

Networks of 50 units a layer are trained on diabetes (scikit-learn's), 350 rows, and predict the 92 others; the wide one
has the weights that it begins with. Errors are root mean squares over rows (and classes, of probabilities) and seeds:
of the mean in units of the epistemic standard deviation, and of that standard deviation relative to itself. With
4,096 points of the moments what is left is the error of the approximation (and of the reference).
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

import tfbnn
from benchmarks import timing
from benchmarks.prediction import INPUTS, bayesian_mlp

HIDDEN = ((50,), (50, 50), (50, 50, 50))
SEEDS = range(5)
MANY = 4096
SAMPLING = "draws of the weights"


@dataclasses.dataclass(frozen=True)
class Task:
    """A model and rows that it predicts."""

    model: tfbnn.BayesianModel
    x: np.ndarray


def main(arguments: list[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks moments", description=__doc__)
    parser.add_argument("--samples", type=timing.positive, default=100, help="S, draws or points")
    parser.add_argument("--reference", type=timing.positive, default=100_000, help="draws that count as exact")
    parser.add_argument("--rounds", type=timing.positive, default=15)
    parser.add_argument("--epochs", type=timing.positive, default=150)
    parser.add_argument("--prior-scale", type=float, default=0.3)
    given = parser.parse_args(arguments)
    print(f"S={given.samples}, against {given.reference:,} draws; {timing.machine()}; {given.rounds} rounds in turn\n")
    print("| network | prediction | S | error of the mean | of the epistemic stddev | its ratio | ms |")
    print("|---|---|---|---|---|---|---|")
    for name, make in tasks(given.epochs, given.prior_scale).items():
        for line in compared(name, make(), given.samples, given.reference, given.rounds):
            print(line, flush=True)


def tasks(epochs: int, prior_scale: float) -> Mapping[str, Callable[[], Task]]:
    """What makes the tasks, by name."""
    trained = {
        f"10-{'-'.join(map(str, hidden))}-1, B=92": lambda hidden=hidden: diabetes(hidden, epochs, prior_scale)
        for hidden in HIDDEN
    }
    return {**trained, f"{INPUTS}-400-400-10, B=32": wide}


def diabetes(hidden: tuple[int, ...], epochs: int, prior_scale: float) -> Task:
    """A regression."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x / x.std(axis=0)).astype(np.float32)[order], y.astype(np.float32)[order]
    prior = tfbnn.priors.Normal(scale=prior_scale)
    priors = {"kernel_prior_fn": prior, "bias_prior_fn": prior}
    layers = [tfbnn.layers.DenseFlipout(U, activation="relu", seed=i, **priors) for i, U in enumerate(hidden)]
    network = keras.Sequential([keras.Input((10,)), *layers, tfbnn.layers.DenseFlipout(1, seed=9, **priors)])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal().adapt(y[:350]), seed=0)
    model.compile(keras.optimizers.Adam(0.01))
    tfbnn.train(model, x[:350], y[:350], epochs=epochs, batch_size=50, verbose=0)
    return Task(model, x[350:])


def wide() -> Task:
    """A classification."""
    return Task(bayesian_mlp(), np.random.default_rng(0).normal(size=(32, INPUTS)).astype(np.float32))


def contestants(model: tfbnn.BayesianModel) -> dict[str, Any]:
    """Draws, by name."""
    return {
        SAMPLING: model.posterior_draws(),
        "moments, full": model.posterior_draws(method="moments"),
        "moments, diagonal": model.posterior_draws(method="moments", covariance="diagonal"),
    }


def compared(name: str, task: Task, num_samples: int, reference: int, rounds: int) -> list[str]:
    """Lines of the table."""
    exact = mean_and_stddev(task.model.predict_distribution(task.x, reference, seed=99))
    draws = contestants(task.model)
    seconds = timing.in_turn(
        {key: lambda each=each: each.predict_distribution(task.x, num_samples) for key, each in draws.items()}, rounds
    )
    lines = []
    for key, each in draws.items():
        ms = f"{1e3 * statistics.median(seconds[key]):.1f}"
        for S, cost in ((num_samples, ms), *(() if key == SAMPLING else ((MANY, ""),))):
            predictions = [each.predict_distribution(task.x, S, seed=seed) for seed in SEEDS]
            of_mean, of_stddev, ratio = errors([mean_and_stddev(p) for p in predictions], exact)
            lines.append(f"| {name} | {key} | {S:,} | {of_mean:.4f} | {of_stddev:.2%} | {ratio:.3f} | {cost} |")
    return lines


def mean_and_stddev(prediction: tfbnn.Prediction) -> tuple[np.ndarray, np.ndarray]:
    """Of the draws' own means of y, or probabilities."""
    means = np.asarray(prediction.likelihood.mean(prediction.parameters))
    return means.mean(axis=0), means.std(axis=0)


def errors(found: list[tuple[np.ndarray, np.ndarray]], exact: tuple[np.ndarray, np.ndarray]) -> tuple[float, ...]:
    """Of the mean, in stddevs; of the stddev, relative; and the mean ratio of stddevs."""
    mean, stddev = exact
    ratios = np.stack([s / stddev for _, s in found])
    of_mean = np.stack([(m - mean) / stddev for m, _ in found])
    return float(np.sqrt(np.mean(of_mean**2))), float(np.sqrt(np.mean((ratios - 1) ** 2))), float(np.mean(ratios))
