"""How numbers and scores are told to people: in words, with as many digits as are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

SCORES = {
    "log_likelihood": "log likelihood, nats a row (higher is better)",
    "rmse": "root mean squared error, units of {target}",
    "mae": "mean absolute error, units of {target}",
    "crps": "CRPS, units of {target} (lower is better)",
    "coverage": "{level:.0%} intervals that hold the target",
    "interval_width": "mean width of the {level:.0%} interval",
    "interval_score": "{level:.0%} interval score (lower is better)",
    "accuracy": "accuracy",
    "brier": "Brier score (lower is better)",
    "brier_uncertainty": "  of which uncertainty of the classes",
    "brier_resolution": "  less resolution (higher is better)",
    "brier_reliability": "  plus miscalibration (0 is best)",
    "ece": "calibration error, debiased (0 is best)",
    "ece_adaptive": "  in bins of equally many rows",
    "ece_classwise": "  mean over the classes",
    "ece_plain": "  not debiased",
    "pit_distance": "distance of PIT from uniform (0 is best)",
    "aurc": "AURC, {loss} (0 is best)",
    "excess_aurc": "  above that of the best order",
    "conformal_coverage": "conformal: rows whose truth is told (wanted: {level:.0%})",
    "conformal_width": "conformal: mean width of the interval, units of {target}",
    "set_size": "conformal: classes told, on average",
    "referred": "referred rows",
    "kept_accuracy": "accuracy of the others",
    "kept_rmse": "root mean squared error of the others",
    "cost": "cost of the decisions, a row",
    "cost_without_referral": "  if none were referred",
    "cost_of_referring_all": "  if all were referred",
}
SHARES = ("coverage", "accuracy", "conformal_coverage", "referred", "kept_accuracy")
_COST_OF = "cost_of_"


def scores_in_words(
    scores: Mapping[str, float],
    level: float,
    intervals: Mapping[str, Any] | None = None,
    rounded: Callable[[list[float], bool], list[str]] | None = None,
    target: str = "the target",
) -> list[list[str]]:
    """A line a score: what it is, its value and, where it has an interval, both ends of that.

    Args:
        scores: name -> value; unknown names are left out.
        level: of the predictive intervals.
        intervals: name -> what has `ends`, [lower, upper] or [].
        rounded: (value, lower and upper; whether they are shares) -> text of each; None: `four_digits`.
        target: name of its column.
    """
    actions = [name for name in scores if name.startswith(_COST_OF) and name not in SCORES]
    in_words = SCORES | dict.fromkeys(actions, "  if all were '{action}'")
    loss = "error rate of those kept" if "accuracy" in scores else f"squared units of {target}"
    lines = []
    for name, text in in_words.items():
        if name in scores:
            estimate = (intervals or {}).get(name)
            ends = estimate.ends if estimate else []
            words = text.format(level=level, target=target, action=name.removeprefix(_COST_OF), loss=loss)
            lines.append([words, *(rounded or four_digits)([scores[name], *ends], name in SHARES)])
    return lines


def four_digits(values: list[float], is_share: bool) -> list[str]:
    """With as many decimals as give the first value four digits."""
    if is_share:
        return [f"{value:.1%}" for value in values]
    size = math.floor(math.log10(abs(values[0]))) if values[0] and math.isfinite(values[0]) else 0
    return [f"{value:.{min(max(3 - size, 0), 5)}f}" for value in values]


def as_known(values: list[float], is_share: bool, half: float | None = None) -> list[str]:
    """A value and the ends of its interval, to two digits of half the interval's width; alone, to three digits.

    Args:
        values: value, lower and upper; or a value alone.
        is_share: whether they are told as percentages.
        half: a width to go by instead, so that the lines of a table have decimals alike.
    """
    half = half or ((values[2] - values[1]) / 2 if len(values) == 3 else 0.0)
    if is_share:
        places = min(max(_places(100 * half), 0), 1) if 0.0 < half < math.inf else 1
        return [f"{value:.{places}%}" for value in values]
    if not 0.0 < half < math.inf:
        largest = max(abs(value) for value in values)
        half = largest / 10 if 0.0 < largest < math.inf else 1.0  # two digits of a tenth are three of the whole
    return [f"{value:,.{min(max(_places(half), 0), 9)}f}" for value in values]


def unsettled(kl: Sequence[float], epochs: int) -> str:
    """That the KL of the epochs still moved at the end; "" where it did not, or training stopped before `epochs`."""
    back = max(1, round(len(kl) / 10))
    if len(kl) < max(epochs, 2) or abs(kl[-1] - kl[-1 - back]) <= max(1.0, 0.05 * abs(kl[-1 - back])):
        return ""
    moving = "falling" if kl[-1] < kl[-1 - back] else "rising"
    last = "epoch" if back == 1 else f"{back} epochs"
    nats = f"{kl[-1 - back]:,.0f} -> {kl[-1]:,.0f} nats over the last {last}"
    return f"The KL is still {moving} ({nats}): raise training.epochs."


def spread(mean: float, stddev: float) -> str:
    """As 13.02 ± 0.81: two digits of the spread, and the mean to the same decimals."""
    places = _places(stddev) if stddev > 0 else 0
    if stddev <= 0 or places > 6 or abs(mean) >= 1e7 or stddev >= 1e7:
        return f"{mean:.4g} ± {stddev:.2g}"
    return f"{mean:.{max(places, 0)}f} ± {stddev:.{max(places, 0)}f}"


def _places(size: float) -> int:
    """Decimals that show two digits of a number of that size."""
    return 1 - math.floor(math.log10(size))


def column_cells(values: Any, decimals: int | None = None) -> list[str]:
    """Text as it is; numbers of one column with the same decimals."""
    if values.dtype.kind not in "fiu":
        return [str(value) for value in values]
    decimals = common_decimals([values]) if decimals is None else decimals
    return [f"{value:.{decimals}f}" for value in values]


def common_decimals(columns: Iterable[Any]) -> int:
    """Four digits for the largest number of the columns."""
    sizes = [abs(float(value)) for values in columns if values.dtype.kind in "fiu" for value in values]
    largest = max((size for size in sizes if math.isfinite(size)), default=0.0)
    return 3 if largest < 1 else max(0, 3 - int(math.log10(largest)))
