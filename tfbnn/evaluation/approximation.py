"""How far an approximate posterior's predictions are from the true one's (long Markov chains)."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfbnn.core.checks import invalid
from tfbnn.prediction import Prediction

LEVELS = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)  # of the quantiles between which points lie close
POINTS_BETWEEN = 24
SMALLEST = 1e-6  # standard deviation below which a spread counts as none


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
    cumulative = [np.stack([one.cdf(points) for points in grid])[..., 0] for one in (prediction, gold)]
    steps = [np.diff(F, axis=0, prepend=0.0) for F in cumulative]
    rest = np.abs(cumulative[0][-1] - cumulative[1][-1])
    return 0.5 * (np.abs(steps[0] - steps[1]).sum(axis=0) + rest)


def _grid(*predictions: Prediction) -> np.ndarray:
    """[G, B, 1] values of y, in rising order, dense where the mass of each prediction is; of counts, whole numbers."""
    knots = np.sort(np.concatenate([one.quantile(LEVELS) for one in predictions]).astype(np.float64), axis=0)
    share = np.linspace(0.0, 1.0, POINTS_BETWEEN, endpoint=False).reshape(1, -1, 1, 1)
    between = knots[:-1, None] + share * np.diff(knots, axis=0)[:, None]
    grid = np.concatenate([between.reshape(-1, *knots.shape[1:]), knots[-1:]])
    return np.round(grid) if predictions[0].likelihood.is_discrete else grid


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far predictions of rows are from the gold ones.

    Attributes:
        total_variation: mean over the rows.
        mean_error: root mean square, over the rows, of mean - gold mean, in gold standard deviations; of classes, of
            the probabilities' difference.
        spread: mean epistemic standard deviation over the gold's (of numbers: the geometric mean of the rows' ratios):
            below 1 too sure, above 1 too cautious.
    """

    total_variation: float
    mean_error: float
    spread: float


def distance(prediction: Prediction, gold: Prediction) -> Distance:
    """Of a prediction from the gold one of the same rows."""
    error = prediction.mean - gold.mean
    own, its = (np.maximum(one.epistemic_stddev, SMALLEST) for one in (prediction, gold))
    if prediction.likelihood.is_classifier:  # where all are sure, a row's ratio tells nothing
        spread = own.mean() / its.mean()
    else:
        error, spread = error / gold.stddev, np.exp(np.mean(np.log(own / its)))
    return Distance(
        total_variation=float(np.mean(total_variation(prediction, gold))),
        mean_error=float(np.sqrt(np.mean(error**2))),
        spread=float(spread),
    )
