"""Where in their predictive distributions the targets came to lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.plots.base import BLUE, GREY, legend_above, panels
from tfbnn.prediction import Prediction
from tfbnn.prediction.pit import pit

BINS = 10
Z = 1.96  # standard errors of a 95 % interval


def plot_pit(prediction: Prediction, y: Any, bins: int = BINS, seed: int = 0) -> Any:
    """Histogram of u = F(y), flat where the predictive distributions are right.

    Piled up at both ends: too sure; in the middle: too cautious; at one end: shifted.

    Args:
        prediction: of B rows; no classes.
        y: [B] or [B, T], in its units.
        bins: of equal width.
        seed: of the noise that counts need.

    Returns:
        The Matplotlib figure.

    Raises:
        InvalidInput: for classes, a y that does not fit, or where matplotlib is absent.

    Example:
        >>> plot_pit(prediction, y).savefig("pit.png")

    Reference: Gneiting, Balabdaoui & Raftery 2007, "Probabilistic Forecasts, Calibration and Sharpness", section 3.1.
    """
    u = pit(prediction, y, seed).reshape(-1)
    figure, [axis] = panels(1, 1, 4.4, 2.8)
    expected = len(u) / bins
    half = Z * np.sqrt(expected * (1.0 - 1.0 / bins))
    axis.axhspan(max(expected - half, 0), expected + half, color=GREY, alpha=0.2, linewidth=0, label="95 % band")
    axis.axhline(expected, color=GREY, linewidth=1.0, linestyle="--", label="expected")
    axis.hist(u, bins=bins, range=(0, 1), color=BLUE, rwidth=0.92, label="targets")
    axis.set_xlim(0, 1)
    axis.set_xlabel("probability that was given to values below the target", fontsize=9)
    axis.set_ylabel("targets in the bin", fontsize=9)
    legend_above(axis, columns=3)
    return figure
