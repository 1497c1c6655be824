"""Selective prediction: what is left of the risk where the least certain rows are referred to somebody else."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.core.checks import finite_number, invalid
from tfbnn.prediction.risk_coverage import risk_coverage


def aurc(loss: Any, certainty: Any) -> float:
    """AURC = (1/B) sum_k r(k/B), the mean risk over all coverages, in units of the loss; lower is better.

    Args:
        loss: of each row, [B]: 0 or 1, a cost, a squared error.
        certainty: any score that is higher where the model is surer, [B].

    Raises:
        InvalidInput: for shapes that do not fit, or values that are not finite.

    Example:
        >>> aurc(losses(prediction, y), certainty(prediction))

    Reference: Geifman, Uziel & El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation", section 3; its curve is that of
    Geifman & El-Yaniv 2017.
    """
    return float(np.mean(risk_coverage(loss, certainty).risk))


def excess_aurc(loss: Any, certainty: Any) -> float:
    """E-AURC = AURC - AURC of the best order, that of the losses themselves: what the order of certainty costs.

    Args:
        loss: of each row, [B].
        certainty: any score that is higher where the model is surer, [B].

    Example:
        >>> excess_aurc(losses(prediction, y), certainty(prediction))

    Reference: Geifman, Uziel & El-Yaniv 2019, equation 4.
    """
    return aurc(loss, certainty) - aurc(loss, -np.asarray(loss, np.float64))


def risk_at(loss: Any, certainty: Any, referred: float = 0.2) -> float:
    """The mean loss of the rows that are kept where a share of all, the least certain, is referred.

    Args:
        loss: of each row, [B].
        certainty: any score that is higher where the model is surer, [B].
        referred: share of the rows, rounded down to whole rows; 0 or more, below 1.

    Raises:
        InvalidInput: for a share that refers everything, or values that do not fit.

    Example:
        >>> risk_at(losses(prediction, y), certainty(prediction), referred=0.2)
    """
    referred = finite_number("referred", referred, smallest=0.0)
    if referred >= 1.0:
        raise invalid("referred", "a share below 1, which leaves rows to keep", referred)
    risk = risk_coverage(loss, certainty).risk
    return float(risk[len(risk) - 1 - int(referred * len(risk) + 1e-9)])
