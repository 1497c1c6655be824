"""Predicted probabilities beside the shares of rows in which what they told of happened."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfbnn.core.checks import invalid, one_of, positive_integer

BINS = 15
BINNINGS = ("equal_width", "adaptive")


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Bins of rows by their confidence, empty ones left out, in rising order.

    Attributes:
        confidence: mean predicted probability of the rows of each bin, [M].
        frequency: share of them in which it happened, [M].
        count: rows in each bin, [M].
    """

    confidence: np.ndarray
    frequency: np.ndarray
    count: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """frequency - confidence, [M]; below 0: too sure."""
        return self.frequency - self.confidence

    @property
    def share(self) -> np.ndarray:
        """n_b / N of each bin, [M]."""
        return self.count / self.count.sum()


def reliability(probabilities: Any, y: Any, bins: int = BINS, scheme: str = "equal_width") -> Reliability:
    """conf_b = (1/n_b) sum_(i in b) p_i and freq_b = (1/n_b) sum_(i in b) 1[it happened] of each bin b.

    Args:
        probabilities: [B, K], whose largest is judged: was the likeliest class the right one? Or [B], of y = 1.
        y: [B], class indices; 0 or 1 for probabilities [B].
        bins: M, at most.
        scheme: "equal_width": of [0, 1]; "adaptive": as many rows in each as in any other, equal values together.

    Returns:
        The `Reliability`.

    Raises:
        InvalidInput: for shapes that do not fit, values that are no probabilities or no classes, an unknown scheme.

    Example:
        >>> reliability(prediction.probabilities, y).gap

    Reference: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2; Nguyen & O'Connor 2015.
    """
    probabilities, y = check_classes(probabilities, y)
    if probabilities.ndim == 1:
        return binned(probabilities, y == 1, bins, scheme)
    return binned(probabilities.max(axis=1), probabilities.argmax(axis=1) == y, bins, scheme)


def check_classes(probabilities: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities float64 [B, K] or [B] and class indices [B]; raises unless they are such."""
    probabilities, y = np.asarray(probabilities, np.float64), np.asarray(y).reshape(-1)
    if probabilities.ndim not in (1, 2) or not probabilities.size:
        raise invalid(
            "probabilities", "shape [B, K], or [B] for y = 1, with one row or more", list(probabilities.shape)
        )
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-5)).all():
        raise invalid("probabilities", "numbers between 0 and 1", probabilities)
    if len(y) != len(probabilities):
        raise invalid("y", f"{len(probabilities)} rows, as the probabilities have", f"{len(y)} rows")
    last = 1 if probabilities.ndim == 1 else probabilities.shape[1] - 1
    if not np.isin(y, np.arange(last + 1)).all():
        raise invalid("y", f"class indices 0 ... {last}", np.unique(y))
    return probabilities, y.astype(int)


def binned(p: np.ndarray, happened: np.ndarray, bins: int = BINS, scheme: str = "equal_width") -> Reliability:
    """The bins of probabilities p [B] of what happened [B] or did not."""
    number = bin_numbers(p, bins, scheme)
    count = np.bincount(number, minlength=bins)
    filled = count > 0
    sums = [np.bincount(number, weights=values, minlength=bins)[filled] for values in (p, happened)]
    return Reliability(sums[0] / count[filled], sums[1] / count[filled], count[filled])


def bin_numbers(p: np.ndarray, bins: int, scheme: str) -> np.ndarray:
    """Which of the bins 0 ... bins - 1 each probability lies in, [B]; an edge belongs to the bin below it."""
    positive_integer("bins", bins)
    one_of("scheme", scheme, BINNINGS)
    shares = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    edges = shares if scheme == "equal_width" else np.quantile(p, shares, method="inverted_cdf")
    return np.searchsorted(edges, p, side="left")
