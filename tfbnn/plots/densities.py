"""The predictive distributions of some rows, and of each draw of the weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfbnn.core.checks import invalid, whole_number
from tfbnn.plots.base import BLUE, INK, ORANGE, panels
from tfbnn.prediction import Prediction

POINTS = 200
DRAWS_SHOWN = 20
TAIL = 0.002  # probability beyond each end of the axis


def plot_densities(prediction: Prediction, rows: Sequence[int] = (0, 1, 2), y: Any = None) -> Any:
    """A panel a row: the density of the target, that of single draws as thin lines, and the target where it is known.

    How far the thin lines lie apart is epistemic; how wide each is, aleatoric. Classes and counts get bars.

    Args:
        prediction: of B rows, one target each.
        rows: which, 0 ... B - 1.
        y: [B] or [B, 1]; class indices for classes.

    Returns:
        The Matplotlib figure.

    Raises:
        InvalidInput: for rows that there are not, several targets, or where matplotlib is absent.

    Example:
        >>> plot_densities(prediction, rows=prediction.stddev[:, 0].argsort()[[0, -1]], y=y).savefig("densities.png")
    """
    rows = [_checked(row, prediction.num_rows) for row in rows]
    if not rows:
        raise invalid("rows", "one row or more", rows)
    if prediction.likelihood.num_targets != 1:
        raise invalid("prediction", "one target a row", f"{prediction.likelihood.num_targets} targets")
    targets = None if y is None else np.asarray(y).reshape(-1)
    figure, axes = panels(len(rows), 3, 3.2, 2.4)
    for axis, row in zip(axes, rows, strict=True):
        _draw_row(axis, Prediction(prediction.parameters[:, [row]], prediction.likelihood))
        if targets is not None:
            _mark(axis, targets[row], with_line=_is_dense(prediction))
        axis.set_title(f"row {row}", fontsize=9, loc="left")
        axis.set_ylim(bottom=0)
    figure.supxlabel("class" if prediction.likelihood.is_classifier else "target", fontsize=9)
    figure.supylabel("density" if _is_dense(prediction) else "probability", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


def _checked(row: Any, num_rows: int) -> int:
    number = whole_number(row)
    if number is None or not 0 <= number < num_rows:
        raise invalid("rows", f"whole numbers 0 ... {num_rows - 1}", row)
    return number


def _is_dense(prediction: Prediction) -> bool:
    return not (prediction.likelihood.is_classifier or prediction.likelihood.is_discrete)


def _draw_row(axis: Any, row: Prediction) -> None:
    """The mixture, and some of its draws, of one row."""
    if row.likelihood.is_classifier:
        values = np.arange(row.probabilities.shape[1])
        axis.set_xticks(values)
    else:
        low, high = row.quantile([TAIL, 1 - TAIL])[:, 0, 0]
        values = np.linspace(low, high, POINTS) if _is_dense(row) else np.arange(low, high + 1)
    alone = [Prediction(parameters[None], row.likelihood) for parameters in row.parameters[:DRAWS_SHOWN]]
    for i, draw in enumerate(alone):
        label = "single draws of the weights" if i == 0 else None
        axis.plot(values, _density(draw, values), color=INK, alpha=0.35, linewidth=0.6, label=label, zorder=3,
                  **({} if _is_dense(row) else {"linestyle": "none", "marker": "_", "markersize": 8}))  # fmt: skip
    if _is_dense(row):
        axis.fill_between(values, _density(row, values), color=BLUE, alpha=0.45, linewidth=0, label="all draws")
    else:
        axis.bar(values, _density(row, values), color=BLUE, alpha=0.6, width=0.8, label="all draws")


def _mark(axis: Any, target: float, with_line: bool) -> None:
    """The target: a line through the density, or, where it would hide a bar, a mark above it."""
    if with_line:
        axis.axvline(target, color=ORANGE, linewidth=1.6, label="the target")
        return
    above = axis.get_xaxis_transform()
    axis.plot(target, 1.02, "v", transform=above, color=ORANGE, clip_on=False, linestyle="none", label="the target")


def _density(row: Prediction, values: np.ndarray) -> np.ndarray:
    """p(y) of one row at each of the values."""
    repeated = Prediction(np.repeat(row.parameters, len(values), axis=1), row.likelihood)
    return np.exp(repeated.log_prob(values))
