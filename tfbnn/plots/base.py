"""What the pictures share: panels, colours, and a file that appears whole."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfbnn.core.checks import invalid
from tfbnn.prediction import Prediction

BLUE, ORANGE, GREY, INK = "#0b6e99", "#d98b3c", "#8a8a8a", "#333333"


def panels(count: int, columns: int, width: float, height: float, **kwargs: Any) -> tuple[Any, list[Any]]:
    """A figure, without any window, and `count` panels in rows of `columns`, each `width` by `height` inches.

    Raises:
        InvalidInput: where matplotlib is absent.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise invalid("plot", "matplotlib", "none", "pip install 'tfbnn[plots]'") from None
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs).reshape(-1)
    for unused in axes[count:]:
        unused.set_visible(False)
    for axis in axes[:count]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, list(axes[:count])


def by_name(predictions: Prediction | Mapping[str, Prediction]) -> Mapping[str, Prediction]:
    """One prediction has no name, and its panel no title."""
    return predictions if isinstance(predictions, Mapping) else {"": predictions}


def in_lines(name: str, width: int = 30) -> str:
    """A long name, with its options, in several lines."""
    return textwrap.fill(name, width)


def legend_above(axis: Any, columns: int = 1) -> None:
    """A legend over the panel, where it hides nothing."""
    axis.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize=8, frameon=False, borderaxespad=0.2
    )


def read_logarithms(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def write(figure: Any, path: Any) -> Path:
    """Writes the figure (.png, .svg, .pdf), whole or not at all; returns the path."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(temporary, dpi=150)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
