"""Active learning with an oracle: how the score grows with the number of labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfbnn.active.acquire import DEFAULT_SAMPLES
from tfbnn.active.base import check_count
from tfbnn.active.learner import ActiveLearner, Fit
from tfbnn.core.checks import invalid, positive_integer
from tfbnn.core.draws import Draws


class Simulation(NamedTuple):
    """What a simulation gave.

    Attributes:
        history: pandas DataFrame, a row a training: `round`, `labels`, and the scores.
        asked: positions int [rounds, count] of the rows that were asked for.
        learner: the `ActiveLearner`, with its last posterior.
    """

    history: Any
    asked: np.ndarray
    learner: ActiveLearner


def simulate(
    fit: Fit,
    pool: Any,
    oracle: Any,
    score: Callable[[Draws], Mapping[str, float]],
    count: int,
    rounds: int,
    by: Any = "bald",
    labelled: tuple[Any, Any] | None = None,
    num_samples: int = DEFAULT_SAMPLES,
    candidates: int | None = None,
    seed: int = 0,
    told: Callable[[dict[str, float]], None] | None = None,
) -> Simulation:
    """Train, score, ask, label, and again: `rounds` times.

    Args:
        fit, pool, by, labelled, num_samples, candidates, seed: of `ActiveLearner`.
        oracle: the labels of all rows of the pool, [B] or [B, T], or a function of positions int [n] that gives theirs.
        score: function of the posterior -> name -> score, such as those of test rows.
        count: labels a round.
        rounds: how often labels are asked for.
        told: is given each row of the history when it is known.

    Returns:
        A `Simulation`; its history has rounds + 1 rows, or one fewer without labels at the start.

    Raises:
        InvalidInput: where the pool has fewer than count * rounds rows, and as `ActiveLearner`.

    Example:
        >>> def score(draws):
        ...     return tfbnn.evaluation.score(draws.predict_distribution(x_test), y_test)
        >>> found = tfbnn.active.simulate(fit, pool, y_pool, score, count=10, rounds=20, labelled=(x, y))
        >>> found.history.plot("labels", "accuracy")
    """
    import pandas as pd  # not needed for anything else here

    learner = ActiveLearner(fit, pool, labelled, by, num_samples, candidates, seed)
    positive_integer("rounds", rounds)
    check_count(positive_integer("count", count) * rounds, learner.num_rows)
    label_of = oracle if callable(oracle) else _known_labels(oracle, learner.num_rows)
    history: list[dict[str, float]] = []
    asked = []
    for number in range(rounds + 1):
        if learner.num_labels:
            history.append({"round": number, "labels": learner.num_labels, **score(learner.draws)})
            if told is not None:
                told(history[-1])
        if number < rounds:
            rows = learner.ask(count)
            learner.tell(rows, label_of(rows))
            asked.append(rows)
    return Simulation(pd.DataFrame(history), np.array(asked), learner)


def _known_labels(labels: Any, num_rows: int) -> Callable[[np.ndarray], np.ndarray]:
    labels = np.asarray(labels)
    if labels.ndim == 0 or len(labels) != num_rows:
        raise invalid("oracle", f"a function of positions, or {num_rows} labels, one a row of the pool", labels)
    return lambda positions: labels[positions]
