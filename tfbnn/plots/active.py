"""Active learning: score against labels, and which rows of a pool were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfbnn.plots.base import BLUE, GREY, INK, ORANGE, panels

COLOURS = (GREY, ORANGE, BLUE, "#4a8f5b", "#8b5a9e")


def plot_learning_curves(
    histories: Mapping[str, Sequence[Any]],
    score: str = "accuracy",
    targets: Sequence[float] = (),
    label: str | None = None,
    lowest: float | None = None,
) -> Any:
    """A score against the number of labels: the mean over runs of each acquisition function, and their range.

    Args:
        histories: name -> DataFrames of `tfbnn.active.simulate`, one a run, with the columns `labels` and `score`.
        score: name of the column.
        targets: values of the score that are drawn as lines.
        label: of the axis of the score; None: its name.
        lowest: where that axis begins; None: with the lowest score.

    Returns:
        The Matplotlib figure.

    Example:
        >>> plot_learning_curves({"bald": [found.history]}, targets=[0.95])
    """
    figure, [axis] = panels(1, 1, 5.6, 3.6)
    for target in targets:
        axis.axhline(target, color="#cccccc", linewidth=0.9, zorder=1)
    for i, (name, runs) in enumerate(histories.items()):
        colour, labels = COLOURS[i % len(COLOURS)], runs[0]["labels"].to_numpy()
        scores = np.array([run[score].to_numpy()[: len(labels)] for run in runs], float)
        axis.plot(labels, scores.mean(axis=0), color=colour, linewidth=1.6, label=name, zorder=3)
        if len(runs) > 1:
            axis.fill_between(labels, scores.min(axis=0), scores.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axis.set_ylim(bottom=lowest)
    axis.set_xlabel("labels", fontsize=9)
    axis.set_ylabel(label or score.replace("_", " "), fontsize=9)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def plot_asked(
    scores: Mapping[str, np.ndarray],
    grid: tuple[np.ndarray, np.ndarray],
    pool: np.ndarray,
    asked: Mapping[str, np.ndarray],
    labelled: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str] = ("x", "y"),
    unit: str = "nats",
) -> Any:
    """A panel an acquisition function, in two dimensions: its score, the pool, what is labelled, what it asks for.

    Args:
        scores: name -> scores of the grid's points, in the order of `numpy.meshgrid(*grid)` flattened.
        grid: values of the two features, [A] and [B].
        pool: the rows without labels, [P, 2].
        asked: name -> positions in the pool of the rows asked for.
        labelled: rows with labels, ([N, 2], classes [N]).
        names: of the features.
        unit: of the scores.

    Returns:
        The Matplotlib figure.

    Example:
        >>> asked = {"bald": tfbnn.active.acquire(draws, pool, 10)}
        >>> plot_asked({"bald": tfbnn.active.bald(at_the_grid)}, grid, pool, asked, (x, y))
    """
    figure, axes = panels(len(scores), 3, 3.4, 3.0, sharex=True, sharey=True)
    for axis, (name, values) in zip(axes, scores.items(), strict=True):
        shown = axis.contourf(*grid, values.reshape(len(grid[1]), len(grid[0])), levels=10, cmap="Blues")
        bar = figure.colorbar(shown, ax=axis, shrink=0.8, format="%.2f")
        bar.set_label(unit, fontsize=8)
        bar.ax.tick_params(labelsize=7)
        axis.plot(pool[:, 0], pool[:, 1], ".", color=GREY, markersize=2.5, label="pool")
        for label, marker in zip(np.unique(labelled[1]), "ox^sv*", strict=False):
            rows = labelled[0][labelled[1] == label]
            axis.plot(rows[:, 0], rows[:, 1], marker, color=INK, markersize=4, markerfacecolor="none",
                      label=f"labelled, {label}")  # fmt: skip
        found = pool[asked[name]]
        axis.plot(found[:, 0], found[:, 1], "o", color=ORANGE, markersize=5, markeredgecolor="white",
                  markeredgewidth=0.6, label="asked for")  # fmt: skip
        axis.set_title(name, fontsize=9, loc="left")
    figure.supxlabel(names[0], fontsize=9)
    figure.supylabel(names[1], fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    return figure
