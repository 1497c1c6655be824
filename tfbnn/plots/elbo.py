"""The terms of the ELBO over the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfbnn.core.checks import invalid, one_of
from tfbnn.plots.base import BLUE, GREY, INK, ORANGE, legend_above, panels, read_logarithms

MOST_LAYERS = 6  # in the legend
LONGEST = 12  # letters of a name of which three fit beside each other
SETTLING = 0.1  # share of the epochs, the first ones, whose values need not fit on the axis
TERMS = {
    "elbo": ("ELBO", BLUE),
    "log_likelihood": ("log likelihood", ORANGE),
}


def plot_elbo(history: Mapping[str, Any], part: str | None = None) -> Any:
    """ELBO = log likelihood - KL over the epochs, nats of the training set; the KL a layer; and the validation rows'.

    Args:
        history: name -> value of each epoch: `history` of what `fit` returns, or the table `history.csv` of an export.
        part: one panel alone, of `parts_of_elbo(history)`; None: all.

    Returns:
        The Matplotlib figure.

    Raises:
        InvalidInput: where no term of the ELBO is among the names, the part is not there, or matplotlib is absent.

    Example:
        >>> plot_elbo(model.fit(x, y, epochs=300).history).savefig("elbo.png")
    """
    named = {name: np.asarray(values, np.float64) for name, values in history.items()}
    if "log_likelihood" not in named:
        raise invalid("history", "the terms of an ELBO, log_likelihood among them", sorted(named))
    parts = parts_of_elbo(named)
    shown = parts if part is None else [one_of("part", part, parts)]
    figure, axes = panels(len(shown), 3, 3.6, 2.9)
    for axis, name in zip(axes, shown, strict=True):
        _DRAW[name](axis, named)
        axis.set_xlabel("epoch", fontsize=9)
    return figure


def parts_of_elbo(history: Mapping[str, Any]) -> list[str]:
    """Which panels a history has: "terms" where training tells a log likelihood, "kl", "validation"."""
    there = {
        "terms": "log_likelihood" in history,
        "kl": _has_kl(history),
        "validation": _VALIDATION in history,
    }
    return [part for part, is_there in there.items() if is_there]


_VALIDATION = "val_log_likelihood"


def _has_kl(named: Mapping[str, Any]) -> bool:
    return bool(np.any(named.get("kl", 0.0)))


def _draw_terms(axis: Any, named: dict[str, np.ndarray]) -> None:
    shown = {
        name: values for name in TERMS if (values := named.get(name)) is not None and (name != "elbo" or _has_kl(named))
    }
    for name, values in shown.items():
        label, colour = TERMS[name]
        axis.plot(_epochs(values), values, color=colour, linewidth=1.0, label=label)
    _fit(axis, list(shown.values()))
    axis.set_ylabel("training rows, nats", fontsize=9)
    legend_above(axis, columns=2)


def _draw_kl(axis: Any, named: dict[str, np.ndarray]) -> None:
    layers = _largest({name.removeprefix("kl/"): v for name, v in named.items() if name.startswith("kl/")})
    axis.plot(_epochs(named["kl"]), named["kl"], color=INK, linewidth=1.5, label="all layers")
    for i, (layer, values) in enumerate(layers.items() if len(layers) > 1 else ()):
        axis.plot(_epochs(values), values, color=(BLUE, ORANGE, GREY)[i % 3], linewidth=1.1, label=layer)
    axis.set_yscale("log")
    read_logarithms(axis.yaxis)
    axis.set_ylabel("KL(q || p), nats", fontsize=9)
    legend_above(axis, columns=3 if max(map(len, layers), default=0) <= LONGEST else 1)


def _largest(layers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The layers of most KL in the end, and the sum of the others where there are many: a legend takes no more."""
    if len(layers) <= MOST_LAYERS:
        return layers
    order = sorted(layers, key=lambda name: layers[name][-1], reverse=True)
    shown, others = order[: MOST_LAYERS - 1], order[MOST_LAYERS - 1 :]
    kept = {name: values for name, values in layers.items() if name in shown}
    return {**kept, f"{len(others)} others": np.sum([layers[name] for name in others], axis=0)}


def _draw_validation(axis: Any, named: dict[str, np.ndarray]) -> None:
    values = named[_VALIDATION]
    axis.plot(_epochs(values), values, color=BLUE, linewidth=1.3)
    _fit(axis, [values])
    axis.set_ylabel("validation rows, nats a row", fontsize=9)


def _epochs(values: np.ndarray) -> np.ndarray:
    return np.arange(1, len(values) + 1)


def _fit(axis: Any, lines: list[np.ndarray]) -> None:
    """Limits that show all but the first epochs, which may begin far below."""
    later = np.concatenate([values[int(SETTLING * len(values)) :] for values in lines])
    low, high = np.nanmin(later), max(np.nanmax(values) for values in lines)
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)


_DRAW = {"terms": _draw_terms, "kl": _draw_kl, "validation": _draw_validation}
