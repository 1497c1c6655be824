"""Which rows are hard because the noise is large, and which because the model has not learned them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.plots.base import BLUE, ORANGE, in_lines, legend_above, panels
from tfbnn.prediction import Prediction

MOST_POINTS = 1000  # a picture of more is a blot, and as a page of SVG slow
AXIS = 40  # characters that fit beside it


def plot_uncertainties(prediction: Prediction, y: Any, level: float = 0.9, target: str = "the target") -> Any:
    """Epistemic beside aleatoric uncertainty, a point a row and target; those that were missed in another colour.

    Numbers: standard deviations, and missed are rows outside their interval. Classes: mutual information and expected
    entropy, and missed are rows of another class than the likeliest.

    Args:
        prediction: of B rows; of more than 1,000 points, evenly spaced ones are shown.
        y: [B] or [B, 1]; class indices for classes.
        level: of the intervals.
        target: name of its column.

    Returns:
        The Matplotlib figure.

    Raises:
        InvalidInput: where matplotlib is absent, or y does not fit.

    Example:
        >>> plot_uncertainties(prediction, y).savefig("uncertainties.png")
    """
    prediction.check_rows(y)
    figure, [axis] = panels(1, 1, 4.4, 3.2)
    if prediction.likelihood.is_classifier:
        across, up, unit = prediction.expected_entropy, prediction.mutual_information, "nats"
        missed = prediction.probabilities.argmax(axis=1) != np.asarray(y).reshape(-1)
        words = ("named rightly", "named wrongly")
    else:
        across, up, unit = prediction.aleatoric_stddev, prediction.epistemic_stddev, f"units of {target}"
        lower, upper = prediction.interval(level)
        missed = (np.reshape(y, lower.shape) < lower) | (np.reshape(y, lower.shape) > upper)
        words = ("inside the interval", "outside")
    across, up, missed = (np.reshape(values, -1) for values in (across, up, missed))
    shown = np.unique(np.linspace(0, len(across) - 1, MOST_POINTS).astype(int))
    for label, colour, rows in ((words[0], BLUE, shown[~missed[shown]]), (words[1], ORANGE, shown[missed[shown]])):
        axis.plot(across[rows], up[rows], "o", color=colour, markersize=4, alpha=0.7, label=label)
    axis.set_xlim(left=0.0)
    axis.set_ylim(bottom=0.0)
    axis.set_xlabel(in_lines(f"aleatoric (noise), {unit}", AXIS), fontsize=9)
    axis.set_ylabel(in_lines(f"epistemic (weights), {unit}", AXIS), fontsize=9)
    legend_above(axis, columns=2)
    return figure
