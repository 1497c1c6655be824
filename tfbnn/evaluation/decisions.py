"""Scores of what is told beside a prediction: conformal sets and intervals, and referrals."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.calibration import Conformal
from tfbnn.decision import CostMatrix, Decision
from tfbnn.prediction import Prediction


def score_decisions(
    prediction: Prediction, y: Any, conformal: Conformal | None = None, decision: Decision | None = None
) -> dict[str, float]:
    """Scores of conformal outputs and decisions, by name; of neither, none.

    Args:
        prediction: of B rows, recalibrated where it shall be.
        y: [B] or [B, 1].
        conformal, decision: fitted.

    Returns:
        `conformal_coverage`: share of rows whose truth is told; `set_size`, classes told on average, or
        `conformal_width`, units of y. `referred`: share of the rows; of the others, where there are
        some, `kept_accuracy` or `kept_rmse`. Of a cost matrix `cost`, a row, `cost_without_referral`, and what one
        answer for all would cost: `cost_of_referring_all`, `cost_of_ACTION`.

    Example:
        >>> score_decisions(prediction, y, decision=tfbnn.decision.refer_share(of_calibration_rows, 0.2))
    """
    y = prediction.check_rows(y).reshape(-1)
    found = {} if conformal is None else _of_conformal(conformal(prediction), y)
    return found if decision is None else found | _of_decision(decision, prediction, y)


def _of_conformal(told: dict[str, np.ndarray], y: np.ndarray) -> dict[str, float]:
    if "prediction_set" in told:
        sets = told["prediction_set"]
        covered = np.take_along_axis(sets, y.astype(int)[:, np.newaxis], axis=1)
        return {"conformal_coverage": float(np.mean(covered)), "set_size": float(np.mean(sets.sum(axis=1)))}
    lower, upper = told["conformal_lower"], told["conformal_upper"]
    inside = (lower <= y.reshape(lower.shape)) & (y.reshape(lower.shape) <= upper)
    return {"conformal_coverage": float(np.mean(inside)), "conformal_width": float(np.mean(upper - lower))}


def _of_decision(decision: Decision, prediction: Prediction, y: np.ndarray) -> dict[str, float]:
    told = decision(prediction)
    abstain = told["abstain"]
    found = {"referred": float(np.mean(abstain)), **_of_kept(prediction, y, ~abstain)}
    if isinstance(decision, CostMatrix):
        found |= _of_costs(decision, told["action"], abstain, y)
    return found


def _of_kept(prediction: Prediction, y: np.ndarray, kept: np.ndarray) -> dict[str, float]:
    if not kept.any():
        return {}
    if prediction.likelihood.is_classifier:
        return {"kept_accuracy": float(np.mean(prediction.probabilities.argmax(axis=1)[kept] == y[kept]))}
    return {"kept_rmse": float(np.sqrt(np.mean((prediction.mean.reshape(-1)[kept] - y[kept]) ** 2)))}


def _of_costs(decision: CostMatrix, action: np.ndarray, abstain: np.ndarray, y: np.ndarray) -> dict[str, float]:
    never = np.zeros(len(y), bool)
    one_for_all = {name: decision.cost([name] * len(y), never, y) for name in decision.costs}
    return {
        "cost": float(decision.cost(action, abstain, y).mean()),
        "cost_without_referral": float(decision.cost(action, never, y).mean()),
        "cost_of_referring_all": decision.refer,
        **{f"cost_of_{name}": float(costs.mean()) for name, costs in one_for_all.items()},
    }
