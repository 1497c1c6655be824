"""A comparison of methods as a table, in words, and as files."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from tfbnn.core.checks import invalid
from tfbnn.recipes.compare import FAR, GOLD, Result
from tfbnn.recipes.spec import Recipe

NEARLY = 0.02  # total variation within which methods count as equally close


def columns(results: list[Result]) -> list[str]:
    """Names of what the table tells of each method, the label first."""
    of_classes = any("brier" in result.scores for result in results)
    scores = ["Brier", "accuracy", "agreement"] if of_classes else ["CRPS", "coverage"]
    apart = ["TV near", "TV far", "mean near", "mean far", "spread near", "spread far"]
    return ["method", "log likelihood", *scores, *apart, "train s", "1,000 rows ms", "MB", "S"]


def cells(result: Result, names: list[str]) -> list[str]:
    """A row of the table; "-" where there is nothing to tell."""
    of_near, of_far = result.near, result.far
    values = {
        "log likelihood": _told(result.scores.get("log_likelihood"), 3),
        "Brier": _told(result.scores.get("brier"), 3),
        "accuracy": _told(result.scores.get("accuracy"), 3),
        "CRPS": _told(result.scores.get("crps"), 4),
        "coverage": _told(result.scores.get("coverage"), 2),
        "agreement": _told(result.agreement, 3),
        **{
            f"{short} {where}": _told(getattr(found, name) if found else None, 2)
            for where, found in (("near", of_near), ("far", of_far))
            for short, name in (("TV", "total_variation"), ("mean", "mean_error"), ("spread", "spread"))
        },
        "train s": _told(result.seconds, 1),
        "1,000 rows ms": _told(1e3 * result.seconds_per_1000, 1),
        "MB": _told(result.size / 2**20, 2),
        "S": str(result.num_samples),
    }
    return [result.label, *("-" if result.failed else values[name] for name in names[1:])]


def _told(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


LEGEND = f"""log likelihood: nats a row of the held-out rows. coverage: of the recipe's intervals. TV: total variation
from {GOLD}'s predictive distribution, 0 the same, 1 disjoint. mean: root mean square error of the mean, in {GOLD}'s
standard deviations; of classes, of the probabilities. spread: mean epistemic standard deviation over {GOLD}'s; below 1
too sure. near: the held-out rows; far: {FAR:g} times as far from the centre of the training rows, each feature's values
shuffled among the rows. S: draws averaged over."""


def report(results: list[Result]) -> str:
    """The comparison in Markdown."""
    names = columns(results)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(cells(result, names)) + " |" for result in results]
    said = [f"- {result.label}: {result.message}" for result in results if result.message]
    return "\n".join([*lines, "", LEGEND, "", verdict(results), "", *said]).rstrip() + "\n"


def check_folder(folder: Path) -> Path:
    """Returns the folder, which is made where it is not there; raises where nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise invalid("--output", "a folder that can be written to", str(folder), f"{error.strerror}.") from None


def write_report(folder: Path, results: list[Result], text: str, recipe: Recipe) -> list[Path]:
    """Writes comparison.md and comparison.json, each whole; returns their paths."""
    about = {"recipe": recipe.resolved(), "results": [result.numbers() for result in results]}
    contents = {"comparison.md": text, "comparison.json": json.dumps(about, indent=1) + "\n"}
    for name, content in contents.items():
        temporary = folder / f".writing-{name}"
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, folder / name)
    return [folder / name for name in contents]


def verdict(results: list[Result]) -> str:
    """Which method to use for these data, in words."""
    compared = [result for result in results if result.near and result.far]
    if not compared:
        return "No method could be compared."

    def total(result: Result) -> float:
        return 0.5 * (result.near.total_variation + result.far.total_variation)  # type: ignore[union-attr]

    def spreads_alike(result: Result) -> bool:
        return all(0.5 <= found.spread <= 2.0 for found in (result.near, result.far) if found)

    closest = min(compared, key=total)
    as_close = [result for result in compared if total(result) <= total(closest) + NEARLY and spreads_alike(result)]
    quickest = min(as_close, key=lambda result: result.seconds_per_1000, default=closest)
    best = max(compared, key=lambda result: result.scores["log_likelihood"])
    gold = results[0].message
    doubt = [f"{GOLD} itself is in doubt: {gold}"] if gold.startswith("Not ") else []
    spread = f"spread {closest.near.spread:.2f} near and {closest.far.spread:.2f} far"  # type: ignore[union-attr]
    found = f"{closest.label} (total variation {total(closest):.2f}, {spread})"
    told = [*doubt, f"Closest to {GOLD}'s predictions, near and far: {found}."]
    if quickest is not closest:
        quicker = " and quicker to predict" if quickest.seconds_per_1000 < closest.seconds_per_1000 else ""
        told.append(f"Nearly as close, about as unsure as {GOLD}{quicker}: {quickest.label} ({total(quickest):.2f}).")
    told.append(f"Highest log likelihood of held-out rows: {best.label} ({best.scores['log_likelihood']:.3f} nats).")
    return " ".join(told)
