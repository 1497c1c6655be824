"""The continuous ranked probability score."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.core.checks import invalid
from tfbnn.evaluation.base import expected_distance
from tfbnn.prediction import Prediction

MOST_PAIRS = 2**24  # of components and rows that are held at once
SAMPLES = 1000


def crps(prediction: Prediction, y: Any, seed: int = 0) -> np.ndarray:
    """CRPS = integral of (F(z) - 1[y <= z])^2 dz of each target, in units of y; lower is better.

    Exact for mixtures of normals, (1/S) sum_i A(y - m_i, s_i^2) - (1/2S^2) sum_ij A(m_i - m_j, s_i^2 + s_j^2) with
    A(d, v) = 2 sqrt(v) phi(d / sqrt(v)) + d (2 Phi(d / sqrt(v)) - 1); else from 1,000 sorted samples z_(k),
    (2/n) sum_k (z_(k) - y) (1[y < z_(k)] - (k - 1/2) / n).

    Args:
        prediction: of B rows; no classes.
        y: [B] or [B, T].
        seed: of the samples.

    Returns:
        [B, T].

    Example:
        >>> crps(model.predict_distribution(x), y).mean()

    Reference: Gneiting & Raftery 2007; Grimit et al. 2006, equation 5; Laio & Tamea 2007.
    """
    if prediction.likelihood.is_classifier:
        raise invalid("prediction", "one of numbers; for classes there is the Brier score", prediction)
    y = prediction.check_rows(y).astype(np.float64).reshape(prediction.mean.shape)
    if type(prediction.likelihood).__name__ in ("Normal", "HeteroscedasticNormal"):
        loc, scale = np.split(prediction.parameters.astype(np.float64), 2, axis=-1)
        return _of_normals(loc, scale, y)
    return _of_samples(np.sort(prediction.sample(SAMPLES, seed).astype(np.float64), axis=0), y)


def _of_normals(loc: np.ndarray, scale: np.ndarray, y: np.ndarray) -> np.ndarray:
    rows = max(1, MOST_PAIRS // (len(loc) ** 2 * y.shape[1]))
    parts = [slice(i, i + rows) for i in range(0, len(y), rows)]
    return np.concatenate([_of_few(loc[:, part], scale[:, part], y[part]) for part in parts])


def _of_few(loc: np.ndarray, scale: np.ndarray, y: np.ndarray) -> np.ndarray:
    to_y = expected_distance(y - loc, scale**2).mean(axis=0)
    i, j = np.triu_indices(len(loc), 1)  # each pair once: A is even in d
    pairs = expected_distance(loc[i] - loc[j], scale[i] ** 2 + scale[j] ** 2).sum(axis=0)
    own = expected_distance(np.zeros_like(loc), 2.0 * scale**2).sum(axis=0)
    return to_y - 0.5 * (2.0 * pairs + own) / len(loc) ** 2


def _of_samples(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    n = len(z)
    ranks = ((np.arange(n) + 0.5) / n).reshape(n, 1, 1)
    return 2.0 / n * np.sum((z - y) * ((y < z) - ranks), axis=0)
