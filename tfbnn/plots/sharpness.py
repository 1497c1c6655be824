"""How much is left open, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.plots.base import BLUE, INK, in_lines, legend_above, panels
from tfbnn.prediction import Prediction

BINS = 24
AXIS = 50  # characters that fit below it


def plot_sharpness(prediction: Prediction, level: float = 0.9, target: str = "the target") -> Any:
    """Histogram of the widths of the intervals, or of the predictive entropies of classes; further left is sharper.

    Sharpness is worth something where the prediction is calibrated alone.

    Args:
        prediction: of B rows.
        level: of the intervals.
        target: name of its column.

    Returns:
        The Matplotlib figure.

    Raises:
        InvalidInput: where matplotlib is absent.

    Example:
        >>> plot_sharpness(prediction).savefig("sharpness.png")

    Reference: Gneiting, Balabdaoui & Raftery 2007, section 3.3.
    """
    figure, [axis] = panels(1, 1, 4.4, 2.8)
    if prediction.likelihood.is_classifier:
        values, most = prediction.predictive_entropy, np.log(prediction.probabilities.shape[1])
        axis.axvline(most, color=INK, linewidth=1.0, linestyle="--", label="all classes alike")
        axis.set_xlabel("predictive entropy, nats (0: sure)", fontsize=9)
    else:
        lower, upper = prediction.interval(level)
        values = np.reshape(upper - lower, -1)
        axis.axvline(values.mean(), color=INK, linewidth=1.0, linestyle="--", label="mean")
        axis.set_xlabel(in_lines(f"width of the {level:.0%} interval, units of {target}", AXIS), fontsize=9)
        most = 1.05 * values.max()
    axis.hist(values, bins=BINS, range=(0.0, float(most)) if most > 0 else None, color=BLUE, rwidth=0.92, label="rows")
    axis.set_xlim(left=0.0)
    axis.set_ylabel("rows", fontsize=9)
    legend_above(axis, columns=2)
    return figure
