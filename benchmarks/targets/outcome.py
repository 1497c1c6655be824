"""A target, what was measured for it, and the table of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

FORMS = {"x": "{:.2f} x", "s": "{:.3f} s", "ms": "{:.2f} ms"}


@dataclasses.dataclass(frozen=True)
class Target:
    """`work` takes at most `bound` of `unit` (is_least False), or is at least so many times faster (True)."""

    number: int
    work: str
    bound: float
    unit: str = "x"
    is_least: bool = False

    def __str__(self) -> str:
        return f"{'>=' if self.is_least else '<='} {self.bound:g} {self.unit}"


@dataclasses.dataclass
class Outcome:
    """What was measured for a target, or the reason why nothing was; details are the medians and spreads behind it."""

    target: Target
    measured: float | None = None
    reason: str = ""
    details: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_met(self) -> bool:
        """False where nothing was measured."""
        if self.measured is None:
            return False
        return self.measured >= self.target.bound if self.target.is_least else self.measured <= self.target.bound

    @property
    def verdict(self) -> str:
        """Met, or by what factor it is missed."""
        if self.measured is None:
            return f"not measured: {self.reason}"
        if self.is_met:
            return "met"
        missed = self.measured / self.target.bound
        return f"missed by {1 / missed if self.target.is_least else missed:.2f} x"


def markdown(outcomes: Iterable[Outcome]) -> str:
    """A row a target."""
    lines = ["| | work | target | measured | |", "|---|---|---|---|---|"]
    for each in outcomes:
        figure = "-" if each.measured is None else FORMS[each.target.unit].format(each.measured)
        cells = [str(each.target.number), each.target.work, str(each.target), figure, each.verdict]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def details(outcomes: Iterable[Outcome]) -> str:
    """What the figures come from; a line that several targets of one number share stands once."""
    return "\n".join(dict.fromkeys(f"{each.target.number}. {line}" for each in outcomes for line in each.details))


def as_json(outcomes: Iterable[Outcome]) -> list[dict]:
    """Everything, for a file."""
    return [{**dataclasses.asdict(each), "is_met": each.is_met, "verdict": each.verdict} for each in outcomes]
