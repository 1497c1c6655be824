"""How far a score could have come out otherwise on other rows of the same kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from tfbnn.core.checks import check_share, invalid, positive_integer
from tfbnn.core.noise import check_seed


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its interval; both ends are nan where there is none."""

    value: float
    lower: float
    upper: float

    @property
    def ends(self) -> list[float]:
        """Lower and upper; empty where there is no interval."""
        return [] if np.isnan(self.lower) else [self.lower, self.upper]

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.lower:.4g}, {self.upper:.4g}]"


def with_interval(
    statistic: Callable[..., float],
    *arrays: Any,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
    centred: bool = False,
    separately: bool = False,
) -> Estimate:
    """A statistic of rows, and the interval between percentiles of it over rows drawn again with replacement.

    The rows are those of arrays, never a prediction: what a mixture gives a row (its log likelihood, its mean) is
    computed once, before.

    Args:
        statistic: called with the arrays, or with rows of them; numpy.mean for a mean.
        *arrays: each [B, ...]; row i of all is one row, and they are drawn together.
        level: of the interval.
        replicates: R, sets of rows drawn.
        seed: of the rows drawn.
        centred: moves the replicates by one number so that their mean is the value: for a statistic that drawing
            rows again raises, as it raises the expected calibration error.
        separately: draws the rows of each array on their own: two groups of any sizes.

    Returns:
        The `Estimate`: the value on all rows, and the ends of the interval.

    Raises:
        InvalidInput: for no arrays, no rows, or other numbers of rows.

    Example:
        >>> with_interval(numpy.mean, prediction.log_prob(y))
        >>> with_interval(lambda a, b: detection(a, b).auroc, scores_in, scores_out, separately=True)

    Reference: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    [found] = with_intervals(
        lambda *rows: (statistic(*rows),),
        *arrays, level=level, replicates=replicates, seed=seed, centred=centred, separately=separately,
    )  # fmt: skip
    return found


def with_intervals(
    statistic: Callable[..., Sequence[float]],
    *arrays: Any,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
    centred: bool = False,
    separately: bool = False,
) -> list[Estimate]:
    """`with_interval` of several numbers that are computed together.

    Args:
        statistic: called with the arrays, or with rows of them; as many numbers each time.
        *arrays, level, replicates, seed, centred, separately: of `with_interval`.

    Returns:
        An `Estimate` a number.

    Raises:
        InvalidInput: for no arrays, no rows, or other numbers of rows.

    Example:
        >>> with_intervals(lambda e: numpy.quantile(e, [0.5, 0.9]), numpy.abs(prediction.mean - y))
    """
    rows = _same_rows(arrays, separately)
    check_share("level", level)
    rng = np.random.default_rng(check_seed("seed", seed))
    values = np.asarray(statistic(*rows), np.float64)
    again = np.array(
        [statistic(*_drawn(rows, rng, separately)) for _ in range(positive_integer("replicates", replicates))],
        np.float64,
    )
    again = again - np.mean(again, axis=0) + values if centred else again
    ends = np.quantile(again, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return [Estimate(*map(float, told)) for told in zip(values, *ends, strict=True)]


def _same_rows(arrays: tuple[Any, ...], separately: bool) -> list[np.ndarray]:
    rows = [np.asarray(array) for array in arrays]
    sizes = [array.shape[0] if array.ndim else 0 for array in rows]
    if not sizes or not all(sizes) or (len(set(sizes)) > 1 and not separately):
        raise invalid("arrays", "one or more arrays [B, ...] of the same rows, one row or more", sizes)
    return rows


def _drawn(rows: list[np.ndarray], rng: np.random.Generator, separately: bool) -> list[np.ndarray]:
    if separately:
        return [array[rng.integers(len(array), size=len(array))] for array in rows]
    drawn = rng.integers(len(rows[0]), size=len(rows[0]))
    return [array[drawn] for array in rows]


def exact_interval(happened: np.ndarray, level: float = 0.95) -> Estimate:
    """The share of rows in which something happened, and its Clopper-Pearson interval.

    Args:
        happened: [B], 0 or 1.
        level: of the interval.

    Reference: Clopper & Pearson 1934. Where all rows are alike, rows drawn again are too, and a bootstrap is blind.
    """
    rows = np.asarray(happened)
    ends = stats.binomtest(int(rows.sum()), len(rows)).proportion_ci(level, method="exact")
    return Estimate(float(rows.mean()), float(ends.low), float(ends.high))
