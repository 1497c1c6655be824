"""How well a score tells inputs of another kind from those of the training data's."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfbnn.core.checks import invalid

PASSED = 0.95  # share of the rows in distribution that are let through


@dataclasses.dataclass(frozen=True)
class Detection:
    """How well a score tells two kinds of rows apart.

    Attributes:
        auroc: probability that a row out of distribution has a higher score than one in it; 0.5 by chance, 1 best.
        aupr_out: average precision with the rows out of distribution as what is looked for; their share by chance.
        aupr_in: the same with the rows in distribution, by minus the score.
        fpr95: share of the rows out of distribution that pass where 95 % of those in distribution do; 0 is best.
    """

    auroc: float
    aupr_out: float
    aupr_in: float
    fpr95: float


def detection(scores_in: Any, scores_out: Any) -> Detection:
    """How well a score tells rows out of distribution from rows in it.

    Args:
        scores_in: of rows in distribution, [B]; any score that is higher where the input is stranger.
        scores_out: of rows out of distribution, [C].

    Returns:
        The `Detection`.

    Raises:
        InvalidInput: for no rows, another shape, or values that are not finite.

    Example:
        >>> detection(mnist.mutual_information, fashion.mutual_information).auroc

    Reference: Hendrycks & Gimpel 2017, section 2; Liang et al. 2018 (ODIN), section 4 (which calls the rows in
    distribution the positives).
    """
    from sklearn import metrics  # not needed to train or predict

    parts = [_checked("scores_in", scores_in), _checked("scores_out", scores_out)]
    scores, is_out = np.concatenate(parts), np.repeat([0, 1], [len(part) for part in parts])
    passed_out, passed_in, _ = metrics.roc_curve(1 - is_out, -scores, drop_intermediate=False)
    return Detection(
        auroc=float(metrics.roc_auc_score(is_out, scores)),
        aupr_out=float(metrics.average_precision_score(is_out, scores)),
        aupr_in=float(metrics.average_precision_score(1 - is_out, -scores)),
        fpr95=float(passed_out[np.argmax(passed_in >= PASSED)]),
    )


def _checked(where: str, scores: Any) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise invalid(where, "finite numbers of shape [B], one row or more", scores)
    return scores
