"""Active learning of a recipe with a person: its rows and the labels so far are learned from, and rows asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tfbnn.active import Session, acquire, get
from tfbnn.active.base import check_count
from tfbnn.core.checks import invalid
from tfbnn.data import Table, Target, read_table
from tfbnn.recipes.run import PreparedData, Progress, RecipeResult, export_path, prepare_data, run_recipe
from tfbnn.recipes.spec import Recipe, likelihood_for

DEFAULT_COUNT = 10


class Question(NamedTuple):
    """What a round of active learning gave.

    Attributes:
        rows: DataFrame of the rows to label (number, empty target, columns); empty where the whole pool is labelled.
        result: of the recipe, on all labels so far.
    """

    rows: pd.DataFrame
    result: RecipeResult


def open_session(recipe: Recipe, pool: pd.DataFrame, folder: str | os.PathLike[str] | None = None) -> Session:
    """The session of a recipe and a pool, new or gone on with.

    Args:
        recipe: its table holds the rows that are labelled at the start.
        pool: rows without labels, [B, columns]: those of the table; target and excluded columns may be there too.
        folder: of the session; None: NAME.active, beside the recipe's SavedModel.

    Raises:
        InvalidInput: for a pool that is empty or has other columns, and as `tfbnn.active.Session`.

    Example:
        >>> session = open_session(recipe, pandas.read_csv("pool.csv"))
    """
    spec = recipe.data
    needed = read_table(spec.source, spec.target, spec.exclude).features.columns
    _check_columns(pool, list(needed), {spec.target, *spec.exclude})
    path = export_path(recipe)
    return Session(folder or path.with_name(f"{path.name}.active"), pool[list(needed)], spec.target)


def _check_columns(pool: pd.DataFrame, needed: list[str], others: set[str]) -> None:
    missing = [name for name in needed if name not in pool.columns]
    unknown = [name for name in pool.columns if name not in {*needed, *others}]
    if missing or unknown:
        lists = {"Missing": missing, "Unknown": unknown}
        told = " ".join(f"{word}: {', '.join(names)}." for word, names in lists.items() if names)
        raise invalid("pool", f"the columns of the recipe's table, {', '.join(needed)}", list(pool.columns), told)


def known_target(recipe: Recipe) -> Target:
    """The target as the recipe's own rows tell it: the classes that labels may be of."""
    spec = recipe.data
    kind = "classes" if likelihood_for(recipe.likelihood, num_classes=2).is_classifier else "real"
    return Target.fit(read_table(spec.source, spec.target, spec.exclude).target, kind)


def default_acquisition(recipe: Recipe) -> str:
    """BALD of classes, the epistemic variance of numbers."""
    return "bald" if likelihood_for(recipe.likelihood, num_classes=2).is_classifier else "variance"


def as_before(recipe: Recipe, session: Session, count: int | None, by: str | None) -> tuple[int, str]:
    """Count and acquisition function: where None, those of the last question; at the first 10 and the default."""
    last = session.rounds[-1] if session.rounds else None
    before = len(last["asked"]) if last else DEFAULT_COUNT
    return (before if count is None else count), by or (last["by"] if last else default_acquisition(recipe))


def check_question(recipe: Recipe, session: Session, count: int, by: str, answers: pd.DataFrame | None) -> None:
    """Raises InvalidInput where a question would be refused after minutes of training, or answers before.

    Args:
        recipe, session, count, by: of `ask`.
        answers: what `session.answer` would be given first; None: nothing.
    """
    likelihood = likelihood_for(recipe.likelihood, num_classes=2)
    get(by).check_suits(likelihood)
    new = 0
    if answers is not None:
        target = known_target(recipe)
        told = session.check_answers(answers, target)
        if not likelihood.is_classifier:
            likelihood.check_target("labels", target.encode(told[session.target]))
        new = len(told)
    if left := len(session.unlabelled) - new:
        check_count(count, left)


def labelled_data(recipe: Recipe, session: Session) -> PreparedData:
    """The recipe's data with the session's labels among the training rows; the held-out rows stay the same ones."""
    return prepare_data(recipe, more=Table(*session.labelled_rows()))


def ask(
    recipe: Recipe,
    session: Session,
    count: int,
    by: str | None = None,
    data: PreparedData | None = None,
    callbacks: Sequence[Any] = (),
    progress: Progress | None = None,
) -> Question:
    """Trains the recipe on all labels, exports the model, and asks for the rows to label next.

    Args:
        recipe: what to train.
        session: of `open_session`; it keeps the question.
        count: rows to ask for.
        by: name of the acquisition function; None: "bald" of classes, "variance" of numbers.
        data: what `labelled_data(recipe, session)` gave, where it was called before.
        callbacks, progress: of `run_recipe`.

    Returns:
        The `Question`.

    Raises:
        InvalidInput: for a count above the rows without a label, and as `run_recipe`.

    Example:
        >>> session = open_session(recipe, pool)
        >>> question = ask(recipe, session, count=20)
        >>> question.rows.to_csv("to_label.csv", index=False)
    """
    by = by or default_acquisition(recipe)
    check_question(recipe, session, count, by, None)
    data = labelled_data(recipe, session) if data is None else data
    unlabelled = session.unlabelled
    x = data.schema.encode(session.pool.iloc[unlabelled]) if len(unlabelled) else None
    result = run_recipe(recipe, callbacks, data=data, progress=progress)
    if x is None:
        return Question(session.rows([]), result)
    seed = int(np.random.default_rng([recipe.seed, len(session.rounds)]).integers(2**31))
    chosen = acquire(result.draws, x, count, by, recipe.prediction.num_samples, seed)
    rows = session.ask(unlabelled[chosen], by, len(data.train.target), result.scores)
    return Question(rows, result)
