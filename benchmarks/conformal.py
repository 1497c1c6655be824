"""Conformal intervals on random splits: coverage and width of a Bayesian net's, beside a plain net's.

Each split of a set has rows to train on, to calibrate on and to test on, 60, 20 and 20 %, for all contestants the
same. They share the layers (D-50-50), the number of steps, batch size, optimizer and schedule of the rate, and look at
nothing but their training rows: no early stopping for anybody. The Bayesian nets are an anchored ensemble of 4 (Pearce
et al. 2020), weights ~ Normal(0, 1 / inputs of the layer), biases ~ Normal(0, 1). The plain net is trained on the
squared error, and its intervals are mean +- threshold, of one width for all rows. Rivals that the claim does not ask
for: 4 plain nets averaged, and a plain net that predicts a scale, by maximum likelihood. Inputs and targets are
standardised by the training rows of each split.

What was chosen by hand, method, steps and one scale for all rows, was chosen by splits like those of `--inner`: of the
training rows of the first split alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfbnn
from benchmarks import timing, uci
from tfbnn.calibration import Conformal, ConformalizedQuantiles, StandardisedResidual, fewest_rows
from tfbnn.core.checks import InvalidInput, invalid

LEVEL = 0.9
OTHERS = 0.2  # of the rows are calibrated on, and as many tested on
STEPS = 3000
AT_ONCE = 25  # splits that are trained on one stack
METHOD = uci.METHODS["ensemble"]  # the layers and the rate of all; and a contestant, where asked for


@dataclasses.dataclass(frozen=True)
class Contestant:
    """Nets, and how their intervals are made conformal.

    Attributes:
        nets: a key of `NETS`.
        members: how many of them, the first.
        conformal: kind of interval.
        averaged: whether the parameters of the nets are averaged, so that their spread is not told.
    """

    nets: str
    members: int
    conformal: type[Conformal]
    averaged: bool = False


OURS, PLAIN = "anchored ensemble, residual / stddev", "plain net, residual"
CONTESTANTS = {
    OURS: Contestant("anchored", 4, StandardisedResidual),
    "anchored ensemble, quantiles": Contestant("anchored", 4, ConformalizedQuantiles),
    PLAIN: Contestant("plain", 1, StandardisedResidual),
    "4 plain nets averaged, residual": Contestant("plain", 4, StandardisedResidual, averaged=True),
    "plain net with a scale, residual / stddev": Contestant("scaled", 1, StandardisedResidual),
    "variational ensemble, residual / stddev": Contestant("variational", 4, StandardisedResidual),
    "variational ensemble, quantiles": Contestant("variational", 4, ConformalizedQuantiles),
}


def main(arguments: list[str]) -> None:
    """Prints the tables and writes them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks conformal", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of sets as of `benchmarks uci`, or of one set")
    parser.add_argument("--sets", nargs="+", default=["concrete", "energy"], help="names of those in the folder")
    parser.add_argument("--splits", type=timing.positive, default=200)
    parser.add_argument("--steps", type=timing.positive, default=STEPS, help="of training")
    parser.add_argument("--variational", action="store_true", help="the ensemble of `benchmarks uci` too: slow")
    parser.add_argument("--inner", action="store_true", help="split the training rows of the first split alone")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of conformal.md and .json")
    given = parser.parse_args(arguments)
    try:
        sets = {name: read_rows(given.data, name, given.inner) for name in given.sets}  # before minutes of work
    except InvalidInput as error:
        sys.exit(f"Error: {error}")
    asked = contestants(given.variational)
    results: dict[str, dict] = {name: {"told": {one: [] for one in asked}, "seconds": 0.0} for name in sets}
    for start in range(0, given.splits, AT_ONCE):
        seeds = range(start, min(start + AT_ONCE, given.splits))
        for name, (x, y) in sets.items():
            go_on(results[name], [random_split(x, y, seed) for seed in seeds], given.steps, asked)
            print(f"{name}, {seeds.stop} of {given.splits} splits: {told_of(results[name])}", flush=True)
        write(given.out, results, given.steps)  # after each part, so that no work is lost
    print(f"\n{report(results, given.steps)}\nWritten: {given.out}/conformal.md, {given.out}/conformal.json")


def write(folder: Path, results: dict[str, dict], steps: int) -> None:
    """The tables as Markdown, everything as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "conformal.json").write_text(json.dumps({"steps": steps, "sets": results}))
    (folder / "conformal.md").write_text(report(results, steps))


def contestants(variational: bool) -> dict[str, Contestant]:
    """All of them, or all but the slow one."""
    return {name: one for name, one in CONTESTANTS.items() if variational or one.nets != "variational"}


def read_rows(data: Path, name: str, inner: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of one set, or of the training rows of its first split.

    Raises:
        InvalidInput: as `uci.read_rows`, and for fewer rows than the level needs.
    """
    x, y = uci.read_rows(data if data.name == name else data / name)
    if inner:
        train, _ = order(len(y), 0)
        x, y = x[train], y[train]
    if (n := round(OTHERS * len(y))) < fewest_rows(LEVEL):
        raise invalid(name, f"{round(fewest_rows(LEVEL) / OTHERS)} rows or more, to calibrate on {OTHERS:.0%}", n)
    return x, y


def go_on(result: dict, splits: Sequence[uci.Split], steps: int, asked: Mapping[str, Contestant]) -> None:
    """Adds to a set's result the coverage and mean width of each contestant on these splits, and their seconds."""
    begin = time.perf_counter()
    predictions = {nets: predicted(*NETS[nets], splits, steps) for nets in {one.nets for one in asked.values()}}
    for name, one in asked.items():
        result["told"][name] += [intervals(one, predictions[one.nets][k], split) for k, split in enumerate(splits)]
    others = len(splits[0].x_test) // 2
    result["rows"] = [len(splits[0].x), others, others]
    result["seconds"] += time.perf_counter() - begin


def told_of(result: dict) -> str:
    """One line."""
    coverage = np.mean([covered for covered, _ in result["told"][OURS]])
    ratio = ratios(result["told"], OURS).mean()
    return f"coverage {coverage:.3f}, width / plain net's {ratio:.3f}, {result['seconds']:.0f} s"


def order(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training rows of a random split, and the others: as many to calibrate on as to test on."""
    rows = np.random.default_rng(seed).permutation(num_rows)
    others = 2 * round(OTHERS * num_rows)
    return rows[others:], rows[:others]


def random_split(x: np.ndarray, y: np.ndarray, seed: int) -> uci.Split:
    """Training rows; and others, the first half of them to calibrate on and the second to test on."""
    train, others = order(len(y), seed)
    x = uci.standardised(x, train)
    return uci.Split(x[train], y[train].astype(np.float32), x[others], y[others].astype(np.float32))


# --- nets -------------------------------------------------------------------------------------------------------------


def predicted(make: Callable, members: int, splits: Sequence[uci.Split], steps: int) -> list[list[tfbnn.Prediction]]:
    """What each member predicts of the other rows of each split."""
    num_rows = len(splits[0].x)
    batch_size = uci.batch_for(num_rows)
    epochs = max(1, round(steps / -(-num_rows // batch_size)))
    steps = epochs * -(-num_rows // batch_size)
    models = [make(METHOD, split, seed, steps) for split in splits for seed in range(members)]
    data = [(split.x, split.y) for split in splits for _ in range(members)]
    tfbnn.train_many(models, data, epochs, batch_size, verbose=0)
    asked = make(METHOD, splits[0], 0, 1)  # one graph of prediction serves all
    asked.build_for(splits[0].x)
    draws = METHOD.draws if make is uci.make else 1
    told: list[list[tfbnn.Prediction]] = []
    for k, split in enumerate(splits):
        told.append([])
        for seed, model in enumerate(models[k * members : (k + 1) * members]):
            asked.set_weights(model.get_weights())
            told[k].append(asked.predict_distribution(split.x_test, draws, seed=seed))
    return told


def plain(method: uci.Method, split: uci.Split, seed: int, steps: int) -> tfbnn.BayesianModel:
    """Point weights, the squared error: a Normal with one scale for all rows."""
    return _compiled(_plain_layers(method, split, seed, 1), tfbnn.likelihoods.Normal(), method, split, seed, steps)


def scaled(method: uci.Method, split: uci.Split, seed: int, steps: int) -> tfbnn.BayesianModel:
    """Point weights, a mean and a scale for each row, maximum likelihood."""
    likelihood = tfbnn.likelihoods.HeteroscedasticNormal(smallest_scale=method.smallest_scale)
    return _compiled(_plain_layers(method, split, seed, 2), likelihood, method, split, seed, steps)


def anchored(method: uci.Method, split: uci.Split, seed: int, steps: int) -> tfbnn.BayesianModel:
    """Points, each pulled to a draw of its prior; one scale for all rows."""
    inputs = [split.x.shape[1], *method.hidden]
    layers = [
        tfbnn.layers.DenseReparameterization(
            units, activation, seed=100 * seed + i,
            kernel_prior_fn=tfbnn.priors.AnchoredNormal(scale=float(1.0 / np.sqrt(inputs[i]))),
            bias_prior_fn=tfbnn.priors.AnchoredNormal(),
            kernel_posterior_fn=tfbnn.posteriors.Deterministic(start),
            bias_posterior_fn=tfbnn.posteriors.Deterministic("zeros"),
        )
        for i, (units, activation, start) in enumerate(_widths(method, seed, 1))
    ]  # fmt: skip
    return _compiled(layers, tfbnn.likelihoods.Normal(), method, split, seed, steps)


NETS = {"anchored": (anchored, 4), "plain": (plain, 4), "scaled": (scaled, 1), "variational": (uci.make, 4)}


def _plain_layers(method: uci.Method, split: uci.Split, seed: int, outputs: int) -> list[keras.layers.Layer]:
    return [keras.layers.Dense(units, activation, kernel_initializer=start)
            for units, activation, start in _widths(method, seed, outputs)]  # fmt: skip


def _widths(method: uci.Method, seed: int, outputs: int) -> list[tuple[int, str | None, Any]]:
    """Units, activation and initial kernel of each layer."""
    initializers = keras.initializers
    hidden = [(units, "relu", initializers.HeNormal(seed=100 * seed + i)) for i, units in enumerate(method.hidden)]
    return [*hidden, (outputs, None, initializers.GlorotUniform(seed=100 * seed + len(hidden)))]


def _compiled(
    layers: list[keras.layers.Layer], likelihood: Any, method: uci.Method, split: uci.Split, seed: int, steps: int
) -> tfbnn.BayesianModel:
    network = keras.Sequential([keras.Input(split.x.shape[1:]), *layers])
    model = tfbnn.BayesianModel(network, likelihood.adapt(split.y), seed=seed)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(method.rate, steps, alpha=0.01)))
    return model


# --- intervals --------------------------------------------------------------------------------------------------------


def intervals(contestant: Contestant, members: Sequence[tfbnn.Prediction], split: uci.Split) -> tuple[float, float]:
    """Share of the test rows inside their conformal intervals, and the intervals' mean width."""
    prediction = mixed(contestant, members)
    n = len(split.x_test) // 2
    calibration, test = (tfbnn.Prediction(prediction.parameters[:, rows], prediction.likelihood)
                         for rows in (slice(n), slice(n, None)))  # fmt: skip
    conformal = contestant.conformal(LEVEL).fit(calibration, split.y_test[:n])
    told = conformal(test)
    lower, upper = told["conformal_lower"][:, 0], told["conformal_upper"][:, 0]
    y = split.y_test[n:]
    return float(np.mean((lower <= y) & (y <= upper))), float(np.mean(upper - lower))


def mixed(contestant: Contestant, members: Sequence[tfbnn.Prediction]) -> tfbnn.Prediction:
    """The prediction of the contestant's nets together."""
    prediction = tfbnn.Prediction.mixture_of(list(members[: contestant.members]))
    if not contestant.averaged:
        return prediction
    return tfbnn.Prediction(np.mean(prediction.parameters, axis=0, keepdims=True), prediction.likelihood)


# --- report -----------------------------------------------------------------------------------------------------------


def ratios(told: dict[str, list], name: str) -> np.ndarray:
    """Mean width of a contestant over the plain net's, split by split."""
    return np.array([width for _, width in told[name]]) / np.array([width for _, width in told[PLAIN]])


def report(results: dict[str, dict], steps: int) -> str:
    """Markdown: a table a set."""
    lines = [f"Machine: {timing.machine()}; commit {timing.commit()}; {time.strftime('%Y-%m-%d')}.", ""]
    for name, result in results.items():
        told, (train, calibrated, test) = result["told"], result["rows"]
        lines += [f"**{name}**: {len(told[PLAIN])} random splits, {train} rows to train on, {calibrated} to calibrate "
                  f"on, {test} to test on; {steps} steps; {result['seconds'] / 60:.1f} min", "",
                  f"| intervals of {LEVEL:.0%} | coverage | mean width | width / plain net's | wider on |",
                  "|---|---|---|---|---|"]  # fmt: skip
        for contestant in told:
            coverage, width = np.array(told[contestant]).T
            ratio = ratios(told, contestant)
            cells = [f"{coverage.mean():.1%} ± {error(coverage):.1%}", f"{width.mean():.3f} ± {error(width):.3f}",
                     "1" if contestant == PLAIN else f"{ratio.mean():.3f} ± {error(ratio):.3f}",
                     "" if contestant == PLAIN else f"{np.sum(ratio > 1)} of {len(ratio)}"]  # fmt: skip
            lines.append(f"| {contestant} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def error(values: np.ndarray) -> float:
    """Standard error of the mean over the splits; nan of one split."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
