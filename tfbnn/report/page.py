"""The report as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import importlib.resources
import itertools
import string
from collections.abc import Iterator, Sequence

from tfbnn._version import __version__
from tfbnn.report.approximation import approximation
from tfbnn.report.base import Block, Image, Picture, Section, Table, Text
from tfbnn.report.evidence import Evidence
from tfbnn.report.limits import limits
from tfbnn.report.pictures import can_draw, svg
from tfbnn.report.quality import calibration, conformal, how_it_did, sharpness, verdict
from tfbnn.report.referral import referral
from tfbnn.report.rows import epistemic_against_aleatoric, most_and_least_certain
from tfbnn.report.training import how_training_went, posterior, what_was_trained

NO_PICTURES = "Pictures need Matplotlib: pip install 'tfbnn[plots]', then make the report anew with tfbnn report."
INDENT = "\u2003"  # a space that HTML keeps
WIDE = 5  # columns, beyond which cells stay on one line and the table scrolls


def sections(evidence: Evidence) -> list[Section]:
    """What is reported, in the order in which a reader needs it."""
    found = [
        what_was_trained(evidence),
        how_it_did(evidence),
        how_training_went(evidence),
        calibration(evidence),
        conformal(evidence),
        sharpness(evidence),
        referral(evidence),
        epistemic_against_aleatoric(evidence),
        most_and_least_certain(evidence),
        posterior(evidence),
        approximation(evidence),
        Section("What the uncertainty does not say", [Text(sentence) for sentence in limits(evidence)]),
    ]
    return [section for section in found if section is not None]


def html_report(evidence: Evidence) -> str:
    """The whole report: no script, no font, no picture from elsewhere; light and dark as the reader's device is.

    Args:
        evidence: of `gather` or `of_trained`.

    Example:
        >>> Path("report.html").write_text(html_report(gather(tfbnn.load_saved_model("saved_models/diabetes"))))
    """
    parts = sections(evidence)
    numbers, draws = itertools.count(1), can_draw()
    told = {
        "title": html.escape(str(evidence.recipe["name"])),
        "description": html.escape(str(evidence.recipe.get("description", ""))),
        "verdict": html.escape(verdict(evidence)),
        "note": "" if draws else f'<p class="note">{html.escape(NO_PICTURES)}</p>\n',
        "contents": "\n".join(f'<a href="#s{i}">{html.escape(part.title)}</a>' for i, part in enumerate(parts)),
        "sections": "\n".join(_section(i, part, numbers, draws) for i, part in enumerate(parts)),
        "made": html.escape(f"Made by tfbnn {__version__} from {evidence.path}."),
        "style": _file("page.css"),
    }
    return string.Template(_file("page.html")).substitute(told)


def _file(name: str) -> str:
    return importlib.resources.files("tfbnn.report").joinpath(name).read_text(encoding="utf-8")


def _section(number: int, section: Section, pictures: Iterator[int], draws: bool) -> str:
    """Pictures that follow each other stand side by side where there is room."""
    parts = itertools.groupby(section.blocks, lambda block: isinstance(block, Picture | Image))
    body = "\n".join(
        _side_by_side([_figure(block, pictures, draws) for block in blocks])
        if are_pictures
        else "\n".join(map(_block, blocks))
        for are_pictures, blocks in parts
    )
    return f'<section id="s{number}">\n<h2>{html.escape(section.title)}</h2>\n{body}\n</section>'


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    return f"<p>{html.escape(block.words)}</p>"


def _table(table: Table) -> str:
    """In a box of its own, which scrolls where the page is too narrow for it."""
    kinds = [*(["words"] if table.is_text else []), *(["wide"] if len(table.headings) > WIDE else [])]
    head = f"<thead>{_row('th', table.headings)}</thead>\n" if any(table.headings) else ""
    body = "\n".join(_row("td", row) for row in table.rows)
    of_kind = f' class="{" ".join(kinds)}"' if kinds else ""
    return f'<div class="scroll"><table{of_kind}>\n{head}<tbody>\n{body}\n</tbody></table></div>'


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell.replace('  ', INDENT))}</{tag}>" for cell in cells) + "</tr>"


def _side_by_side(figures: Sequence[str]) -> str:
    return '<div class="pictures">\n' + "\n".join(figures) + "\n</div>" if any(figures) else ""


def _figure(block: Block, numbers: Iterator[int], draws: bool) -> str:
    if isinstance(block, Image):
        return _image(block)
    return _picture(block, next(numbers)) if draws and isinstance(block, Picture) else ""


def _picture(picture: Picture, number: int) -> str:
    return f"<figure>\n{svg(picture, f'p{number}')}<figcaption>{html.escape(picture.words)}</figcaption>\n</figure>"


def _image(image: Image) -> str:
    data = base64.b64encode(image.path.read_bytes()).decode()
    words = html.escape(image.words)
    return (
        f'<figure class="broad"><div class="scroll"><img src="data:image/png;base64,{data}" alt="{words}"></div>'
        f"<figcaption>{words}</figcaption></figure>"
    )
