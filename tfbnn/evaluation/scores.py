"""Scores of predictions on rows whose target is known, by the parts that the other files give."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tfbnn.evaluation.bootstrap import Estimate, with_interval
from tfbnn.evaluation.calibration import expected_calibration_error
from tfbnn.evaluation.intervals import interval_score
from tfbnn.evaluation.ranked_probability import crps
from tfbnn.evaluation.selective import aurc
from tfbnn.prediction import Prediction
from tfbnn.prediction.risk_coverage import certainty, losses


def score(prediction: Prediction, y: Any, level: float = 0.9) -> dict[str, float]:
    """Scores of a prediction, by name.

    Args:
        prediction: of B rows.
        y: [B] or [B, T], in its units; class indices for classes.
        level: of the interval whose coverage is counted.

    Returns:
        `log_likelihood`: of the predictive mixture, nats a row, higher is better. Regression: `rmse`, `mae`, `crps`,
        `interval_width` and `interval_score` in units of y, `coverage`: share of targets inside the interval, and
        `aurc` of squared errors. Classes: `accuracy`; `brier`, the mean squared distance of the probabilities from
        the one-hot class; `ece`, debiased, in 15 bins of equal width: with the hundreds of rows that are held out,
        what noise adds to the plain one is more than what is measured; `aurc` of errors. And `rows`, their number.

    Raises:
        InvalidInput: for a y of another shape, values that are not finite, or indices of no class.

    Example:
        >>> score(model.predict_distribution(x_test), y_test)["log_likelihood"]
    """
    found = {name: float(part.statistic(*part.rows)) for name, part in _parts(prediction, y, level).items()}
    return {"rows": float(prediction.num_rows), **found}


def score_intervals(
    prediction: Prediction,
    y: Any,
    level: float = 0.9,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Scores of a prediction, by name, each with its bootstrap interval over the rows.

    Args:
        prediction: of B rows.
        y: [B] or [B, T], in its units; class indices for classes.
        level: of the predictive interval whose coverage is counted.
        confidence: of the bootstrap intervals.
        replicates: sets of rows drawn again.
        seed: of the rows drawn.

    Returns:
        The names of `score` but for `rows`, each with its `Estimate`.

    Raises:
        InvalidInput: for a y of another shape, values that are not finite, or indices of no class.

    Example:
        >>> print(score_intervals(model.predict_distribution(x_test), y_test)["log_likelihood"])
    """
    return {
        name: with_interval(
            part.statistic, *part.rows, level=confidence, replicates=replicates, seed=seed, centred=part.centred
        )
        for name, part in _parts(prediction, y, level).items()
    }


@dataclasses.dataclass(frozen=True)
class _Part:
    """A score as a statistic of what is known of each row."""

    statistic: Callable[..., Any]
    rows: tuple[np.ndarray, ...]
    centred: bool = False


def _mean(values: np.ndarray) -> _Part:
    return _Part(np.mean, (values,))


def _root_mean(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values)))


def _parts(prediction: Prediction, y: Any, level: float) -> dict[str, _Part]:
    prediction.likelihood.check_target("y", np.asarray(y))
    shared = {"log_likelihood": _mean(prediction.log_prob(y))}
    if prediction.likelihood.is_classifier:
        own = _of_classes(prediction.probabilities, np.asarray(y).reshape(-1).astype(int))
    else:
        own = _of_regression(prediction, np.asarray(y, np.float64).reshape(prediction.mean.shape), level)
    return shared | own | {"aurc": _Part(aurc, (losses(prediction, y), certainty(prediction)))}


def _of_regression(prediction: Prediction, y: np.ndarray, level: float) -> dict[str, _Part]:
    error = prediction.mean - y
    lower, upper = prediction.interval(level)
    return {
        "rmse": _Part(_root_mean, (error**2,)),
        "mae": _mean(np.abs(error)),
        "crps": _mean(crps(prediction, y)),
        "coverage": _mean((lower <= y) & (y <= upper)),
        "interval_width": _mean(upper - lower),
        "interval_score": _mean(interval_score(lower, upper, y, level)),
    }


def _of_classes(probabilities: np.ndarray, y: np.ndarray) -> dict[str, _Part]:
    one_hot = np.eye(probabilities.shape[1])[y]
    debiased = functools.partial(expected_calibration_error, debiased=True)
    return {
        "accuracy": _mean(probabilities.argmax(axis=1) == y),
        "brier": _mean(np.sum((probabilities - one_hot) ** 2, axis=1)),
        "ece": _Part(debiased, (probabilities, y), centred=True),
    }
