"""Choosing prior scale, width, learning rate or epochs from training rows alone, candidates trained at once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfbnn.core.checks import check_share, invalid, one_of, positive_integer, shortened
from tfbnn.training.epochs import MONITORED
from tfbnn.training.many import train_members
from tfbnn.training.model import BayesianModel

CRITERIA = ("log_likelihood", "elbo")


@dataclasses.dataclass(frozen=True)
class Selection:
    """What `select` found.

    Attributes:
        best: arguments of the best candidate.
        epochs: how long to train it.
        table: a row a candidate, the best first: its arguments, `score` (mean over the splits, nats a row),
            `standard_error` of that mean, and `epochs`.
    """

    best: dict[str, Any]
    epochs: int
    table: list[dict[str, Any]]

    def to_frame(self) -> Any:
        """`table` as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.table)


def select(
    make: Callable[..., BayesianModel],
    x: Any,
    y: Any,
    candidates: Mapping[str, Sequence[Any]],
    by: str = "log_likelihood",
    epochs: int = 100,
    batch_size: int = 32,
    splits: int = 3,
    validation_fraction: float = 0.2,
    validation_samples: int = 10,
    seed: int = 0,
    verbose: Any = 0,
) -> Selection:
    """Chooses among candidates by training rows alone; those that share a graph are trained at once.

    Args:
        make: (x, y, seed, **candidate) -> compiled `BayesianModel`; x and y are the rows it will be trained on, for
            the likelihood's `adapt`.
        x: training inputs, array [N, ...].
        y: training targets, [N] or [N, T], in their units.
        candidates: argument -> its values; every combination is tried.
        by: "log_likelihood": of the rows that inner splits hold out, with the epoch at which its mean over the splits
            is highest; "elbo": of all rows, mean of the last tenth of the epochs, nothing held out.
        epochs: passes over the rows, at most.
        batch_size: B.
        splits: how many inner splits; with "elbo", how many seeds.
        validation_fraction: share of the rows that each inner split holds out.
        validation_samples: S of the held-out log likelihood.
        seed: of the splits and the models.
        verbose: of `train_many`.

    Returns:
        The `Selection`.

    Raises:
        InvalidInput: for arguments out of range.
        FloatingPointError: where the training of every candidate diverges; one that does scores -inf.

    Example:
        >>> found = tfbnn.select(make, x, y, {"prior_scale": [0.1, 0.3, 1.0], "learning_rate": [0.003, 0.01]})
        >>> model = make(x, y, seed=0, **found.best)
        >>> tfbnn.train(model, x, y, epochs=found.epochs)

    Reference: MacKay 1992, "A Practical Bayesian Framework for Backpropagation Networks" (choice by the evidence).
    """
    one_of("by", by, CRITERIA)
    each = _combinations(candidates)
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 1 or y.ndim < 1 or len(x) != len(y):
        raise invalid("y", f"a row for each of x, an array {list(x.shape)}", f"shape {list(y.shape)}")
    parts = _inner_splits(len(x), positive_integer("splits", splits), validation_fraction, seed, by)
    models = [_made(make, x[kept], y[kept], seed + s, one) for one in each for s, (kept, _) in enumerate(parts)]
    kept = [(x[rows], y[rows]) for rows, _ in parts] * len(each)  # one object a split, which a stack shares
    held = [(x[rows], y[rows]) for _, rows in parts] * len(each) if by == "log_likelihood" else None
    curves = np.full([len(models), epochs], -np.inf)
    for group in _of_one_width(models):
        members = train_members(
            [models[m] for m in group], [kept[m] for m in group], epochs, batch_size,
            None if held is None else [held[m] for m in group],
            validation_samples=validation_samples, verbose=verbose,
        )  # fmt: skip
        for m, member in zip(group, members, strict=True):
            if not member.failure:
                curves[m] = member.history.history[MONITORED if held else "elbo"]
    curves = np.reshape(curves, [len(each), len(parts), epochs])
    if not np.isfinite(curves).all(axis=(1, 2)).any():
        raise FloatingPointError("The training of every candidate diverged: smaller learning rates, or clipping, help.")
    return _best(each, curves if held else curves / len(x), bool(held))


def _combinations(candidates: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    if not isinstance(candidates, Mapping) or not all(
        isinstance(v, list | tuple | np.ndarray) and len(v) for v in candidates.values()
    ):
        raise invalid("candidates", "a mapping: argument -> list of its values", candidates)
    for name in set(candidates) & {"x", "y", "seed", "score", "standard_error", "epochs"}:
        raise invalid("candidates", "arguments of `make` with names that `select` does not use itself", name)
    return [dict(zip(candidates, values, strict=True)) for values in itertools.product(*candidates.values())]


def _inner_splits(num_rows: int, splits: int, fraction: float, seed: int, by: str) -> list[tuple[Any, Any]]:
    """(rows trained on, rows held out) of each split; by ELBO all rows are trained on."""
    if by == "elbo":
        return [(np.arange(num_rows), np.arange(0))] * splits
    held = round(num_rows * check_share("validation_fraction", fraction))
    if not 0 < held < num_rows:
        raise invalid("validation_fraction", f"a share of {num_rows} rows that leaves both parts some", fraction)
    orders = [np.random.default_rng([seed, s]).permutation(num_rows) for s in range(splits)]
    return [(order[held:], order[:held]) for order in orders]


def _made(make: Callable[..., BayesianModel], x: Any, y: Any, seed: int, candidate: dict[str, Any]) -> BayesianModel:
    model = make(x, y, seed=seed, **candidate)
    if not isinstance(model, BayesianModel):
        raise invalid("make", "a function that returns a compiled BayesianModel", shortened(model))
    model.build_for(x)
    return model


def _of_one_width(models: Sequence[BayesianModel]) -> list[list[int]]:
    """Numbers of the models whose weights have the same shapes."""
    groups: dict[Any, list[int]] = {}
    for m, model in enumerate(models):
        groups.setdefault(str([variable.shape for variable in model.trainable_variables]), []).append(m)
    return list(groups.values())


def _best(candidates: list[dict[str, Any]], curves: np.ndarray, held_out: bool) -> Selection:
    """Candidates [C] and what was monitored [C, splits, epochs], nats a row, the best first."""
    rows = []
    for candidate, curve in zip(candidates, curves, strict=True):
        mean = curve.mean(axis=0)
        last = max(1, len(mean) // 10)
        epoch = int(mean.argmax()) + 1 if held_out else len(mean)
        scores = curve[:, epoch - 1] if held_out else curve[:, -last:].mean(axis=1)
        several = len(scores) > 1 and np.isfinite(scores).all()
        error = scores.std(ddof=1) / np.sqrt(len(scores)) if several else np.nan
        rows.append({**candidate, "score": float(scores.mean()), "standard_error": float(error), "epochs": epoch})
    rows.sort(key=lambda row: -row["score"])
    best = {name: rows[0][name] for name in candidates[0]}
    return Selection(best, rows[0]["epochs"], rows)
