"""Scores of predictions on rows whose target is known, by the parts that the other files give."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from scipy import stats

from tfbnn.calibration import Conformal
from tfbnn.core.checks import invalid
from tfbnn.decision import Decision
from tfbnn.evaluation.base import Statistic, mean_of, root_mean_of, share_of
from tfbnn.evaluation.bootstrap import Estimate, exact_interval, with_interval, with_intervals
from tfbnn.evaluation.calibration import brier_decomposition, expected_calibration_error
from tfbnn.evaluation.decisions import of_conformal, of_decision
from tfbnn.evaluation.intervals import interval_score
from tfbnn.evaluation.out_of_distribution import Detection, detection
from tfbnn.evaluation.ranked_probability import crps
from tfbnn.evaluation.selective import aurc, excess_aurc
from tfbnn.evaluation.uncertainty import UNCERTAINTIES, uncertainty
from tfbnn.likelihoods import Categorical
from tfbnn.prediction import Prediction
from tfbnn.prediction.pit import pit
from tfbnn.prediction.risk_coverage import certainty, losses


def score(
    prediction: Prediction,
    y: Any,
    level: float = 0.9,
    conformal: Conformal | None = None,
    decision: Decision | None = None,
    detail: bool = False,
) -> dict[str, float]:
    """Scores of a prediction, by name.

    Args:
        prediction: of B rows, recalibrated where it shall be.
        y: [B] or [B, T], in its units; class indices for classes.
        level: of the interval whose coverage is counted.
        conformal, decision: fitted; None: no such outputs.
        detail: more of the same: where calibration is lost, and what an order costs.

    Returns:
        `log_likelihood`: of the predictive mixture, nats a row, higher is better. Regression: `rmse`, `mae`, `crps`,
        `interval_width` and `interval_score` in units of y, `coverage`: share of targets inside the interval, and
        `aurc` of squared errors. Classes: `accuracy`; `brier`, the mean squared distance of the probabilities from
        the one-hot class; `ece`, debiased, in 15 bins of equal width: with the hundreds of rows that are held out,
        what noise adds to the plain one is more than what is measured; `aurc` of errors. And `rows`, their number.

        Of conformal outputs `conformal_coverage`: share of rows whose truth is told; `set_size`, classes told on
        average, or `conformal_width`, units of y. Of a decision `referred`: share of the rows; of the others, where
        there are some, `kept_accuracy` or `kept_rmse`. Of a cost matrix `cost`, a row, `cost_without_referral`, and
        what one answer for all would cost: `cost_of_referring_all`, `cost_of_ACTION`.

        In detail `excess_aurc`; classes: `brier_uncertainty`, `brier_resolution` and `brier_reliability`, `ece_plain`,
        `ece_adaptive` and `ece_classwise`, both debiased; numbers: `pit_distance`, the largest distance of the
        distribution of `pit` from the uniform one (Kolmogorov and Smirnov's).

    Raises:
        InvalidInput: for a y of another shape, values that are not finite, or indices of no class.

    Example:
        >>> score(model.predict_distribution(x_test), y_test)["log_likelihood"]
    """
    parts = _statistics(prediction, y, level, conformal, decision, detail)
    return {"rows": float(prediction.num_rows), **{name: part.value() for name, part in parts.items()}}


def score_intervals(
    prediction: Prediction,
    y: Any,
    level: float = 0.9,
    conformal: Conformal | None = None,
    decision: Decision | None = None,
    detail: bool = False,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Scores of a prediction, by name, each with its bootstrap interval over the rows.

    Args:
        prediction, y, level, conformal, decision, detail: of `score`.
        confidence: of the bootstrap intervals.
        replicates: sets of rows drawn again.
        seed: of the rows drawn.

    Returns:
        The names of `score` but for `rows`, each with its `Estimate`. Scores of the rows that are kept are those of
        such rows drawn again: that another number of them would be kept is in the interval of `referred`. A share that
        is 0 or 1 has Clopper and Pearson's interval; of one row other scores have none.

    Raises:
        InvalidInput: for a y of another shape, values that are not finite, or indices of no class.

    Example:
        >>> print(score_intervals(model.predict_distribution(x_test), y_test)["log_likelihood"])
    """
    statistics = _statistics(prediction, y, level, conformal, decision, detail)
    return {name: _estimate(part, confidence, replicates, seed) for name, part in statistics.items()}


def _estimate(part: Statistic, confidence: float, replicates: int, seed: int) -> Estimate:
    if part.is_share and part.value() in (0.0, 1.0):
        return exact_interval(part.rows[0][:, 0], confidence)  # all are alike, and a row of many targets counts once
    if len(part.rows[0]) == 1:
        return Estimate(part.value(), np.nan, np.nan)
    return with_interval(part.of, *part.rows, level=confidence, replicates=replicates, seed=seed, centred=part.centred)


def score_detection(
    inside: Prediction, outside: Prediction, confidence: float = 0.95, replicates: int = 200, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """How well each kind of uncertainty tells rows of another kind, with bootstrap intervals over both sets of rows.

    Args:
        inside: of rows like those trained on.
        outside: of rows of another kind.
        confidence: of the bootstrap intervals.
        replicates: sets of rows drawn again.
        seed: of the rows drawn.

    Returns:
        Name in `UNCERTAINTIES` -> `auroc`, `aupr_out`, `aupr_in`, `fpr95` of `Detection` -> `Estimate`: of classes
        every name (energy for Categorical alone), of numbers the epistemic variance.

    Raises:
        InvalidInput: for predictions of other likelihoods.

    Example:
        >>> score_detection(draws.predict_distribution(digits), draws.predict_distribution(clothes))
    """
    kinds = [type(prediction.likelihood).__name__ for prediction in (inside, outside)]
    if kinds[0] != kinds[1]:
        raise invalid("outside", f"a prediction of the same model, {kinds[0]}", kinds[1])
    names = [field.name for field in dataclasses.fields(Detection)]
    found = {}
    of_classes = [by for by in UNCERTAINTIES if by != "energy" or isinstance(inside.likelihood, Categorical)]
    for by in of_classes if inside.likelihood.is_classifier else ["epistemic_variance"]:
        estimates = with_intervals(
            lambda a, b: dataclasses.astuple(detection(a, b)), uncertainty(inside, by), uncertainty(outside, by),
            level=confidence, replicates=replicates, seed=seed, separately=True,
        )  # fmt: skip
        found[by] = dict(zip(names, estimates, strict=True))
    return found


def _statistics(
    prediction: Prediction,
    y: Any,
    level: float,
    conformal: Conformal | None,
    decision: Decision | None,
    detail: bool,
) -> dict[str, Statistic]:
    prediction.likelihood.check_target("y", np.asarray(y))
    found = {"log_likelihood": mean_of(prediction.log_prob(y))}
    if prediction.likelihood.is_classifier:
        found |= _of_classes(prediction.probabilities, np.asarray(y).reshape(-1).astype(int), detail)
    else:
        found |= _of_regression(prediction, np.asarray(y, np.float64).reshape(prediction.mean.shape), level, detail)
    ordered = losses(prediction, y), certainty(prediction)
    found |= {"aurc": Statistic(aurc, ordered), **({"excess_aurc": Statistic(excess_aurc, ordered)} if detail else {})}
    if conformal is not None:
        found |= of_conformal(conformal, prediction, prediction.check_rows(y).reshape(-1))
    if decision is not None:
        found |= of_decision(decision, prediction, prediction.check_rows(y).reshape(-1))
    return found


def _of_regression(prediction: Prediction, y: np.ndarray, level: float, detail: bool) -> dict[str, Statistic]:
    error = prediction.mean - y
    lower, upper = prediction.interval(level)
    found = {
        "rmse": root_mean_of(error**2),
        "mae": mean_of(np.abs(error)),
        "crps": mean_of(crps(prediction, y)),
        "coverage": share_of((lower <= y) & (y <= upper)),
        "interval_width": mean_of(upper - lower),
        "interval_score": mean_of(interval_score(lower, upper, y, level)),
    }
    return found | ({"pit_distance": Statistic(_from_uniform, (pit(prediction, y),), centred=True)} if detail else {})


def _from_uniform(u: np.ndarray) -> float:
    return float(stats.kstest(u.reshape(-1), "uniform").statistic)


def _of_classes(probabilities: np.ndarray, y: np.ndarray, detail: bool) -> dict[str, Statistic]:
    one_hot = np.eye(probabilities.shape[1])[y]

    def ece(scheme: str = "equal_width", debiased: bool = True) -> Statistic:
        error = functools.partial(expected_calibration_error, scheme=scheme, debiased=debiased)
        return Statistic(error, (probabilities, y), centred=True)

    found = {
        "accuracy": share_of(probabilities.argmax(axis=1) == y),
        "brier": mean_of(np.sum((probabilities - one_hot) ** 2, axis=1)),
        "ece": ece(),
    }
    if not detail:
        return found
    parts = {f"brier_{name}": Statistic(functools.partial(_brier_part, name), (probabilities, y), centred=True)
             for name in ("uncertainty", "resolution", "reliability")}  # fmt: skip
    return found | parts | {
        "ece_plain": ece(debiased=False), "ece_adaptive": ece("adaptive"), "ece_classwise": ece("classwise")
    }  # fmt: skip


def _brier_part(name: str, probabilities: np.ndarray, y: np.ndarray) -> float:
    return getattr(brier_decomposition(probabilities, y), name)
