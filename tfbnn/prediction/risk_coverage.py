"""The risk of the rows that are kept, where the least certain ones are referred to somebody else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfbnn.core.checks import invalid
from tfbnn.prediction.prediction import Prediction


@dataclasses.dataclass(frozen=True)
class RiskCoverage:
    """What is lost on average in the most certain rows, for each number of them.

    Attributes:
        coverage: share of the rows that are kept, k/B for k = 1 ... B, [B].
        risk: mean loss of the k most certain rows, [B]; of rows equally certain, the mean over their orders.
    """

    coverage: np.ndarray
    risk: np.ndarray


def risk_coverage(loss: Any, certainty: Any) -> RiskCoverage:
    """r(k/B) = (1/k) sum of the losses of the k most certain rows.

    Args:
        loss: of each row, [B].
        certainty: any score that is higher where the model is surer, [B].

    Raises:
        InvalidInput: for shapes that do not fit, no rows, or values that are not finite.

    Example:
        >>> curve = risk_coverage(losses(prediction, y), certainty(prediction))

    Reference: Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks", section 2.
    """
    loss, certainty = _row("loss", loss), _row("certainty", certainty)
    if len(loss) != len(certainty):
        raise invalid("certainty", f"{len(loss)} rows, as the losses have", f"{len(certainty)} rows")
    _, group, size = np.unique(-certainty, return_inverse=True, return_counts=True)
    of_group = np.bincount(group, weights=loss) / size  # ties: each order is as likely, so each row loses the mean
    kept = np.arange(1, len(loss) + 1)
    return RiskCoverage(kept / len(loss), np.cumsum(np.repeat(of_group, size)) / kept)


def _row(where: str, values: Any) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise invalid(where, "finite numbers of shape [B], one row or more", values)
    return values


def losses(prediction: Prediction, y: Any) -> np.ndarray:
    """What each row costs, [B]: 0 or 1 for the likeliest class; the squared error, mean over the targets, of numbers.

    Args:
        prediction: of B rows.
        y: [B] or [B, T], in its units; class indices for classes.

    Raises:
        InvalidInput: for a y of another number of rows, or values that the likelihood cannot have.
    """
    y = prediction.check_rows(y)
    if prediction.likelihood.is_classifier:
        return (prediction.probabilities.argmax(axis=1) != y.reshape(-1)).astype(np.float64)
    error = prediction.mean - np.asarray(y, np.float64).reshape(prediction.mean.shape)
    return np.mean(error**2, axis=1)


def certainty(prediction: Prediction) -> np.ndarray:
    """How sure of each row, [B]: the largest probability of classes; of numbers, minus the expected squared error."""
    if prediction.likelihood.is_classifier:
        return prediction.probabilities.max(axis=1).astype(np.float64)
    return -np.mean(prediction.variance.astype(np.float64), axis=1)
