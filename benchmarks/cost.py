"""How prediction's cost grows: over draws S, rows B of one call, units of the hidden layers, and rows N in many calls.

MLP 784-units-units-10 of `DenseFlipout`; all but one of S, B and units stay at 50, 128 and 400. Beside both couplings
stand one compiled deterministic pass over B x S rows, and its bare matrix products. The last panel has 10 draws and
more rows than a call takes at once: tfbnn cuts them into calls of 1,024 rows itself, and so is the deterministic pass
cut here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from benchmarks import limit, timing
from benchmarks.peers.command import OUT
from benchmarks.prediction import INPUTS, OUTPUTS
from tfbnn.prediction.monte_carlo import ROWS_PER_CALL

WAYS = {
    "tfbnn, marginal": ("#0b6e99", "o", "-"),
    "tfbnn, coherent": ("#d98a3d", "s", "-"),
    "deterministic, B x S rows": ("#444444", "D", "--"),
    f"{limit.NAME}, B x S rows": ("#999999", "", ":"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One size of everything."""

    samples: int = 50
    rows: int = 128
    units: int = 400


@dataclasses.dataclass(frozen=True)
class Panel:
    """One size that grows, and what stays."""

    letter: str
    label: str
    cases: list[Case]
    sizes: list[int]
    stays: str


def panels(quick: bool = False) -> list[Panel]:
    """The four, or their first points."""
    samples, rows, units = [1, 3, 10, 30, 100, 300, 1000], [1, 4, 16, 64, 256, 1024], [25, 50, 100, 200, 400, 800]
    many = [1024, 2048, 4096, 8192]
    take = slice(2) if quick else slice(None)
    return [
        Panel("S", "draws S", [Case(samples=s) for s in samples[take]], samples[take], "B = 128 rows, 400 units"),
        Panel("B", "rows B of one call", [Case(rows=b) for b in rows[take]], rows[take], "S = 50, 400 units"),
        Panel("units", "units of each hidden layer", [Case(units=u) for u in units[take]], units[take],
              "S = 50, B = 128 rows"),
        Panel("N", f"rows N, in calls of {ROWS_PER_CALL:,}", [Case(10, n) for n in many[take]], many[take],
              "S = 10, 400 units"),
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    """Prints the tables, writes cost.json and cost.png."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cost", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=timing.positive, default=5)
    parser.add_argument("--quick", action="store_true", help="two points a panel")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of cost.json and cost.png")
    timing.add_device(parser)
    given = parser.parse_args(arguments)
    with tf.device(timing.device(given.device)):
        measured = {}
        for panel in panels(given.quick):
            measured[panel.letter] = measure(panel, given.rounds)
            print(f"{table(panel, measured[panel.letter])}\n", flush=True)
    caption = f"{timing.machine(given.device)}; tfbnn {timing.commit()}; medians of {given.rounds} rounds in turn"
    print(caption)
    given.out.mkdir(parents=True, exist_ok=True)
    content = {"caption": caption, "seconds": measured}
    (given.out / "cost.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"\nMade: {given.out / 'cost.json'}")
    try:
        plot(given.out / "cost.png", panels(given.quick), measured, caption)
        print(f"Made: {given.out / 'cost.png'}")
    except ImportError:
        print("No plot: matplotlib is missing (pip install 'tfbnn[plots]').")


def measure(panel: Panel, rounds: int) -> dict[str, list[list[float]]]:
    """Name -> seconds of each round, a list a size."""
    found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for case in panel.cases:
        for name, seconds in timing.in_turn(ways(case), rounds).items():
            found[name].append(seconds)
    return found


def ways(case: Case) -> dict[str, Callable[[], Any]]:
    """What is timed, by name; all end as NumPy."""
    x = np.random.default_rng(0).normal(size=(case.rows, INPUTS)).astype(np.float32)
    model, plain = bayesian(case.units), network(case.units, keras.layers.Dense)
    compiled = tf.function(lambda x: plain(x, training=False), autograph=False)
    repeated = tf.constant(np.tile(x[:ROWS_PER_CALL], (case.samples, 1)))
    calls = -(-case.rows // ROWS_PER_CALL)
    bare = limit.products(limit.dense(INPUTS, case.units, case.units, OUTPUTS), len(repeated))
    return dict(
        zip(
            WAYS,
            (
                lambda: model.predict_distribution(x, case.samples),
                lambda: model.predict_distribution(x, case.samples, coupling="coherent"),
                lambda: [compiled(repeated).numpy() for _ in range(calls)],
                lambda: [bare() for _ in range(calls)],
            ),
            strict=True,
        )
    )


def bayesian(units: int) -> tfbnn.BayesianModel:
    """The net with posteriors."""
    likelihood = tfbnn.likelihoods.Categorical(OUTPUTS)
    return tfbnn.BayesianModel(network(units, tfbnn.layers.DenseFlipout), likelihood, num_data=1, seed=0)


def network(units: int, make: Callable[..., keras.layers.Layer]) -> keras.Model:
    """784-units-units-10 of these layers."""
    hidden = [make(units, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((INPUTS,)), *hidden, make(OUTPUTS)])


def table(panel: Panel, measured: dict[str, list[list[float]]]) -> str:
    """Markdown: a row a size, medians in ms."""
    lines = [f"| {panel.label} ({panel.stays}) | {' | '.join(f'{name}, ms' for name in measured)} |"]
    lines.append("|---" * (len(measured) + 1) + "|")
    for i, size in enumerate(panel.sizes):
        figures = [figure(1e3 * statistics.median(seconds[i])) for seconds in measured.values()]
        lines.append(f"| {size:,} | {' | '.join(figures)} |")
    return "\n".join(lines)


def figure(milliseconds: float) -> str:
    """Three digits."""
    return f"{milliseconds:.3g}" if milliseconds < 1000 else f"{milliseconds:,.0f}"


def plot(path: Path, drawn: list[Panel], measured: dict[str, dict[str, list[list[float]]]], caption: str) -> None:
    """Four panels on log scales; bands from the fastest to the slowest round."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    for axis, panel in zip(axes.flat, drawn, strict=True):
        _panel(axis, panel, measured[panel.letter])
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9)
    figure.supxlabel(caption, fontsize=6.5, color="#555555")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _panel(axis: Any, panel: Panel, measured: dict[str, list[list[float]]]) -> None:
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

    for name, (colour, marker, line) in WAYS.items():
        milliseconds = 1e3 * np.asarray(measured[name])
        axis.plot(panel.sizes, np.median(milliseconds, axis=1), line, marker=marker, color=colour, label=name, ms=4)
        axis.fill_between(panel.sizes, milliseconds.min(1), milliseconds.max(1), color=colour, alpha=0.15, linewidth=0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(panel.sizes))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(panel.label, fontsize=9)
    axis.set_ylabel("milliseconds a prediction", fontsize=9)
    axis.set_title(panel.stays, fontsize=9, loc="left", color="#555555")
    axis.tick_params(labelsize=8)
    axis.grid(which="major", color="#e5e5e5", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
