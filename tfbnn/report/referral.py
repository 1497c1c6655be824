"""What is gained where the least certain rows go to somebody who knows more."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from tfbnn.core.wording import as_known
from tfbnn.decision import CostMatrix, Referral
from tfbnn.evaluation import certainty, losses, risk_at, with_interval
from tfbnn.plots import plot_risk_coverage
from tfbnn.report.base import Block, Picture, Section, Table, Text
from tfbnn.report.evidence import Evidence
from tfbnn.report.quality import CONFORMAL, table_of, with_ends

SHARES = (0.0, 0.1, 0.2, 0.3, 0.5)
REPLICATES = 200


@dataclasses.dataclass(frozen=True)
class Risk:
    """What is lost where the model acts.

    Attributes:
        name: of the risk.
        loss: of each row, [B].
        is_share: whether the risk is told as a percentage.
        is_root: whether it is the root of the mean loss, else the mean.
        unit: of the risk, as words to append.
    """

    name: str
    loss: np.ndarray
    is_share: bool = False
    is_root: bool = False
    unit: str = ""

    def of(self, loss: np.ndarray) -> float:
        """The risk of rows of these losses."""
        return self._of_mean(float(np.mean(loss)))

    def of_rest(self, loss: np.ndarray, sure: np.ndarray, referred: float) -> float:
        """The risk of the others, where such a share of the rows is referred."""
        return self._of_mean(risk_at(loss, sure, referred))

    def _of_mean(self, mean: float) -> float:
        return float(np.sqrt(mean)) if self.is_root else mean


def risk_of(evidence: Evidence) -> Risk:
    """Cost of the actions where there is a cost matrix, else error rate or root mean squared error."""
    if isinstance(evidence.decision, CostMatrix):
        never = np.zeros(evidence.num_rows, bool)
        return Risk("cost a row", evidence.decision.cost(evidence.acts["action"], never, evidence.y))
    loss = losses(evidence.prediction, evidence.y)
    if evidence.is_classifier:
        return Risk("error rate", loss, is_share=True)
    return Risk("root mean squared error", loss, is_root=True, unit=f", units of {evidence.target}")


def referral(evidence: Evidence) -> Section:
    """Risk of the rows that are kept; of a decision, what it gained."""
    risk, sure = risk_of(evidence), _certainty(evidence)
    if np.ptp(risk.loss) == 0.0:
        told = f"The {risk.name} is the same in all rows, {_of_all(risk)}: their order says nothing of referral."
        return Section("Who should decide", [*_of_decision(evidence), Text(told)])
    kept = None if evidence.decision is None else 1.0 - evidence.decided["referred"].value
    costs = risk.loss if isinstance(evidence.decision, CostMatrix) else None
    draw = functools.partial(plot_risk_coverage, evidence.prediction, evidence.y, sure, kept, evidence.target, costs)
    words = (
        "From right to left more rows are referred, the least certain first. Lower is better; a flat line says that "
        "certainty does not tell the good predictions from the bad."
    )
    none = " Where no error is left of n rows, a rate of 3 / n may still be." if risk.is_share else ""
    told = f"What referring the least certain rows does to the others.{none}"
    table = Text(told), _of_shares(risk, sure)
    return Section("Who should decide", [*_of_decision(evidence), *table, Picture(draw, words)])


def _certainty(evidence: Evidence) -> np.ndarray:
    """By the decision's own uncertainty where there is one."""
    if evidence.decision is None:
        return certainty(evidence.prediction)
    return -np.asarray(evidence.acts["uncertainty"], np.float64)


def _of_decision(evidence: Evidence) -> list[Block]:
    if evidence.decision is None:
        return [Text("The model answers every row; none is referred to somebody who knows more.")]
    found = {name: value for name, value in evidence.decided.items() if name not in CONFORMAL}
    return [Text(gained(evidence)), table_of(found, "with referral", evidence)]


def gained(evidence: Evidence) -> str:
    """What the decision brought, in words; "" where there is none."""
    decision, risk = evidence.decision, risk_of(evidence)
    if decision is None:
        return ""
    abstain = np.asarray(evidence.acts["abstain"])
    by = decision.by.replace("_", " ") if isinstance(decision, Referral) else "least expected cost"
    told = f"It refers rows of which the {by} is above {decision.threshold:.3g}: {abstain.mean():.1%} of these."
    if abstain.all():
        return f"{told} So the model decides nothing."
    if not abstain.any():
        return f"{told} So the decision makes no difference."
    if isinstance(decision, CostMatrix):
        return f"{told} {_saved(np.where(abstain, decision.refer, risk.loss), risk.loss, decision.refer)}"
    of_rest = with_ends(with_interval(risk.of, risk.loss[~abstain]), risk.is_share)
    told = f"{told} The {risk.name} of the others is {of_rest}, of all rows {_of_all(risk)}."
    gain = with_interval(functools.partial(_gain, risk), risk.loss, abstain)
    return told if gain.lower > 0 else f"{told} That it is lower was not shown."


def _gain(risk: Risk, loss: np.ndarray, abstain: np.ndarray) -> float:
    """By how much the risk is lower in the rows that are kept; 0 where none is."""
    return risk.of(loss) - risk.of(loss[~abstain]) if not abstain.all() else 0.0


def _of_all(risk: Risk) -> str:
    return with_ends(with_interval(risk.of, risk.loss), risk.is_share)


def _saved(own: np.ndarray, never: np.ndarray, refer: float) -> str:
    """What is saved, a row, beside acting on all and beside referring all; each with its interval."""
    others = {"acting on all rows": never - own, "referring all rows": refer - own}
    saved = {name: with_interval(np.mean, difference) for name, difference in others.items()}
    told = " and ".join(f"{with_ends(estimate)} beside {name}" for name, estimate in saved.items())
    doubt = [name for name, estimate in saved.items() if estimate.lower <= 0]
    verdict = f"That they are cheaper than {' or '.join(doubt)} was not shown." if doubt else "Cheaper than both."
    return f"The decisions cost {np.mean(own):.3g} a row; they save {told}. {verdict}"


def _of_shares(risk: Risk, sure: np.ndarray) -> Table:
    """Risk of the rest where such a share is referred, with its interval."""
    shares = [share for share in SHARES if not share or len(risk.loss) * share >= 1]
    found = [
        with_interval(functools.partial(risk.of_rest, referred=share), risk.loss, sure, replicates=REPLICATES)
        if share
        else with_interval(risk.of, risk.loss)  # to the digit what stands elsewhere on the page
        for share in shares
    ]
    half = (found[0].upper - found[0].lower) / 2
    cells = [as_known([one.value, *one.ends], risk.is_share, half) for one in found]
    rows = [(f"{share:.0%}", value, " to ".join(ends)) for share, (value, *ends) in zip(shares, cells, strict=True)]
    return Table(("referred, the least certain", f"{risk.name} of the rest{risk.unit}", "95% interval"), rows)
