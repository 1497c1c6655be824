"""MNIST: is what a net tells with probability p right in a share p of the images? Before and after one temperature.

784-200-200-10, relu, trained on 55,000 images; the temperature is fitted on 5,000 others, and both are judged on the
10,000 test images. "Plain net": one net of points. "Deep ensemble": several, from several beginnings. "Mean-field":
posteriors of all weights, local reparameterization. The calibration error is debiased: with the few test images that
are unsure, what noise adds to the plain one is as large as what is measured.
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

import tfbnn
from benchmarks import timing
from benchmarks.mnist import Images, read_images
from tfbnn.calibration import TemperatureScaling
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import Estimate, expected_calibration_error, with_interval

BATCH, RATE, SAMPLES, KEPT = 128, 2e-3, 50, 5000
TARGET = 0.005


def main(arguments: list[str]) -> None:
    """Prints the table and writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks calibration", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mnist/")
    parser.add_argument("--epochs", type=timing.positive, default=5)
    parser.add_argument("--members", type=timing.positive, default=5, help="nets of the ensemble")
    parser.add_argument("--rows", type=timing.positive, default=60_000, help="only the first so many training images")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    try:
        images, test = (read_images(given.data / "mnist", part) for part in ("train", "test"))
    except InvalidInput as error:
        sys.exit(f"Error: {error}")
    kept = min(KEPT, given.rows // 2)
    train = flat(Images(images.x[kept : given.rows], images.y[kept : given.rows]))
    calibration, test = flat(Images(images.x[:kept], images.y[:kept])), flat(test)
    lines = [f"{timing.machine()}; commit {timing.commit()}; {given.epochs} epochs", "", *HEADING]
    print("\n".join(lines), flush=True)
    results = {}
    for name, method in METHODS.items():
        begin = time.perf_counter()
        draws = method(given.epochs, given.members, len(train.y)).fit(
            train.x, train.y, epochs=given.epochs, batch_size=BATCH, verbose=0
        )
        seconds = time.perf_counter() - begin
        told = [draws.predict_distribution(part.x, draws.at_most(SAMPLES)) for part in (calibration, test)]
        mended = TemperatureScaling().fit(told[0], calibration.y)(told[1])
        results[name] = {"as trained": errors(told[1], test.y), "temperature": errors(mended, test.y)}
        accuracy = float(np.mean(told[1].probabilities.argmax(axis=1) == test.y))
        lines.append(line(name, accuracy, results[name], seconds))
        print(lines[-1], flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "calibration.md").write_text("\n".join(lines) + "\n")
    (given.out / "calibration.json").write_text(json.dumps(results, indent=1, default=vars))
    print(f"\nWritten: {given.out}/calibration.md, .json")


def flat(images: Images) -> Images:
    """Images as rows [N, 784]."""
    return Images(images.x.reshape(len(images.x), -1), images.y)


# --- methods ----------------------------------------------------------------------------------------------------------


def plain(epochs: int, members: int, num_rows: int) -> Any:
    """A net without any posterior."""
    return tfbnn.inference.VariationalInference(
        network(keras.layers.Dense), categorical(), optimizer(epochs, num_rows), seed=0
    )


def ensemble(epochs: int, members: int, num_rows: int) -> Any:
    return tfbnn.inference.DeepEnsemble(
        network(keras.layers.Dense), categorical(), optimizer(epochs, num_rows), members=members, seed=0
    )


def mean_field(epochs: int, members: int, num_rows: int) -> Any:
    net = network(tfbnn.layers.DenseLocalReparameterization, kernel_prior_fn=tfbnn.priors.Normal(scale=0.1))
    return tfbnn.inference.VariationalInference(net, categorical(), optimizer(epochs, num_rows), seed=0)


METHODS: dict[str, Callable[[int, int, int], Any]] = {
    "plain net": plain,
    "deep ensemble": ensemble,
    "mean-field": mean_field,
}


def network(dense: Any, **options: Any) -> keras.Model:
    layers = [dense(units, activation, **options) for units, activation in ((200, "relu"), (200, "relu"), (10, None))]
    return keras.Sequential([keras.Input((784,)), *layers])


def categorical() -> Any:
    return tfbnn.likelihoods.Categorical(10)


def optimizer(epochs: int, num_rows: int) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, epochs * -(-num_rows // BATCH)))


# --- report -----------------------------------------------------------------------------------------------------------

HEADING = [f"| method | accuracy | debiased ECE as trained | with a temperature (target: <= {TARGET:g}) | train s |",
           "|---|---|---|---|---|"]  # fmt: skip


def errors(prediction: tfbnn.Prediction, y: np.ndarray) -> Estimate:
    """The debiased calibration error with its bootstrap interval."""
    return with_interval(
        lambda p, labels: expected_calibration_error(p, labels, debiased=True), prediction.probabilities, y,
        replicates=200, centred=True,
    )  # fmt: skip


def line(name: str, accuracy: float, found: dict[str, Estimate], seconds: float) -> str:
    """A row of the table."""
    told = [f"{one.value:.4f} ({one.lower:.4f} to {one.upper:.4f})" for one in found.values()]
    return f"| {name} | {accuracy:.2%} | {' | '.join(told)} | {seconds:.0f} |"
