"""What the posterior of each layer's weights came to be, in a few numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.core.noise import DRAWS_PER_BLOCK, Seeded, noise_scope, seed_pair
from tfbnn.core.traversal import sublayers
from tfbnn.layers.base import VariationalLayer
from tfbnn.prediction.decompose import mean_over_draws

COLUMNS = ("layer", "weights", "scale", "snr_25", "snr_50", "snr_75", "kl")
MOST_DRAWS = 100
NUMBERS = 20_000_000  # weights times draws that are held at once
KL_DRAWS = 10  # of a KL that is Monte Carlo; an exact one is the same in all


def posterior_summary(source: Any, seed: int = 0) -> Any:
    """A row a layer: how many weights, how wide their posterior, how sure of their signs, how far from the prior.

    Args:
        source: a trained `BayesianModel`, or the `Draws` of any method. Where each draw has its own weights
            (ensembles, chains, SWAG, Laplace), mean and scale are those of the first 100 draws.
        seed: of draws.

    Returns:
        A pandas DataFrame: `layer`; `weights`, their number; `scale`, mean standard deviation of a weight; `snr_25`,
        `snr_50`, `snr_75`, quartiles of |mean| / standard deviation; `kl`, KL(q || p) in nats, NaN where the method
        has none. No rows where no weight has a spread (dropout, whose noise is on units).

    Example:
        >>> print(posterior_summary(model))

    Reference: Graves 2011, section 6; Blundell et al. 2015, section 5.1, for the signal-to-noise ratio.
    """
    import pandas as pd  # not needed to train

    rows = list(_of_draws(source, seed)) or list(_of_layers(source, seed))
    return pd.DataFrame([dict(zip(COLUMNS, row, strict=True)) for row in rows], columns=list(COLUMNS))


def as_text(table: Any) -> str:
    """The table of `posterior_summary` for a screen, with the sums of weights and KL; "" where it has no rows.

    Example:
        >>> print(as_text(posterior_summary(model)))
    """
    if table.empty:
        return ""
    names = ["layer", "weights", "mean scale", "|mean| / scale: 25 %", "50 %", "75 %", "KL (nats)"]
    total = ("total", table["weights"].sum(), *[np.nan] * 4, table["kl"].sum(skipna=False))
    formats = [str, "{:,.0f}", "{:.4f}", "{:.2f}", "{:.2f}", "{:.2f}", "{:,.1f}"]
    rows = [[_cell(form, value) for form, value in zip(formats, row, strict=True)]
            for row in [*table[list(COLUMNS)].itertuples(index=False), total]]  # fmt: skip
    widths = [max(len(cell) for cell in column) for column in zip(names, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) if i else cell.ljust(width)
                       for i, (cell, width) in enumerate(zip(cells, widths, strict=True)))
             for cells in [names, *rows]]  # fmt: skip
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _cell(form: Any, value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else form.format(value)


def signal_to_noise(loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """|loc| / scale of each weight; 0 of one that was removed."""
    loc = np.abs(loc)
    return np.divide(loc, scale, out=np.where(loc > 0, np.inf, 0.0).astype(loc.dtype), where=scale > 0)


def _row(layer: str, loc: np.ndarray, scale: np.ndarray, kl: float) -> tuple[Any, ...]:
    known = np.isfinite(scale)
    ratio = signal_to_noise(loc[known], scale[known])
    quartiles = np.quantile(ratio, [0.25, 0.5, 0.75], method="inverted_cdf") if len(ratio) else [np.nan] * 3
    width = float(np.mean(scale[known])) if len(ratio) else np.nan
    return (layer, len(loc), width, *map(float, quartiles), kl)


# --- posteriors that the layers hold ----------------------------------------------------------------------------------


def _of_layers(source: Any, seed: int) -> Iterator[tuple[Any, ...]]:
    """Of q of each tensor."""
    layers = sublayers(source.network)
    for layer in layers:
        terms = [term for term in getattr(layer, "weight_terms", ()) if not term.q.is_point]
        if isinstance(layer, VariationalLayer) and terms:
            loc, scale = (np.concatenate(parts) for parts in zip(*(_moments(term.q) for term in terms), strict=True))
            yield _row(layer.name, loc, scale, _kl(layer, layers, seed))


def _moments(q: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each weight, flat; NaN where the family does not know them."""
    if q.factorised_gaussian is not None:
        loc, scale = q.factorised_gaussian
    else:
        loc, scale = (_known(q, moment) for moment in ("mean", "stddev"))
    return np.reshape(loc, -1), np.reshape(scale, -1)


def _known(q: Any, moment: str) -> Any:
    try:
        return getattr(q.distribution(), moment)()
    except NotImplementedError:
        return np.full(q.shape, np.nan, np.float32)


def _kl(layer: VariationalLayer, layers: list[Any], seed: int) -> float:
    found = []
    for number in range(KL_DRAWS):
        with noise_scope(Seeded(seed_pair(seed + number), layers)):
            found.append(layer.kl_divergence())
    return float(mean_over_draws(tf.stack(found)))


# --- posteriors whose draws have weights of their own -----------------------------------------------------------------


def _of_draws(source: Any, seed: int) -> Iterator[tuple[Any, ...]]:
    """Of the weights of the first draws, those of the likelihood left out."""
    drawn = _first_draws(source, seed)
    of_layer: dict[str, list[np.ndarray]] = {}
    network = {id(variable) for variable in source.network.trainable_variables}
    for variable, values in drawn:
        if id(variable) in network:
            of_layer.setdefault(variable.path.split("/")[-2], []).append(values.reshape(len(values), -1))
    for layer, parts in of_layer.items():
        values = np.concatenate(parts, axis=1)
        yield _row(layer, values.mean(axis=0), values.std(axis=0), np.nan)


def _first_draws(source: Any, seed: int) -> list[tuple[Any, np.ndarray]]:
    """Variables that differ from draw to draw, each with its values, [n, ...]."""
    first = source.drawn(seed_pair(seed), tf.constant(0)) if hasattr(source, "drawn") else []
    if not first:
        return []
    size = sum(int(np.prod(variable.shape)) for variable, _ in first)
    count = min(MOST_DRAWS, max(DRAWS_PER_BLOCK, NUMBERS // max(size, 1)), getattr(source, "num_settings", MOST_DRAWS))
    blocks = [first] + [
        source.drawn(seed_pair(seed), tf.constant(number)) for number in range(1, -(-count // DRAWS_PER_BLOCK))
    ]
    return [
        (pairs[0][0], np.concatenate([values.numpy() for _, values in pairs])[:count])
        for pairs in zip(*blocks, strict=True)
    ]
