"""What is gained where the least certain rows go to somebody who knows more."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from tfbnn.core.wording import as_known, scores_in_words
from tfbnn.decision import CostMatrix
from tfbnn.evaluation import certainty, losses, risk_at, with_interval
from tfbnn.plots import plot_risk_coverage
from tfbnn.report.base import Block, Picture, Section, Table, Text
from tfbnn.report.evidence import Evidence
from tfbnn.report.quality import CONFORMAL

SHARES = (0.0, 0.1, 0.2, 0.3, 0.5)
REPLICATES = 200


def referral(evidence: Evidence) -> Section:
    """Risk of the rows that are kept; of a decision, what it gained."""
    sure = _certainty(evidence)
    draw = functools.partial(
        plot_risk_coverage, evidence.prediction, evidence.y, sure, _kept(evidence), evidence.target
    )
    words = (
        "From right to left more rows are referred, the least certain first. Lower is better; a flat line says that "
    )
    picture = Picture(draw, words + "certainty does not tell the good predictions from the bad.")
    return Section("Who should decide", [*_of_decision(evidence), *_of_shares(evidence, sure), picture])


def _kept(evidence: Evidence) -> float | None:
    return None if evidence.decision is None else 1.0 - evidence.decided["referred"]


def _certainty(evidence: Evidence) -> np.ndarray:
    """By the decision's own uncertainty where there is one."""
    if evidence.decision is None:
        return certainty(evidence.prediction)
    return -np.asarray(evidence.decision(evidence.prediction)["uncertainty"], np.float64)


def _of_decision(evidence: Evidence) -> list[Block]:
    if evidence.decision is None:
        return [Text("The model answers every row. The table tells what referring the least certain would gain.")]
    found = {name: value for name, value in evidence.decided.items() if name not in CONFORMAL}
    lines = scores_in_words(found, evidence.level, rounded=as_known, target=evidence.target)
    all_rows = "accuracy" if evidence.is_classifier else "rmse"
    beside = scores_in_words(
        {all_rows: evidence.scores[all_rows].value}, evidence.level, rounded=as_known, target=evidence.target
    )
    return [
        Text(gained(evidence)),
        Table(("with referral", "value"), [*lines, [f"{beside[0][0]}, all rows", beside[0][1]]]),
    ]


def gained(evidence: Evidence) -> str:
    """What the decision brought, in words."""
    found, decision = evidence.decided, evidence.decision
    if decision is None:
        return ""
    share = found["referred"]
    what = "the least expected cost" if isinstance(decision, CostMatrix) else f"the {decision.by.replace('_', ' ')}"  # type: ignore[attr-defined]
    told = f"It refers rows of which {what} is above {decision.threshold:.3g}: {share:.1%} of these."
    if share in (0.0, 1.0):
        return f"{told} So it makes no difference: " + ("none are referred." if share == 0.0 else "all are referred.")
    if isinstance(decision, CostMatrix):
        others = {"acting on all": found["cost_without_referral"], "referring all": found["cost_of_referring_all"]}
        beside = ", ".join(f"{cost:.3f} by {name}" for name, cost in others.items())
        better = found["cost"] < min(others.values())
        verdict = "cheaper than both" if better else "not cheaper than both on these rows"
        return f"{told} The decisions cost {found['cost']:.3f} a row, {beside}: {verdict}."
    if evidence.is_classifier:
        of_kept, of_all = 1 - found["kept_accuracy"], 1 - evidence.scores["accuracy"].value
        return f"{told} Of the others {of_kept:.1%} are wrong, of all rows {of_all:.1%}."
    rmse = evidence.scores["rmse"]
    kept = as_known([found["kept_rmse"], rmse.lower, rmse.upper], is_share=False)[0]
    all_rows = as_known([rmse.value, rmse.lower, rmse.upper], is_share=False)[0]
    return f"{told} The root mean squared error of the others is {kept}, of all rows {all_rows}."


def _of_shares(evidence: Evidence, sure: np.ndarray) -> list[Block]:
    """Risk of the rest where such a share is referred, with its interval."""
    loss = losses(evidence.prediction, evidence.y)
    shares = [share for share in SHARES if not share or evidence.num_rows * share >= 1]
    risks = [with_interval(_risk(evidence, share), loss, sure, replicates=REPLICATES) for share in shares]
    half = (risks[0].upper - risks[0].lower) / 2
    cells = [as_known([risk.value, risk.lower, risk.upper], evidence.is_classifier, half) for risk in risks]
    rows = [(f"{share:.0%}", value, " to ".join(ends)) for share, (value, *ends) in zip(shares, cells, strict=True)]
    heading = "error rate of the rest" if evidence.is_classifier else f"RMSE of the rest, units of {evidence.target}"
    return [Table(("referred, the least certain", heading, "95% interval"), rows)]


def _risk(evidence: Evidence, share: float) -> Callable[[np.ndarray, np.ndarray], float]:
    """The error rate or RMSE of the rest, of losses and certainties."""

    def risk(loss: np.ndarray, sure: np.ndarray) -> float:
        found = risk_at(loss, sure, referred=share)
        return found if evidence.is_classifier else float(np.sqrt(found))

    return risk
