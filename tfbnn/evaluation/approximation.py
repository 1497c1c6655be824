"""How far an approximate posterior's predictions are from the true one's (long Markov chains)."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfbnn.core.checks import invalid
from tfbnn.prediction import Prediction

GRID = 401  # points on which distribution functions are compared


def agreement(prediction: Prediction, gold: Prediction) -> float:
    """Share of the rows in which both name the same class as the likeliest; higher is better.

    Reference: Izmailov et al. 2021, "What are Bayesian neural network posteriors really like?", section 6.
    """
    return float(np.mean(prediction.probabilities.argmax(axis=1) == gold.probabilities.argmax(axis=1)))


def total_variation(prediction: Prediction, gold: Prediction) -> np.ndarray:
    """1/2 sum_k |p(k) - g(k)| of each row, or 1/2 integral |p(y) - g(y)| dy for numbers: 0 equal, 1 disjoint; [B].

    Args:
        prediction: of B rows, one target a row.
        gold: of the same rows.

    Reference: Izmailov et al. 2021, section 6.
    """
    if prediction.likelihood.is_classifier:
        return 0.5 * np.abs(prediction.probabilities - gold.probabilities).sum(axis=1)
    if prediction.mean.shape[1] != 1:
        raise invalid("prediction", "one target a row", f"{prediction.mean.shape[1]} targets")
    grid = _grid(prediction, gold)
    if prediction.likelihood.is_discrete:
        masses = [_masses(one, grid) for one in (prediction, gold)]
        return 0.5 * np.abs(masses[0] - masses[1]).sum(axis=0)
    cumulative = [np.stack([one.cdf(points) for points in grid])[..., 0] for one in (prediction, gold)]
    steps = [np.diff(F, axis=0, prepend=0.0) for F in cumulative]
    rest = np.abs(cumulative[0][-1] - cumulative[1][-1])
    return 0.5 * (np.abs(steps[0] - steps[1]).sum(axis=0) + rest)


def _grid(*predictions: Prediction) -> np.ndarray:
    """[GRID, B, 1] values of y that hold nearly all of the mass of all; whole numbers for counts."""
    ends = np.stack([one.quantile([1e-3, 1.0 - 1e-3]) for one in predictions])
    low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    if predictions[0].likelihood.is_discrete:
        return np.arange(low.min(), high.max() + 1)[:, None, None] * np.ones_like(low)
    return np.linspace(low, high, GRID)


def _masses(prediction: Prediction, grid: np.ndarray) -> np.ndarray:
    return np.stack([np.exp(prediction.log_prob(points)) for points in grid])


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far predictions of rows are from the gold ones.

    Attributes:
        total_variation: mean over the rows.
        mean_error: root mean square of (mean - gold mean) / gold standard deviation.
        spread: geometric mean of epistemic standard deviation / gold's: below 1 too sure, above 1 too cautious.
    """

    total_variation: float
    mean_error: float
    spread: float


def distance(prediction: Prediction, gold: Prediction) -> Distance:
    """Of a prediction from the gold one of the same rows."""
    error = (prediction.mean - gold.mean) / gold.stddev
    tiny = np.finfo(np.float32).tiny
    ratios = np.maximum(prediction.epistemic_stddev, tiny) / np.maximum(gold.epistemic_stddev, tiny)
    return Distance(
        total_variation=float(np.mean(total_variation(prediction, gold))),
        mean_error=float(np.sqrt(np.mean(error**2))),
        spread=float(np.exp(np.mean(np.log(ratios)))),
    )
