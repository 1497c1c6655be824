"""Scores of predictions on rows whose target is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.prediction import Prediction


def score(prediction: Prediction, y: Any, level: float = 0.9) -> dict[str, float]:
    """Scores of a prediction, by name.

    Args:
        prediction: of B rows.
        y: [B] or [B, T], in its units; class indices for classes.
        level: of the interval whose coverage is counted.

    Returns:
        `log_likelihood`: of the predictive mixture, nats a row, higher is better. Regression: `rmse`, `mae` and
        `interval_width` in units of y, `coverage`: share of targets inside the interval. Classes: `accuracy`, and
        `brier`, the mean squared distance of the probabilities from the one-hot class.

    Raises:
        InvalidInput: for a y of another shape, values that are not finite, or indices of no class.
    """
    prediction.likelihood.check_target("y", np.asarray(y))
    shared = {"rows": float(prediction.num_rows), "log_likelihood": float(np.mean(prediction.log_prob(y)))}
    if prediction.likelihood.is_classifier:
        return shared | _of_classes(prediction.probabilities, np.asarray(y).reshape(-1).astype(int))
    return shared | _of_regression(prediction, np.asarray(y, np.float64).reshape(prediction.mean.shape), level)


def _of_regression(prediction: Prediction, y: np.ndarray, level: float) -> dict[str, float]:
    error = prediction.mean - y
    lower, upper = prediction.interval(level)
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "coverage": float(np.mean((lower <= y) & (y <= upper))),
        "interval_width": float(np.mean(upper - lower)),
    }


def _of_classes(probabilities: np.ndarray, y: np.ndarray) -> dict[str, float]:
    one_hot = np.eye(probabilities.shape[1])[y]
    return {
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == y)),
        "brier": float(np.mean(np.sum((probabilities - one_hot) ** 2, axis=1))),
    }
