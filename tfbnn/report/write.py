"""Writes report and model card, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from tfbnn.core.files import whole_file
from tfbnn.report.evidence import Evidence
from tfbnn.report.model_card import model_card
from tfbnn.report.page import html_report

REPORT, MODEL_CARD = "report.html", "model_card.md"


def write_report(evidence: Evidence) -> list[Path]:
    """Writes report.html and model_card.md into the version folder of the model; those there are replaced.

    Args:
        evidence: of `gather` or `of_trained`.

    Returns:
        Their paths.

    Raises:
        InvalidInput: where nothing can be written there.

    Example:
        >>> write_report(gather(tfbnn.load_saved_model("saved_models/diabetes")))
    """
    contents = {REPORT: html_report(evidence), MODEL_CARD: model_card(evidence)}
    return [write_text(evidence.path / name, content, "MODEL") for name, content in contents.items()]


def write_text(path: Path, text: str, where: str = "path") -> Path:
    """Writes a file whole, by a temporary name beside `path`, which then is replaced; returns the path.

    Raises:
        InvalidInput: where it cannot be written, about the argument `where`.
    """
    with whole_file(path, where) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
