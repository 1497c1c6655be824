"""What a report is made of: sections of texts, tables and pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text; the first column is words, the others are numbers unless told.

    Attributes:
        headings: of the columns.
        rows: each as long as the headings.
        is_text: whether the other columns are words too.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A Matplotlib figure, and what it shows, in words.

    Attributes:
        draw: makes the figure.
        words: the caption.
    """

    draw: Callable[[], Any]
    words: str


@dataclasses.dataclass(frozen=True)
class Image:
    """A PNG file that is there already, and what it shows."""

    path: Path
    words: str


Block = Text | Table | Picture | Image


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]
