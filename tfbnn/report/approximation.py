"""How far the method is from the true posterior, where `tfbnn compare` was run for the recipe."""

from __future__ import annotations

import json
from pathlib import Path

from tfbnn.report.base import Block, Image, Section, Table, Text
from tfbnn.report.evidence import Evidence

_PICTURES = {
    "comparison.png": "How far each method's predictions are from the gold's, and how long it takes.",
    "functions.png": "What each method says of values within and beyond the training rows.",
    "certainty.png": "Where each method is sure.",
}
_SAME = ("data", "model", "likelihood")  # sections on which what was compared depends


def approximation(evidence: Evidence) -> Section | None:
    """The table, the verdict and the pictures of the folder NAME.comparison beside the model."""
    folder = evidence.path.parent.with_name(f"{evidence.path.parent.name}.comparison")
    file = folder / "comparison.md"
    if not file.is_file():
        return None
    blocks = _from_markdown(file.read_text(encoding="utf-8"))
    pictures = [Image(folder / name, words) for name, words in _PICTURES.items() if (folder / name).is_file()]
    return Section("How far from the true posterior", [*_doubt(folder, evidence), *blocks, *pictures])


def _doubt(folder: Path, evidence: Evidence) -> list[Block]:
    """A warning where another recipe was compared than this model's."""
    try:
        compared = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["recipe"]
        same = all(compared[section] == evidence.recipe[section] for section in _SAME)
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return (
        [] if same else [Text("The recipe has changed since `tfbnn compare` was run: this is of the recipe as it was.")]
    )


def _from_markdown(text: str) -> list[Block]:
    """What `tfbnn compare` wrote (table, legend, verdict, a line a message), the verdict first."""
    lines = text.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    messages = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    words = "\n".join(line for line in lines if not line.startswith(("|", "- ")))
    legend, *verdict = [" ".join(part.split()) for part in words.split("\n\n") if part.strip()] or [""]
    table = [Table(cells[0], cells[2:])] if len(cells) > 2 else []
    return [*map(Text, verdict), *table, *map(Text, [legend, *messages])]
