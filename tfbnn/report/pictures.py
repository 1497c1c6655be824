"""Matplotlib figures as SVG inside a page: text that stays text, the colour of the page around them, own ids."""

from __future__ import annotations

import importlib.util
import io
import re
from typing import Any

from tfbnn.plots.base import BLUE, INK
from tfbnn.report.base import Picture

SIZE = (4.2, 3.2)  # inches; a picture fills a phone, two of them a row of a desktop
_PAGE = "#010203"  # stands for the colour of the page's text while Matplotlib draws; no picture uses it
_COLOURS = {_PAGE: "currentColor", INK: "currentColor", BLUE: "var(--blue)"}  # a blue for white is dark on black
_COLOURED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "legend.labelcolor")
_TRANSPARENT = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")


def can_draw() -> bool:
    """Whether Matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def svg(picture: Picture, name: str) -> str:
    """The picture as an element of HTML.

    Args:
        picture: to draw; names of columns in it are never read as mathematics.
        name: of the picture on its page; all ids in it begin with it.
    """
    import matplotlib

    style: Any = {**_style(), "svg.hashsalt": name}  # of which Matplotlib's types know each key
    with matplotlib.rc_context(style):
        figure = picture.draw()
        figure.set_size_inches(*SIZE)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(written.getvalue(), name)


def _style() -> dict[str, Any]:
    return {
        **dict.fromkeys(_COLOURED, _PAGE),
        **dict.fromkeys(_TRANSPARENT, "none"),
        "svg.fonttype": "none",
        "text.parse_math": False,
    }


def _inline(document: str, name: str) -> str:
    """The <svg> element of a document, as wide as its place, with ids that no other picture has."""
    element = document[document.index("<svg") :]
    element = re.sub(r'(<svg[^>]*?) width="[^"]*pt" height="[^"]*pt"', r'\1 aria-hidden="true"', element, count=1)
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", element)
    element = re.sub(r"(font(?:-family)?:[^;\"]*?)'[^;\"]*", r"\1sans-serif", element)
    for colour, of_page in _COLOURS.items():
        element = element.replace(colour, of_page)
    return element
