"""MNIST with LeNet-5: one net with a mean-field posterior, and an ensemble of plain ones, beside published figures.

Epochs, learning rates and the KL's weight were chosen on 5,000 of the training images (`--validate` scores those, and
trains on the others): by the ELBO itself, weight 1, the net of 25 epochs had 1.5 % errors there and 0.054 nats, with
1/4 1.0 % and 0.035. The ensemble sees each image shifted by up to two pixels, another way each epoch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfbnn
from benchmarks import layers, timing
from benchmarks.mnist import Images, read_images

RATE, MEMBERS, SHIFT = 2e-3, 10, 2 / 28
KL_WEIGHT, BATCH = 0.25, {"VI": 256, "ensemble": 128}
HELD_OUT = 5000
PUBLISHED = {"VI": (98.5, 0.048), "ensemble": (99.4, 0.016)}


def main(arguments: list[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks lenet", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mnist/")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--epochs", type=timing.positive, help="60 of VI, 25 of each member unless told")
    parser.add_argument("--members", type=timing.positive, default=MEMBERS)
    parser.add_argument("--beta", type=float, default=KL_WEIGHT, help="weight of the KL")
    parser.add_argument("--validate", action="store_true", help="score 5,000 of the training images, not the test's")
    given = parser.parse_args(arguments)
    train, test = sets(given.data / "mnist", given.validate)
    print(f"{timing.machine()}; commit {timing.commit()}\n", flush=True)
    scored = "of 5,000 training images held out" if given.validate else "of the 10,000 test images"
    print(f"| method | accuracy {scored} | nats a row | published | minutes |\n|---|---|---|---|---|", flush=True)
    for name in given.methods:
        began = time.perf_counter()
        accuracy, nll = scores(METHODS[name](train, given), test)
        minutes = (time.perf_counter() - began) / 60
        published = "{:.1f} %, {:.3f}".format(*PUBLISHED[name])
        print(f"| {name} | {100 * accuracy:.2f} % | {nll:.4f} | {published} | {minutes:.0f} |", flush=True)


def sets(folder: Path, validate: bool) -> tuple[Images, Images]:
    """The images to train on, and to score."""
    train = read_images(folder)
    if not validate:
        return train, read_images(folder, "test")
    order = np.random.default_rng(0).permutation(len(train.y))
    kept, held = order[:-HELD_OUT], order[-HELD_OUT:]
    return Images(train.x[kept], train.y[kept]), Images(train.x[held], train.y[held])


def scores(draws: Any, test: Images) -> tuple[float, float]:
    """Accuracy, and mean -log p(y|x) in nats, of 100 draws or all members."""
    prediction = draws.predict_distribution(test.x, seed=1)
    accuracy = np.mean(prediction.probabilities.argmax(axis=1) == test.y)
    return float(accuracy), float(-np.mean(prediction.log_prob(test.y)))


def adam(rows: int, batch: int, epochs: int) -> keras.optimizers.Optimizer:
    """Of a rate that falls to 0."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, epochs * -(-rows // batch)))


def variational(train: Images, given: argparse.Namespace) -> Any:
    """Draws of the mean-field posterior."""
    epochs, batch = given.epochs or 60, BATCH["VI"]
    parts = {
        f"{tensor}_{kind}_fn": make
        for tensor in ("kernel", "bias")
        for kind, make in (
            ("posterior", tfbnn.posteriors.MeanField(initial_rho=-5.0)),
            ("prior", tfbnn.priors.EmpiricalBayesNormal(initial_scale=0.1)),
        )
    }
    network = layers.lenet_of(
        lambda *args, **kwargs: tfbnn.layers.Conv2DFlipout(*args, **kwargs, **parts),
        lambda *args, **kwargs: tfbnn.layers.DenseLocalReparameterization(*args, **kwargs, **parts),
    )
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(10), beta=given.beta, seed=1)
    model.compile(adam(len(train.y), batch, epochs))
    tfbnn.train(model, train.x, train.y, epochs=epochs, batch_size=batch, verbose=0)
    return model.posterior_draws()


def ensemble(train: Images, given: argparse.Namespace) -> Any:
    """Draws that are the members."""
    epochs, batch = given.epochs or 25, BATCH["ensemble"]
    shifted = keras.layers.RandomTranslation(SHIFT, SHIFT, fill_mode="constant", seed=1)
    network = layers.lenet_of(keras.layers.Conv2D, keras.layers.Dense, before=[shifted])
    likelihood, optimizer = tfbnn.likelihoods.Categorical(10), adam(len(train.y), batch, epochs)
    method = tfbnn.inference.DeepEnsemble(network, likelihood, optimizer, members=given.members, seed=0)
    return method.fit(train.x, train.y, epochs=epochs, batch_size=batch, verbose=0)


METHODS = {"VI": variational, "ensemble": ensemble}
