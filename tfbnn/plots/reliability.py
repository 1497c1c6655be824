"""Whether what is told with probability p happens in a share p of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfbnn.plots.base import BLUE, GREY, INK, ORANGE, legend_above, panels
from tfbnn.prediction import Prediction
from tfbnn.prediction.pit import pit
from tfbnn.prediction.reliability import Reliability, reliability

BINS = 10
Z = 1.96  # standard errors of a 95 % interval


def plot_reliability(
    prediction: Prediction,
    y: Any,
    bins: int = BINS,
    scheme: str = "equal_width",
    labels: Sequence[str] = ("class 0", "class 1"),
) -> Any:
    """Frequency beside the predicted probability; on the diagonal both are the same.

    Two classes: of the second one. More: of the likeliest. Both with 95 % intervals of the frequencies (Wilson) and
    the number of rows below. Numbers: the share of targets below the quantile that was to hold a share q of them.

    Args:
        prediction: of B rows.
        y: [B] or [B, T]; class indices for classes.
        bins: of equal width or of equally many rows; classes only.
        scheme: "equal_width" or "adaptive".
        labels: names of two classes.

    Returns:
        The Matplotlib figure.

    Raises:
        InvalidInput: where matplotlib is absent, or y does not fit.

    Example:
        >>> plot_reliability(prediction, y).savefig("reliability.png")

    Reference: Guo et al. 2017, figure 1; Kuleshov, Fenner & Ermon 2018, section 3.5, for numbers.
    """
    prediction.check_rows(y)
    if not prediction.likelihood.is_classifier:
        return _of_numbers(pit(prediction, y))
    probabilities = prediction.probabilities
    two = probabilities.shape[1] == 2
    found = reliability(probabilities[:, 1] if two else probabilities, y, bins, scheme)
    words = (
        (labels[1], f"share of rows with\n{labels[1]}")
        if two
        else ("the likeliest class", "share in which it was right")
    )
    return _of_classes(found, *words)


def _of_classes(found: Reliability, what: str, share: str) -> Any:
    figure, (upper, lower) = panels(2, 1, 4.2, 2.3, sharex=True, height_ratios=(3, 1))
    _diagonal(upper)
    below, above = _wilson(found)
    upper.vlines(found.confidence, below, above, color=BLUE, linewidth=1.2, alpha=0.7, label="95 % interval")
    upper.plot(found.confidence, found.frequency, "o", color=BLUE, markersize=5, clip_on=False, zorder=3)
    upper.set_ylabel(share, fontsize=9)
    legend_above(upper, columns=2)
    lower.bar(found.confidence, found.count, width=0.02, color=INK, clip_on=False)
    lower.set_ylim(bottom=0)
    lower.set_ylabel("rows", fontsize=9)
    lower.set_xlabel(f"predicted probability of {what}", fontsize=9)
    return figure


def _wilson(found: Reliability) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals of the frequencies: (f + z^2/2n +- z sqrt(f (1 - f)/n + z^2/4n^2)) / (1 + z^2/n)."""
    f, n = found.frequency, found.count
    middle, half = f + Z**2 / (2 * n), Z * np.sqrt(f * (1 - f) / n + Z**2 / (4 * n**2))
    return (middle - half) / (1 + Z**2 / n), (middle + half) / (1 + Z**2 / n)


def _of_numbers(u: np.ndarray) -> Any:
    """The empirical distribution function of the PIT values u [B, T]; of several targets, a line each."""
    figure, [axis] = panels(1, 1, 4.2, 3.8)
    _diagonal(axis)
    q = np.linspace(0.0, 1.0, 101)
    half = Z * np.sqrt(q * (1 - q) / len(u))
    axis.fill_between(q, q - half, q + half, color=GREY, alpha=0.2, linewidth=0, label="95 % band")
    for t in range(u.shape[1]):
        below = np.searchsorted(np.sort(u[:, t]), q, side="right") / len(u)
        axis.plot(q, below, color=(BLUE, ORANGE)[t % 2], linewidth=1.4, label="targets" if t == 0 else None)
    axis.set_xlabel("probability that the target lies below", fontsize=9)
    axis.set_ylabel("share of targets that do", fontsize=9)
    legend_above(axis, columns=3)
    return figure


def _diagonal(axis: Any) -> None:
    axis.plot((0, 1), (0, 1), color=GREY, linewidth=1.0, linestyle="--", label="perfectly calibrated")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
