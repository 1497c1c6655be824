"""What a run leaves: a Markdown table on the terminal, a JSON file with every round, a plot."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

_COLOURS = {"ours": "#0b6e99", "plain_keras": "#8a8a8a"}
_PEER_COLOUR = "#d98a3d"


@dataclasses.dataclass
class Row:
    """One contestant: seconds of each round, a prediction or a step; or the reason why it was not timed."""

    name: str
    worker: str
    seconds: list[float] = dataclasses.field(default_factory=list)
    reason: str = ""
    kl: float | None = None
    agreement: str = ""

    @property
    def median(self) -> float:
        """Milliseconds."""
        return 1e3 * statistics.median(self.seconds)


@dataclasses.dataclass
class Table:
    """One work, all contestants."""

    name: str
    title: str
    unit: str
    kl: float
    rows: list[Row]


def markdown(table: Table, reference: str) -> str:
    """Medians, extremes, the median of the ratios to `reference` round by round, and the KL that was reported."""
    base = next((row.seconds for row in table.rows if row.name == reference and row.seconds), None)
    lines = [
        f"**{table.title}** (ms a {table.unit}; KL {table.kl:,.0f} nats)\n",
        f"| what | median ms | min - max ms | x {reference} | its KL / KL |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_line(row, base, table.kl) for row in table.rows)])


def _line(row: Row, base: list[float] | None, kl: float) -> str:
    if not row.seconds:
        return f"| {row.name} | {row.reason.replace('|', '/')} | | | {_factor(row, kl)} |"
    ratio = f"{statistics.median(a / b for a, b in zip(row.seconds, base, strict=True)):.2f}" if base else "-"
    extremes = f"{_figure(1e3 * min(row.seconds))} - {_figure(1e3 * max(row.seconds))}"
    return f"| {row.name} | {_figure(row.median)} | {extremes} | {ratio} | {_factor(row, kl)} |"


def _figure(milliseconds: float) -> str:
    return f"{milliseconds:.3g}" if milliseconds < 100 else f"{milliseconds:.0f}"


def _factor(row: Row, kl: float) -> str:
    """Whole where the package sums the KL in nats."""
    if row.kl is None or row.kl == 0:
        return "-"
    factor = row.kl / kl
    return f"{factor:.4f}" if factor > 0.01 else f"{factor:.1e}"


def write_json(path: Path, tables: list[Table], about: dict[str, Any]) -> None:
    """Everything that was measured, and on what."""
    content = {**about, "tables": [dataclasses.asdict(table) for table in tables]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def plot(path: Path, tables: list[Table], caption: str) -> None:
    """Horizontal bars on a log scale, a panel a table; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    counts = [len(table.rows) for table in tables]
    figure, panels = plt.subplots(
        len(tables), 1,
        figsize=(9, 1.2 + sum(0.75 + 0.3 * count for count in counts)), height_ratios=counts,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for panel, table in zip(panels[:, 0], tables, strict=True):
        _panel(panel, table)
    figure.supxlabel(caption, fontsize=7, color="#555555")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _panel(panel: Any, table: Table) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    timed = [row.median for row in table.rows if row.seconds] or [1.0]
    low, high = min(timed) / 2, max(timed) * 2.5
    for place, row in enumerate(table.rows):
        if not row.seconds:
            panel.text(low * 1.05, place, _short(row.reason), va="center", fontsize=8, style="italic", color="#a02020")
            continue
        around = [[row.median - 1e3 * min(row.seconds)], [1e3 * max(row.seconds) - row.median]]
        panel.barh(place, row.median, color=_COLOURS.get(row.worker, _PEER_COLOUR), height=0.7)
        panel.errorbar(row.median, place, xerr=around, color="#333333", linewidth=0.8, capsize=2)
        end = max(row.median, min(1e3 * max(row.seconds), high / 1.5))
        panel.text(end * 1.06, place, f"{_figure(row.median)} ms", va="center", fontsize=8)
    panel.set_xscale("log")
    panel.set_xlim(low, high)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_yticks(range(len(table.rows)), [row.name for row in table.rows], fontsize=8)
    panel.invert_yaxis()
    panel.set_title(table.title, loc="left", fontsize=10)
    panel.set_xlabel(f"ms a {table.unit}, median and extremes of the rounds (log scale)", fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _short(text: str, length: int = 90) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
