"""Weights that are removed: what it costs, and how far the weights are from 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfbnn.plots.base import BLUE, GREY, ORANGE, panels


def plot_pruning(table: Any, ratios: Mapping[str, np.ndarray], knee: float, error: str = "error") -> Any:
    """Left: error against the share that is removed. Right: histogram of the signal-to-noise ratio.

    Args:
        table: of `tfbnn.pruning.pruning_table`.
        ratios: of `tfbnn.pruning.signal_to_noise`, |mu| / sigma; those of kernels are counted.
        knee: the share that is chosen, marked in both panels.
        error: what the error is, with its unit.

    Returns:
        The Matplotlib figure.
    """
    figure, axes = panels(2, 2, 3.8, 3.0)
    ordered = table.sort_values("share")
    places = np.arange(len(ordered))
    axes[0].plot(places, ordered["error"], "o-", color=BLUE, markersize=4)
    axes[0].axvline(int(np.flatnonzero(ordered["share"] == knee)[0]), color=ORANGE, linewidth=1.2)
    axes[0].set_xticks(places, [f"{100 * share:g} %" for share in ordered["share"]])
    axes[0].set_ylim(bottom=0)
    axes[0].set_xlabel("weights removed", fontsize=9)
    axes[0].set_ylabel(error, fontsize=9)
    kernels = np.concatenate([ratio.ravel() for name, ratio in ratios.items() if not name.endswith("/bias")])
    decibels = 20 * np.log10(kernels[kernels > 0])
    axes[1].hist(decibels, bins=80, color=GREY)
    axes[1].axvline(np.quantile(decibels, knee), color=ORANGE, linewidth=1.2, label=f"{100 * knee:g} % are left of it")
    axes[1].set_xlim(left=np.quantile(decibels, 0.001))
    axes[1].set_yticks([])
    axes[1].set_xlabel("signal to noise of the weights, dB", fontsize=9)
    axes[1].legend(fontsize=8, frameon=False, loc="upper left")
    return figure
