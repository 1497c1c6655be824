"""One step of active learning: posterior and pool in, rows to label out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfbnn.active.acquisition import get
from tfbnn.active.base import check_count, generator
from tfbnn.core.checks import invalid, positive_integer
from tfbnn.core.draws import Draws
from tfbnn.prediction import predict_distribution

DEFAULT_SAMPLES = 100


def acquire(
    draws: Draws,
    pool: Any,
    count: int,
    by: Any = "bald",
    num_samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    candidates: int | None = None,
) -> np.ndarray:
    """The rows of a pool that should be labelled next.

    Args:
        draws: the posterior given the rows that are labelled, by any method of `tfbnn.inference`.
        pool: rows [B, ...] as the network takes them: an array, a DataFrame of numbers, or a structure of such. Columns
            of a table with text become numbers by the schema, `result.data.schema.encode(frame)`.
        count: rows to choose.
        by: "bald", "batchbald", "entropy", "variance", "random", or a function of your own, prediction -> scores [B].
        num_samples: S, draws of the weights (or all of a finite set that has fewer).
        seed: of the draws, of rows at random, and of the order of equal scores.
        candidates: rows of the pool, chosen at random, that are looked at; None: all.

    Returns:
        Positions in the pool int [count], in the order of choice.

    Raises:
        InvalidInput: for an empty pool, a count above its rows, or an acquisition function of classes in a regression.

    Example:
        >>> draws = tfbnn.inference.DeepEnsemble(network, "Bernoulli").fit(x, y, epochs=100)
        >>> tfbnn.active.acquire(draws, pool, count=20, by="bald")
    """
    acquisition = get(by)
    acquisition.check_suits(draws.likelihood)
    pool = rows_of("pool", pool)
    num_rows = check_rows("pool", pool)
    looked_at = _candidates(num_rows, candidates, seed)
    check_count(count, len(looked_at))
    wanted = draws.at_most(positive_integer("num_samples", num_samples) if acquisition.needs_draws else 1)
    prediction = predict_distribution(draws, taken(pool, looked_at), wanted, seed, acquisition.coupling)
    return looked_at[acquisition.choose(prediction, count, seed)]


def _candidates(num_rows: int, candidates: int | None, seed: int) -> np.ndarray:
    if candidates is None or positive_integer("candidates", candidates) >= num_rows:
        return np.arange(num_rows)
    return np.sort(generator(seed).choice(num_rows, candidates, replace=False))


# --- rows as arrays, or structures of arrays --------------------------------------------------------------------------


def rows_of(where: str, rows: Any) -> Any:
    """Arrays [B, ...] of arrays or DataFrames; raises where they hold text."""
    arrays = keras.tree.map_structure(np.asarray, rows)
    if any(part.dtype.kind in "OUS" for part in keras.tree.flatten(arrays)):
        mend = "A schema makes numbers of columns: result.data.schema.encode(frame)."
        raise invalid(where, "numbers", "text", mend)
    return arrays


def check_rows(where: str, rows: Any) -> int:
    """B; raises where arrays [B, ...] have none, or several."""
    sizes = sorted({len(part) if part.ndim else 0 for part in keras.tree.flatten(rows)})
    if len(sizes) != 1:
        raise invalid(where, "arrays of one number of rows", sizes)
    if sizes == [0]:
        raise invalid(where, "one row or more", "0 rows")
    return sizes[0]


def taken(rows: Any, positions: np.ndarray) -> Any:
    """The rows at these positions."""
    return keras.tree.map_structure(lambda part: part[positions], rows)
