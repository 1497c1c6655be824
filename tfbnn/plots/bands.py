"""One-dimensional regression: mean and bands of each method, beside the gold's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfbnn.plots.base import BLUE, INK, ORANGE, by_name, in_lines, panels
from tfbnn.prediction import Prediction

LEGEND = {1: 2, 2: 3, 3: 5}  # columns, by panels a row


def plot_bands(
    predictions: Prediction | Mapping[str, Prediction],
    grid: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str] = ("x", "y"),
    gold: str | None = None,
) -> Any:
    """A panel a method: rows, mean, and 2 standard deviations, epistemic and total; the gold's as dashed lines.

    Args:
        predictions: of the rows `grid`; or name -> prediction.
        grid: [B], where the predictions are, in rising order.
        rows: the training rows, (x [N], y [N]).
        names: of the axes.
        gold: name of the prediction that each is compared with.

    Returns:
        The Matplotlib figure.

    Raises:
        InvalidInput: where Matplotlib is absent.

    Example:
        >>> plot_bands(model.predict_distribution(grid[:, None]), grid, (x[:, 0], y))
    """
    predictions = by_name(predictions)
    figure, axes = panels(len(predictions), 3, 3.4, 2.7, sharex=True, sharey=True)
    truth = predictions.get(gold) if gold else None
    for axis, (name, prediction) in zip(axes, predictions.items(), strict=True):
        mean = prediction.mean[:, 0]
        for stddev, shade, label in (
            (prediction.stddev, 0.18, "all"),
            (prediction.epistemic_stddev, 0.4, "of not knowing the weights"),
        ):
            band = 2.0 * stddev[:, 0]
            axis.fill_between(grid, mean - band, mean + band, color=BLUE, alpha=shade, linewidth=0, label=label)
        axis.plot(grid, mean, color=BLUE, linewidth=1.4, label="mean")
        if truth is not None and prediction is not truth:
            for sign in (-2.0, 2.0):
                line = truth.mean[:, 0] + sign * truth.epistemic_stddev[:, 0]
                axis.plot(
                    grid, line, color=ORANGE, linewidth=1.0, linestyle="--", label=f"{gold}'s" if sign > 0 else None
                )
        axis.plot(*rows, ".", color=INK, markersize=3, label="rows")
        axis.set_title(in_lines(name), fontsize=9, loc="left")
    _frame(axes, list(predictions.values()) if truth is None else [truth], rows[1])
    for axis in axes[-min(3, len(axes)) :]:
        axis.set_xlabel(names[0], fontsize=9)
        axis.tick_params(labelbottom=True)
    for axis in axes[::3]:
        axis.set_ylabel(names[1], fontsize=9)
    handles, labels = axes[-1].get_legend_handles_labels()
    columns = LEGEND[min(len(axes), 3)]
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False,
                  title="mean ± 2 standard deviations", title_fontsize=8)  # fmt: skip
    return figure


def _frame(axes: list[Any], predictions: list[Prediction], y: np.ndarray) -> None:
    """Limits that show all rows and nearly all of the bands."""
    bands = [(p.mean - 2 * p.stddev, p.mean + 2 * p.stddev) for p in predictions]
    low = min(y.min(), *(np.quantile(lower, 0.1) for lower, _ in bands))
    high = max(y.max(), *(np.quantile(upper, 0.9) for _, upper in bands))
    axes[0].set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
