"""Scores of what is told beside a prediction: conformal sets and intervals, and referrals."""

from __future__ import annotations

import numpy as np

from tfbnn.calibration import Conformal
from tfbnn.decision import CostMatrix, Decision
from tfbnn.evaluation.base import Statistic, mean_of, root_mean_of, share_of
from tfbnn.prediction import Prediction


def of_conformal(conformal: Conformal, prediction: Prediction, y: np.ndarray) -> dict[str, Statistic]:
    """Share of rows whose truth is told, and how much is told: names as in `score`."""
    told = conformal(prediction)
    if "prediction_set" in told:
        sets = told["prediction_set"]
        covered = np.take_along_axis(sets, y.astype(int)[:, np.newaxis], axis=1)[:, 0]
        return {"conformal_coverage": share_of(covered), "set_size": mean_of(sets.sum(axis=1))}
    lower, upper = told["conformal_lower"], told["conformal_upper"]
    inside = (lower <= y.reshape(lower.shape)) & (y.reshape(lower.shape) <= upper)
    return {"conformal_coverage": share_of(inside), "conformal_width": mean_of(upper - lower)}


def of_decision(decision: Decision, prediction: Prediction, y: np.ndarray) -> dict[str, Statistic]:
    """How much is referred, how good the rest is, and what it costs: names as in `score`."""
    told = decision(prediction)
    abstain = told["abstain"]
    found = {"referred": share_of(abstain), **_of_kept(prediction, y, ~abstain)}
    if isinstance(decision, CostMatrix):
        found |= _of_costs(decision, told["action"], abstain, y)
    return found


def _of_kept(prediction: Prediction, y: np.ndarray, kept: np.ndarray) -> dict[str, Statistic]:
    if not kept.any():
        return {}
    if prediction.likelihood.is_classifier:
        return {"kept_accuracy": share_of(prediction.probabilities.argmax(axis=1)[kept] == y[kept])}
    return {"kept_rmse": root_mean_of((prediction.mean.reshape(-1)[kept] - y[kept]) ** 2)}


def _of_costs(decision: CostMatrix, action: np.ndarray, abstain: np.ndarray, y: np.ndarray) -> dict[str, Statistic]:
    never = np.zeros(len(y), bool)
    one_for_all = {name: decision.cost([name] * len(y), never, y) for name in decision.costs}
    return {
        "cost": mean_of(decision.cost(action, abstain, y)),
        "cost_without_referral": mean_of(decision.cost(action, never, y)),
        "cost_of_referring_all": mean_of(np.full(len(y), decision.refer)),
        **{f"cost_of_{name}": mean_of(costs) for name, costs in one_for_all.items()},
    }
