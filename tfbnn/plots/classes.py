"""Two features, two classes: where each method is sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfbnn.plots.base import INK, by_name, in_lines, panels
from tfbnn.prediction import Prediction


def plot_classes(
    predictions: Prediction | Mapping[str, Prediction],
    grid: tuple[np.ndarray, np.ndarray],
    rows: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str] = ("x", "y"),
) -> Any:
    """A panel a method: the probability of the likelier class, from 0.5 (white) to 1, and the training rows.

    Args:
        predictions: of the grid's points, in the order of `numpy.meshgrid(*grid)` flattened; or name -> prediction.
        grid: values of the two features, [A] and [B].
        rows: the training rows, ([N, 2], classes [N]).
        names: of the features.

    Returns:
        The Matplotlib figure.

    Raises:
        InvalidInput: where Matplotlib is absent.

    Example:
        >>> points = np.stack([each.ravel() for each in np.meshgrid(*grid)], axis=1)
        >>> plot_classes(model.predict_distribution(points), grid, (x, y))
    """
    predictions = by_name(predictions)
    figure, axes = panels(len(predictions), 3, 3.2, 2.9, sharex=True, sharey=True)
    shown = None
    for axis, (name, prediction) in zip(axes, predictions.items(), strict=True):
        surest = prediction.probabilities.max(axis=1).reshape(len(grid[1]), len(grid[0]))
        shown = axis.contourf(*grid, surest, levels=np.linspace(0.5, 1.0, 11), cmap="Blues", vmin=0.5, vmax=1.0)
        for label, marker in zip(np.unique(rows[1]), "o^sDv*", strict=False):
            of_class = rows[0][rows[1] == label]
            axis.plot(of_class[:, 0], of_class[:, 1], marker, color=INK, markersize=3.5, markerfacecolor="white",
                      markeredgewidth=0.7, label=str(label))  # fmt: skip
        axis.set_title(in_lines(name), fontsize=9, loc="left")
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_label("probability of the likelier class", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    figure.supxlabel(names[0], fontsize=9)
    figure.supylabel(names[1], fontsize=9)
    return figure
