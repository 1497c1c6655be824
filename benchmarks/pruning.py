"""MNIST: how many weights of a mean-field net can be removed by their signal-to-noise ratio, and at what cost.

784-U-U-10, relu, local reparameterization, the scale-mixture prior of Blundell et al. (2015) on the kernels. Pixels are
divided by 126 and nothing else is done to the images. The table is of the 10,000 test images; the share is reported,
not chosen by them: the targets name it. beta, the weight of the KL, was chosen on the last 10,000 training images by
nets of 15 and 60 epochs: with beta = 1, the ELBO, the net underfits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import tfbnn
from benchmarks import timing
from benchmarks.mnist import read_images
from tfbnn.core.checks import InvalidInput
from tfbnn.plots import plot_pruning, write
from tfbnn.pruning import knee, prune_units, pruning_table, signal_to_noise

BATCH = 256
TARGET_ERROR = {400: 0.0136, 1200: 0.0132}  # published, unpruned, by units
TARGET_SHARE, TARGET_COST = 0.95, 0.001


def main(arguments: list[str]) -> None:
    """Trains, prints the table, writes it with the picture and the model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks pruning", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mnist/")
    parser.add_argument("--units", type=timing.positive, default=400, help="U, of both hidden layers")
    parser.add_argument("--epochs", type=timing.positive, default=300)
    parser.add_argument("--beta", type=float, default=0.25, help="weight of the KL; 1 is the ELBO")
    parser.add_argument("--rows", type=timing.positive, default=60_000, help="only the first so many training images")
    parser.add_argument("--samples", type=timing.positive, default=100, help="draws that are averaged over")
    parser.add_argument("--model", type=Path, help="a model that this benchmark wrote: nothing is trained")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    try:
        train, test = (read(given.data, part) for part in ("train", "test"))
    except InvalidInput as error:
        sys.exit(f"Error: {error}")
    begin = time.perf_counter()
    if given.model:
        model = keras.saving.load_model(given.model)
    else:
        model = trained(train[0][: given.rows], train[1][: given.rows], given.units, given.epochs, given.beta)
    seconds = time.perf_counter() - begin
    given.out.mkdir(parents=True, exist_ok=True)
    model.save(given.out / "pruning.keras")
    table = pruning_table(model, *test, num_samples=given.samples)
    chosen = knee(table, TARGET_COST)
    ratios = signal_to_noise(model)
    write(plot_pruning(table, ratios, chosen, "test error, share of images"), given.out / "pruning.png")
    text = report(table, given.units, chosen) + "\n" + units_report(model, test, given.samples)
    about = {"machine": timing.machine(), "commit": timing.commit(), "units": given.units, "epochs": given.epochs,
             "beta": given.beta, "training_rows": given.rows, "seconds": seconds,
             "table": table.to_dict("records")}  # fmt: skip
    (given.out / "pruning.json").write_text(json.dumps(about, indent=1))
    (given.out / "pruning.md").write_text(text)
    print(f"{seconds:.0f} s of training\n\n{text}\nWritten: {given.out}/pruning.md, .json, .png, .keras")


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 784], pixels / 126, and classes [N]."""
    images = read_images(folder / "mnist", part)
    return images.x.reshape(len(images.x), -1) * np.float32(255 / 126), images.y


def trained(x: np.ndarray, y: np.ndarray, units: int, epochs: int, beta: float) -> tfbnn.BayesianModel:
    """The net after training: Adam, its rate falling along a cosine."""
    kernel = tfbnn.priors.ScaleMixture(pi=0.5, scale_1=1.0, scale_2=float(np.exp(-6)))

    def layer(size: int, activation: str | None, seed: int) -> keras.layers.Layer:
        return tfbnn.layers.DenseLocalReparameterization(size, activation, kernel_prior_fn=kernel, seed=seed)

    network = keras.Sequential(
        [keras.Input((x.shape[1],)), layer(units, "relu", 1), layer(units, "relu", 2), layer(10, None, 3)]
    )
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(10), seed=4, beta=beta)
    steps = epochs * -(-len(x) // BATCH)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps, alpha=0.01)))
    tfbnn.train(model, x, y, epochs=epochs, batch_size=BATCH, verbose=2)
    return model


def report(table, units: int, chosen: float) -> str:
    """Markdown: the table, and the targets."""
    lines = ["| weights removed | weights left | test error | log likelihood, nats an image |", "|---|---|---|---|"]
    lines += [f"| {100 * row.share:g} % | {row.weights_left:,} | {100 * row.error:.2f} % | {row.log_likelihood:.4f} |"
              for row in table.itertuples()]  # fmt: skip
    unpruned, at_target = (float(table["error"][table["share"] == share].iloc[0]) for share in (0.0, TARGET_SHARE))
    told = f" (target: {100 * TARGET_ERROR[units]:.2f} % at most)" if units in TARGET_ERROR else ""
    return "\n".join([
        *lines, "", f"Unpruned: {100 * unpruned:.2f} %{told}.",
        f"{100 * TARGET_SHARE:g} % removed: {100 * (at_target - unpruned):+.2f} points (target: +0.10 at most).",
        f"Largest share of the table at a cost of 0.10 points at most: {100 * chosen:g} %.", "",
    ])  # fmt: skip


def units_report(model: tfbnn.BayesianModel, test: tuple[np.ndarray, np.ndarray], samples: int) -> str:
    """Markdown: nets without the weakest units: error, parameters, size of the export, time to predict."""
    lines = ["| units removed | parameters | export, MB | 1,000 images, ms | test error |", "|---|---|---|---|---|"]
    rows = test[0][:1000]
    for share in (0.0, 0.25, 0.5, 0.75):
        smaller = prune_units(model, share)
        prediction = smaller.predict_distribution(test[0], samples)
        error = np.mean(prediction.probabilities.argmax(axis=1) != test[1])
        rows = test[0][:1000]
        [times] = timing.in_turn(
            {"": lambda model=smaller, rows=rows: model.predict_distribution(rows, samples)}, 5
        ).values()
        lines.append(f"| {100 * share:g} % | {smaller.network.count_params():,} | {exported_size(smaller) / 1e6:.1f} | "
                     f"{1e3 * np.median(times):.0f} | {100 * error:.2f} % |")  # fmt: skip
    return "\n".join(lines) + "\n"


def exported_size(model: tfbnn.BayesianModel) -> int:
    """Bytes of all files of the SavedModel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(tfbnn.export_saved_model(model, Path(folder) / "model"))
        return sum(os.path.getsize(file) for file in path.rglob("*") if file.is_file())
