"""Does a method know where it has seen nothing? Epistemic standard deviation in a gap of the data, far, and inside.

Set `energy`: the rows whose first feature lies in the middle third are the gap; a tenth of the others are kept to look
inside; far rows are those, three times as far from the centre. All methods have the same net (D-50-1, tanh), the same
prior, w ~ Normal(0, 1 / inputs of the layer), and a likelihood with a learned scale; NUTS is the gold.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

import tfbnn
from benchmarks import timing

FAR = 3.0
EPOCHS, BATCH, HIDDEN = 600, 32, 50
STEPS = 9000  # of all epochs, about
PLACES = ("inside", "gap", "far")


def main(arguments: list[str]) -> None:
    """Prints the table and writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gap", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the set, for example DATA/uci/energy")
    parser.add_argument("--feature", type=int, default=0, help="the column whose middle third is the gap")
    parser.add_argument("--methods", nargs="+", choices=list(makers()), default=list(makers()))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    rows = gap_rows(given.data, given.feature)
    print(f"{len(rows['x'])} rows to train on; {', '.join(f'{len(rows[place])} {place}' for place in PLACES)}")
    results = {}
    for name in ["NUTS", *(name for name in given.methods if name != "NUTS")]:
        results[name] = measure(name, rows)
        print(line(name, results[name], results["NUTS"]), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    about = {"machine": timing.machine(), "commit": timing.commit(), "set": given.data.name, "feature": given.feature}
    (given.out / "gap.json").write_text(json.dumps({**about, "results": results}, indent=1))
    text = "\n".join([*HEADING, *(line(name, result, results["NUTS"]) for name, result in results.items())])
    (given.out / "gap.md").write_text(text + "\n")
    print(f"\n{text}")


def gap_rows(folder: Path, feature: int) -> dict[str, np.ndarray]:
    """Standardised inputs `x`, targets `y`, and the rows of each place."""
    data = np.loadtxt(folder / "data.txt")
    columns, target = (np.loadtxt(folder / f"index_{kind}.txt", dtype=int, ndmin=1) for kind in ("features", "target"))
    x, y = data[:, columns], data[:, target[0]]
    low, high = np.quantile(x[:, feature], [1 / 3, 2 / 3])
    in_gap = (x[:, feature] >= low) & (x[:, feature] <= high)
    outside = np.random.default_rng(0).permutation(np.flatnonzero(~in_gap))
    kept, inside = np.split(outside, [round(0.9 * len(outside))])
    x = ((x - x[kept].mean(axis=0)) / x[kept].std(axis=0)).astype(np.float32)
    return {
        "x": x[kept],
        "y": y[kept].astype(np.float32),
        "inside": x[inside],
        "gap": x[in_gap],
        "far": FAR * x[inside],
    }


# --- methods ----------------------------------------------------------------------------------------------------------


def makers() -> dict:
    """Name -> (layer of its network, function of (network, likelihood) that gives the method)."""
    of = tfbnn.inference
    flipout, joint = tfbnn.layers.DenseFlipout, tfbnn.layers.DenseVariational
    return {
        "NUTS": (flipout, lambda n, lik: of.NUTS(n, lik, adam(), num_draws=3000, seed=0)),
        "VI, full covariance": (
            joint,
            lambda n, lik: of.VariationalInference(n, lik, adam(), seed=0, train_samples=4, beta=warm_up()),
        ),
        "Laplace, linearised": (flipout, lambda n, lik: of.Laplace(n, lik, adam(), structure="full", seed=0)),
        "DeepEnsemble of 10": (flipout, lambda n, lik: of.DeepEnsemble(n, lik, adam(), members=10, seed=0)),
        "DeepEnsemble of 10, anchored": (
            flipout,
            lambda n, lik: of.DeepEnsemble(n, lik, adam(), members=10, of="anchored", seed=0),
        ),
        "VI, mean-field": (flipout, lambda n, lik: of.VariationalInference(n, lik, adam(), seed=0, beta=warm_up())),
        "MonteCarloDropout": (flipout, lambda n, lik: of.MonteCarloDropout(n, lik, adam(), rate=0.05, seed=0)),
        "SWAG": (flipout, lambda n, lik: of.SWAG(n, lik, adam(), seed=0)),
        "SGHMC": (flipout, lambda n, lik: of.SGHMC(n, lik, seed=0)),
    }


def adam() -> keras.optimizers.Optimizer:
    """Of every method that has an optimizer."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, STEPS, alpha=0.01))


def warm_up() -> tfbnn.objectives.Schedule:
    """Of the KL: without it, full-covariance VI stays where most units are at the prior."""
    return tfbnn.objectives.Linear(STEPS // 2)


def network(layer: type, num_features: int) -> keras.Model:
    """D-50-1, with the same prior whatever the layer."""

    def parts(num_inputs: int) -> dict:
        prior = tfbnn.priors.Normal(scale=num_inputs**-0.5)
        if layer is tfbnn.layers.DenseVariational:
            return {"make_prior_fn": prior, "make_posterior_fn": tfbnn.posteriors.FullCovariance(initial_rho=-6.0)}
        return {"kernel_prior_fn": prior, "bias_prior_fn": prior}

    hidden = layer(HIDDEN, activation="tanh", seed=1, **parts(num_features))
    return keras.Sequential([keras.Input((num_features,)), hidden, layer(1, seed=2, **parts(HIDDEN))])


def measure(name: str, rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean epistemic standard deviation (units of y) at each place, and the time."""
    layer, make = makers()[name]
    likelihood = tfbnn.likelihoods.Normal().adapt(rows["y"])
    method = make(network(layer, rows["x"].shape[1]), likelihood)
    begin = time.perf_counter()
    draws = method.fit(rows["x"], rows["y"], epochs=EPOCHS, batch_size=BATCH, verbose=0)
    seconds = time.perf_counter() - begin
    found = {place: draws.predict_distribution(rows[place], draws.at_most(500)) for place in PLACES}
    stddev = {place: float(prediction.epistemic_stddev.mean()) for place, prediction in found.items()}
    return {**stddev, "seconds": seconds, "message": getattr(draws, "metadata", {}).get("message", "")}


# --- report -----------------------------------------------------------------------------------------------------------

HEADING = (
    "| method | inside | gap | far | gap / inside | far / inside | gap / NUTS's | far / NUTS's | seconds |",
    "|" + "---|" * 9,
)


def line(name: str, result: dict[str, float], gold: dict[str, float]) -> str:
    """A row of the table: epistemic standard deviations in units of y, and their ratios."""
    places = " | ".join(f"{result[place]:.3f}" for place in PLACES)
    ratios = " | ".join(f"{result[place] / result['inside']:.1f}" for place in PLACES[1:])
    of_gold = " | ".join(f"{result[place] / gold[place]:.2f}" for place in PLACES[1:])
    return f"| {name} | {places} | {ratios} | {of_gold} | {result['seconds']:.1f} |"
