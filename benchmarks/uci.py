"""Regression on the splits of the literature, beside its published figures.

One recipe for all sets; nothing of it is chosen on test rows (docs/results.md tells how it was chosen). Inputs and
targets are standardised by the training rows of each split; log likelihoods are in nats a row, in the target's units.
A set is a folder with data.txt, index_features.txt, index_target.txt and index_{train,test}_K.txt (rows from 0), the
format of Hernandez-Lobato & Adams 2015 and Gal & Ghahramani 2016.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import tfbnn
from benchmarks import timing, uci_methods
from tfbnn.core.checks import InvalidInput, invalid

LEVEL = 0.9
BEST_OF = ("VI (Graves 2011)", "PBP", "MC Dropout (BayesOpt re-run, 2018 readme)",
           "MC Dropout (grid search, 2018 readme)", "Deep Ensembles (2017, M=5, 40 epochs)")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Method:
    """A recipe: `betas` has the final weight of the KL of each member; predictions average over members and draws."""

    hidden: tuple[int, ...]
    betas: tuple[float, ...]
    steps: int = 10_000
    warm_up: float = 0.7
    rate: float = 0.01
    smallest_scale: float = 0.01
    draws: int = 100


METHODS = {
    "vi": Method(hidden=(50, 50), betas=(1.0,)),
    "ensemble": Method(hidden=(50, 50), betas=(1.0, 0.5, 0.35, 0.25)),
}

ALL = {**METHODS, **uci_methods.METHODS}
UNLESS_TOLD = [name for name in ALL if name != "hmc"]  # which takes hours


@dataclasses.dataclass(frozen=True)
class Split:
    """Training and test rows of one split, standardised inputs and targets in their units."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def main(arguments: list[str]) -> None:
    """Prints the tables and writes them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks uci", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of sets, or of one set")
    parser.add_argument("--published", type=Path, help="CSV; default: ../published/uci_regression.csv beside the data")
    others = f"{', '.join(METHODS)}; and by tfbnn.inference, with fixed priors: {', '.join(uci_methods.METHODS)}"
    parser.add_argument("--methods", nargs="+", choices=ALL, metavar="METHOD", default=UNLESS_TOLD, help=others)
    parser.add_argument("--splits", type=timing.positive, help="only the first so many")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of uci.md and uci.json")
    given = parser.parse_args(arguments)
    try:
        folders = set_folders(given.data)
        splits = {folder.name: read_set(folder, given.splits) for folder in folders}  # all read before hours of work
    except InvalidInput as error:
        sys.exit(f"Error: {error}")
    published = read_published(given.published or published_beside(given.data))
    given.out.mkdir(parents=True, exist_ok=True)
    results: list[dict] = []
    for name, parts in splits.items():
        for method in given.methods:
            results.append({"set": name, "method": method, **run_method(method, parts)})
            print(summary(results[-1]), flush=True)
        write(given.out, results, published)
    print(f"\n{report(results, published)}\nWritten: {given.out}/uci.md, {given.out}/uci.json")


def write(folder: Path, results: list[dict], published: list[dict[str, str]]) -> None:
    """The tables as Markdown, everything as JSON; after each set, so that hours of work are not lost."""
    about = {"machine": timing.machine(), "commit": timing.commit(), "date": time.strftime("%Y-%m-%d")}
    methods = {name: dataclasses.asdict(ALL[name]) for name in {result["method"] for result in results}}
    (folder / "uci.json").write_text(json.dumps({**about, "methods": methods, "results": results}, indent=1))
    (folder / "uci.md").write_text(report(results, published))


# --- data -------------------------------------------------------------------------------------------------------------


def set_folders(path: Path) -> list[Path]:
    """The sets in a folder, or the folder itself where it is one."""
    if (path / "data.txt").is_file():
        return [path]
    found = sorted(folder.parent for folder in path.glob("*/data.txt"))
    if not found:
        raise invalid("--data", "a folder with data.txt, or with folders that have one", str(path))
    return found


def read_rows(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All rows of one set: inputs [N, D] and target [N], in their units; raises as `read_set` does."""
    data = _numbers(folder / "data.txt", np.float64)
    data = data.reshape(-1, 1) if data.ndim == 1 else data
    features = _indices(folder / "index_features.txt", data.shape[1], "column")
    target = _indices(folder / "index_target.txt", data.shape[1], "column")
    if len(target) != 1:
        raise invalid(str(folder / "index_target.txt"), "one column", target.tolist())
    if target[0] in features:
        raise invalid(str(folder / "index_features.txt"), "columns other than the target's", int(target[0]))
    return data[:, features], data[:, target[0]]


def read_set(folder: Path, at_most: int | None = None) -> list[Split]:
    """The splits of one set.

    Raises:
        InvalidInput: for missing files, splits without rows, or rows that data.txt does not have.
    """
    x, y = read_rows(folder)
    numbered = [path for path in folder.glob("index_train_*.txt") if path.stem.rsplit("_", 1)[1].isdecimal()]
    names = sorted(numbered, key=lambda path: int(path.stem.rsplit("_", 1)[1]))
    if not names:
        raise invalid(str(folder), "splits: index_train_0.txt, index_test_0.txt, ...", "a folder without")
    return [_split(x, y, name) for name in names[:at_most]]


def _split(x: np.ndarray, y: np.ndarray, name: Path) -> Split:
    train = _indices(name, len(x), "row")
    test = _indices(name.with_name(name.name.replace("train", "test")), len(x), "row")
    if shared := len(np.intersect1d(train, test)):
        print(f"Warning: {shared} rows of {name} are test rows of the same split: its figures are too good.")
    if len(train) < 2 or not np.ptp(y[train]) > 0:
        raise invalid(
            str(name), "two training rows or more whose targets vary", f"{len(train)} of target {y[train[0]]}"
        )
    x = standardised(x, train)
    return Split(x[train], y[train].astype(np.float32), x[test], y[test].astype(np.float32))


def standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Inputs [N, D] by the mean and standard deviation of their training rows, float32; constants become 0."""
    mean, scale = x[train].mean(axis=0), x[train].std(axis=0)
    return ((x - mean) / np.where(scale > 1e-12 * np.maximum(np.abs(mean), 1.0), scale, 1.0)).astype(np.float32)


def _indices(path: Path, size: int, what: str) -> np.ndarray:
    numbers = np.atleast_1d(_numbers(path, np.float64))
    if not len(numbers):
        raise invalid(str(path), f"one {what} or more", "none")
    wrong = (numbers < 0) | (numbers >= size) | (numbers != np.round(numbers))
    if wrong.any():
        raise invalid(str(path), f"{what}s of data.txt, 0 to {size - 1}", f"{numbers[wrong][0]:g}")
    return numbers.astype(int)


def _numbers(path: Path, dtype: type) -> np.ndarray:
    if not path.is_file():
        raise invalid(str(path), "a file", "none of this name")
    if not path.read_text(encoding="utf-8", errors="replace").strip():
        raise invalid(str(path), "numbers", "an empty file")
    try:
        numbers = np.loadtxt(path, dtype)
    except ValueError as error:
        raise invalid(str(path), "numbers, separated by blanks", f"{error}") from None
    if not np.isfinite(numbers).all():
        raise invalid(str(path), "finite numbers", "NaN or infinite ones")
    return numbers


def published_beside(data: Path) -> Path:
    """Where the published figures lie beside a folder of sets, or of one."""
    places = [folder / "published" / "uci_regression.csv" for folder in (data.parent, data.parent.parent)]
    return next((place for place in places if place.is_file()), places[0])


def read_published(path: Path) -> list[dict[str, str]]:
    """Rows of the published figures; none where the file is missing."""
    if not path.is_file():
        print(f"No published figures at {path}: left out.")
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- training and prediction ------------------------------------------------------------------------------------------


def run_method(name: str, splits: list[Split]) -> dict:
    """What one method gives on one set."""
    if name in METHODS:
        return run(METHODS[name], splits)
    return uci_methods.run(uci_methods.METHODS[name], splits, batch_for, score)


def run(method: Method, splits: list[Split]) -> dict:
    """Scores of each split and the seconds that all took together."""
    begin = time.perf_counter()
    members = [(k, seed) for k in range(len(splits)) for seed in range(len(method.betas))]
    num_rows = len(splits[0].x)
    batch_size = batch_for(num_rows)
    epochs = max(1, round(method.steps / -(-num_rows // batch_size)))
    models = [make(method, splits[k], seed, epochs * -(-len(splits[k].x) // batch_size)) for k, seed in members]
    data = [(splits[k].x, splits[k].y) for k, _ in members]
    tfbnn.train_many(models, data, epochs, batch_size, verbose=0)
    trained = time.perf_counter()
    scores = []
    asked = make(method, splits[0], 0, 1)  # one graph of prediction serves all
    asked.build_for(splits[0].x)
    for k, split in enumerate(splits):
        predictions = []
        for (of, seed), model in zip(members, models, strict=True):
            if of == k:
                asked.set_weights(model.get_weights())
                predictions.append(asked.predict_distribution(split.x_test, method.draws, seed=seed))
        scores.append(score(tfbnn.Prediction.mixture_of(predictions), split.y_test))
    return {
        "splits": scores,
        "rows": [len(splits[0].x), len(splits[0].x_test)],
        "epochs": epochs,
        "batch_size": batch_size,
        "seconds_training": trained - begin,
        "seconds": time.perf_counter() - begin,
    }


def batch_for(num_rows: int) -> int:
    """N / 40 as a power of 2, 32 to 256."""
    return int(np.clip(2 ** round(np.log2(num_rows / 40)), 32, 256))


def make(method: Method, split: Split, seed: int, steps: int) -> tfbnn.BayesianModel:
    """The compiled model of one member on one split."""
    likelihood = tfbnn.likelihoods.HeteroscedasticNormal(smallest_scale=method.smallest_scale)
    widths, activations = [*method.hidden, likelihood.num_outputs], ["relu"] * len(method.hidden) + [None]
    prior = tfbnn.priors.EmpiricalBayesNormal(initial_scale=1.0)
    network = keras.Sequential([keras.Input(split.x.shape[1:])])
    for i, (units, activation) in enumerate(zip(widths, activations, strict=True)):
        start = keras.initializers.HeNormal(seed=100 * seed + i) if activation else None
        network.add(tfbnn.layers.DenseLocalReparameterization(
            units, activation, seed=100 * seed + i, kernel_prior_fn=prior, bias_prior_fn=prior,
            kernel_posterior_fn=tfbnn.posteriors.MeanField(start, initial_rho=-5.0),
            bias_posterior_fn=tfbnn.posteriors.MeanField(initial_rho=-5.0),
        ))  # fmt: skip
    beta = tfbnn.objectives.Linear(max(1, round(method.warm_up * steps)), end=method.betas[seed])
    model = tfbnn.BayesianModel(network, likelihood.adapt(split.y), beta=beta, seed=seed)
    rate = keras.optimizers.schedules.CosineDecay(method.rate, steps, alpha=0.01)
    model.compile(keras.optimizers.Adam(rate))
    return model


def score(prediction: tfbnn.Prediction, y: np.ndarray) -> dict[str, float]:
    """RMSE, log likelihood in nats a row, and share of the targets inside the central 90 % interval."""
    inside = np.abs(prediction.cdf(y) - 0.5) <= LEVEL / 2
    return {
        "rmse": float(np.sqrt(np.mean((prediction.mean[:, 0] - y) ** 2))),
        "ll": float(np.mean(prediction.log_prob(y))),
        "inside": int(inside.sum()),
        "rows": len(y),
    }


# --- report -----------------------------------------------------------------------------------------------------------


def mean_and_error(result: dict, metric: str) -> tuple[float, float]:
    """Mean over the splits and its standard error, std / sqrt(n) as in the published tables; nan of one split."""
    values = np.array([split[metric] for split in result["splits"]])
    return float(values.mean()), float(values.std() / np.sqrt(len(values))) if len(values) > 1 else np.nan


def coverage(results: list[dict]) -> float:
    """Share of all test targets of all splits inside their intervals."""
    splits = [split for result in results for split in result["splits"]]
    return sum(split["inside"] for split in splits) / sum(split["rows"] for split in splits)


def summary(result: dict) -> str:
    """One line."""
    (rmse, rmse_error), (ll, ll_error) = mean_and_error(result, "rmse"), mean_and_error(result, "ll")
    return (f"{result['set']:18} {result['method']:13} RMSE {rmse:.3f} +- {rmse_error:.3f}   LL {ll:.3f} +- "
            f"{ll_error:.3f}   coverage {coverage([result]):.1%}   {result['seconds']:.0f} s")  # fmt: skip


def report(results: list[dict], published: list[dict[str, str]]) -> str:
    """Markdown: a table a metric, ours above the published."""
    sets = list(dict.fromkeys(result["set"] for result in results))
    ours = {(result["method"], result["set"]): result for result in results}
    lines = [f"Machine: {timing.machine()}; commit {timing.commit()}; {time.strftime('%Y-%m-%d')}.", ""]
    for metric, title in (("rmse", "RMSE, units of the target"), ("ll", "Log likelihood, nats a row")):
        lines += [f"**{title}** (mean and standard error over the splits)", "", f"| method | {' | '.join(sets)} |",
                  "|---" * (len(sets) + 1) + "|"]  # fmt: skip
        for method in dict.fromkeys(result["method"] for result in results):
            cells = ["{:.2f} ± {:.2f}".format(*mean_and_error(ours[method, name], metric)) for name in sets]
            lines.append(f"| tfbnn, {method} | {' | '.join(cells)} |")
        lines += [*_published_rows(published, sets, metric), ""]
    lines += ["| method | " + " | ".join(sets) + " | all sets |", "|---" * (len(sets) + 2) + "|"]
    for method in dict.fromkeys(result["method"] for result in results):
        mine = [result for result in results if result["method"] == method]
        cells = [f"{coverage([ours[method, name]]):.1%}" for name in sets]
        lines.append(f"| {method}: coverage of 90 % intervals | {' | '.join(cells)} | {coverage(mine):.1%} |")
        seconds = [f"{ours[method, name]['seconds']:.0f} s" for name in sets]
        lines.append(f"| {method}: time | {' | '.join(seconds)} | {sum(r['seconds'] for r in mine) / 60:.1f} min |")
    return "\n".join(lines) + "\n"


def _published_rows(published: list[dict[str, str]], sets: list[str], metric: str) -> list[str]:
    of_metric = [row for row in published if row["metric"] == metric and row["dataset"] in sets]
    cells = {(row["method"], row["dataset"]): f"{row['mean']} ± {row['stderr']}" for row in of_metric}
    methods = dict.fromkeys(row["method"] for row in of_metric)
    return [f"| {method} | {' | '.join(cells.get((method, name), '') for name in sets)} |" for method in methods]
