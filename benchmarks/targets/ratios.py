"""Targets 1, 2, 3, 5, 6: ratios between the rows of the peers' tables, round by round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from benchmarks.peers.report import Row, Table
from benchmarks.peers.tasks import EAGER, LIMIT, MARGINAL, POINTS, REFERENCE
from benchmarks.targets.outcome import Outcome, Target

WORKS = {1: "predict", 2: "one_row", 3: "lenet", 5: "step", 6: "table"}
MLP = "predict, MLP 784-400-400-10, B=128, S=100"
STEP = "a training step of the MLP, batch 128"
LOCAL, FLIPOUT = (f"tfbnn.train, Dense{name}" for name in ("LocalReparameterization", "Flipout"))
OWN = ("ours", "plain_keras")

Rows = Callable[[Sequence[Row]], list[Row]]


def named(*names: str) -> Rows:
    """The rows of these names."""
    return lambda rows: [row for row in rows if row.name in names]


def compiled_peers(rows: Sequence[Row]) -> list[Row]:
    """Other packages, without the loops of their tutorials."""
    return [row for row in rows if row.worker not in OWN and row.name not in EAGER]


# (target, who is measured, who is compared with: the fastest of them; None: the seconds themselves)
TARGETS: list[tuple[Target, Rows, Rows | None]] = [
    (Target(1, f"{MLP}: one deterministic pass over B x S rows", 0.8), named(MARGINAL), named(REFERENCE)),
    (Target(1, f"{MLP}: fastest compiled peer", 8, is_least=True), named(MARGINAL), compiled_peers),
    (Target(1, f"{MLP}: the tutorials' loops, the faster", 80, is_least=True), named(MARGINAL), named(*EAGER)),
    (Target(2, "predict, the same net, one row, S=10,000", 0.4, "s"), named(MARGINAL), None),
    (Target(3, "predict, LeNet-5, B=64, S=50: one pass over B x S rows", 1.1), named(MARGINAL), named(REFERENCE)),
    (Target(3, "predict, LeNet-5: fastest peer", 4, is_least=True), named(MARGINAL), compiled_peers),
    (Target(5, f"{STEP}, DenseLocalReparameterization: points in the same loop", 2.8), named(LOCAL), named(POINTS)),
    (Target(5, f"{STEP}, DenseFlipout: points in the same loop", 4), named(FLIPOUT), named(POINTS)),
    (Target(5, f"{STEP}, DenseLocalReparameterization: fastest peer", 1.3, is_least=True), named(LOCAL),
     compiled_peers),
    (Target(5, f"{STEP}, DenseFlipout: fastest peer", 1.3, is_least=True), named(FLIPOUT), compiled_peers),
    (Target(6, "a training step of 8-50-1, batch 32: Keras fit of the plain net", 8, is_least=True), named(LOCAL),
     named(REFERENCE)),
]  # fmt: skip


def outcomes(tables: Iterable[Table], numbers: Sequence[int]) -> list[Outcome]:
    """One for each target of these numbers."""
    found = {table.name: table for table in tables}
    return [
        outcome(target, found[WORKS[target.number]], ours, others)
        for target, ours, others in TARGETS if target.number in numbers
    ]  # fmt: skip


def outcome(target: Target, table: Table, ours: Rows, others: Rows | None) -> Outcome:
    """The median over the rounds of the ratio to the fastest that was timed; why others were not is among the details.

    Ratios are ours / theirs where the target is an upper bound, theirs / ours where it is a lower one.
    """
    [own] = ours(table.rows)
    compared = others(table.rows) if others else []
    timed = [row for row in compared if row.seconds]
    told = [line(row) for row in [own, *compared]] + share_of_limit(own, table.rows)
    if not own.seconds or (others and not timed):
        return Outcome(target, None, own.reason or "; ".join(map(line, compared)) or "no contestant", told)
    if others is None:
        return Outcome(target, statistics.median(own.seconds), details=told)
    fastest = min(timed, key=lambda row: row.median)
    above, below = (fastest, own) if target.is_least else (own, fastest)
    return Outcome(target, ratio(above, below), details=[f"compared with {fastest.name}", *told])


def ratio(above: Row, below: Row) -> float:
    """The median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(above.seconds, below.seconds, strict=True))


def share_of_limit(row: Row, rows: Sequence[Row]) -> list[str]:
    """How much of the row's time the bare matrix products of the work alone take; above 1 it does fewer of them."""
    limits = [limit for limit in named(LIMIT)(rows) if limit.seconds and row.seconds]
    return [f"{line(limit)}: {ratio(limit, row):.2f} of {row.name}" for limit in limits]


def line(row: Row) -> str:
    """Median and spread."""
    if not row.seconds:
        return f"{row.name}: {row.reason}"
    return f"{row.name}: {row.median:.3g} ms ({1e3 * min(row.seconds):.3g} - {1e3 * max(row.seconds):.3g})"
