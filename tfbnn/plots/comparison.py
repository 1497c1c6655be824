"""Methods beside each other: how far from the gold, how sure, how long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfbnn.plots.base import BLUE, GREY, INK, ORANGE, in_lines, panels, read_logarithms


def plot_comparison(results: Sequence[Any]) -> Any:
    """Panels: total variation from the gold, epistemic standard deviation over the gold's, seconds to train.

    Args:
        results: of `tfbnn.recipes.compare`, the gold first, the failed ones left out.

    Returns:
        The Matplotlib figure.
    """
    gold = results[0].method
    compared = [result for result in results if result.near]
    figure, axes = panels(3, 3, 3.4, 0.42 * len(results) + 1.4, sharey=True)
    places = range(len(compared))
    for axis, quantity in zip(axes[:2], ("total_variation", "spread"), strict=True):
        for offset, where, colour in ((-0.18, "near", BLUE), (0.18, "far", ORANGE)):
            values = np.clip([getattr(getattr(result, where), quantity) for result in compared], *SHOWN)
            axis.scatter(
                values, [place + offset for place in places], color=colour, s=28, label=_WORDS[where], zorder=3
            )
    largest = max(max(result.near.total_variation, result.far.total_variation) for result in compared)
    axes[0].set_xlim(0, min(1.0, 1.2 * largest) or 1.0)
    axes[0].set_xlabel(f"total variation from\n{gold}'s predictions (0: the same)", fontsize=8)
    axes[1].set_xscale("log")
    axes[1].axvline(1.0, color=GREY, linewidth=1.0)
    axes[1].set_xlabel(f"epistemic standard deviation\n/ {gold}'s (1: the same)", fontsize=8)
    axes[2].set_xscale("log")
    axes[2].scatter([result.seconds for result in compared], places, color=INK, s=28, zorder=3)
    axes[2].axvline(results[0].seconds, color=GREY, linewidth=1.0)
    axes[2].annotate(gold, (results[0].seconds, -0.6), fontsize=8, color=GREY, ha="center", annotation_clip=False)
    axes[2].set_xlabel("seconds to train", fontsize=8)
    for axis in axes:
        axis.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axis.set_axisbelow(True)
    for axis in axes[1:]:
        read_logarithms(axis.xaxis)
    axes[0].set_yticks(list(places), [in_lines(result.label) for result in compared], fontsize=8)
    axes[0].set_ylim(len(compared) - 0.5, -0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure


SHOWN = (0.01, 100.0)  # spreads beyond are drawn at the edge
_WORDS = {"near": "held-out rows", "far": "rows far from the data"}
