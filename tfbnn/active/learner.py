"""Active learning in memory: ask for rows, tell their labels, train, ask again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd

from tfbnn.active.acquire import DEFAULT_SAMPLES, acquire, check_rows, rows_of, taken
from tfbnn.active.acquisition import get
from tfbnn.active.base import check_count, generator
from tfbnn.core.checks import invalid
from tfbnn.core.draws import Draws
from tfbnn.core.noise import check_seed

Fit = Callable[[Any, np.ndarray], Draws]


class ActiveLearner:
    """Asks which rows of a pool to label, is told the labels, and learns from all of them.

    Args:
        fit: function of labelled rows, (x [n, ...], y [n] or [n, T]) -> Draws, such as a method of `tfbnn.inference`
            made and fitted. It is called anew whenever labels have come in; a warm start is its own affair.
        pool: rows without labels, [B, ...]; as for `acquire`.
        labelled: (x, y) that are known at the start; None: the first rows are asked for at random.
        by, num_samples, candidates: of `acquire`.
        seed: of what is random here; each round has its own.

    Attributes:
        asked: positions of all rows that were asked for, in that order.
        answers: position -> label, of the rows of the pool that were told.

    Example:
        >>> def fit(x, y):
        ...     return tfbnn.inference.MonteCarloDropout(network(), "Bernoulli", seed=0).fit(x, y, epochs=200)
        >>> learner = tfbnn.active.ActiveLearner(fit, pool, labelled=(x, y))
        >>> rows = learner.ask(10)
        >>> learner.tell(rows, labels_from_a_person(rows))
        >>> learner.draws.predict_distribution(x_test)
    """

    def __init__(
        self,
        fit: Fit,
        pool: Any,
        labelled: tuple[Any, Any] | None = None,
        by: Any = "bald",
        num_samples: int = DEFAULT_SAMPLES,
        candidates: int | None = None,
        seed: int = 0,
    ):
        self.fit = fit
        self.pool = rows_of("pool", pool)
        self.num_rows = check_rows("pool", self.pool)
        self.by = get(by)
        self.num_samples, self.candidates, self.seed = num_samples, candidates, check_seed("seed", seed)
        self.known = None if labelled is None else _known(labelled)
        self.asked: list[int] = []
        self.answers: dict[int, Any] = {}
        self.rounds = 0
        self._draws: Draws | None = None

    @property
    def num_labels(self) -> int:
        """How many rows are labelled, with those that were known at the start."""
        return len(self.answers) + (0 if self.known is None else len(self.known[1]))

    @property
    def unlabelled(self) -> np.ndarray:
        """Positions int of the rows of the pool that have no label."""
        return np.setdiff1d(np.arange(self.num_rows), np.fromiter(self.answers, int, len(self.answers)))

    @property
    def draws(self) -> Draws:
        """The posterior given all labels; trains where labels have come in since it last did.

        Raises:
            InvalidInput: where there are no labels.
        """
        if self._draws is None:
            if not self.num_labels:
                raise invalid("labelled", "labels to learn from", "none", "Tell the labels of the rows asked for.")
            self._draws = self.fit(*self._labelled_rows())
        return self._draws

    def ask(self, count: int) -> np.ndarray:
        """Positions int [count] of the rows to label next; without any label so far, at random.

        Raises:
            InvalidInput: where fewer rows are unlabelled.
        """
        unlabelled = self.unlabelled
        check_count(count, len(unlabelled))
        seed = int(generator(self.seed, self.rounds).integers(2**31))
        if self.num_labels:
            rows = taken(self.pool, unlabelled)
            chosen = acquire(self.draws, rows, count, self.by, self.num_samples, seed, self.candidates)
        else:
            chosen = generator(seed).choice(len(unlabelled), count, replace=False)
        self.rounds += 1
        self.asked.extend(unlabelled[chosen].tolist())
        return unlabelled[chosen]

    def tell(self, positions: Sequence[int] | np.ndarray, labels: Any, correct: bool = False) -> None:
        """Takes labels of rows that were asked for; not all at once need be told, the others may be asked for again.

        Args:
            positions: of the rows in the pool, [n].
            labels: [n] or [n, T].
            correct: whether a label told before is replaced, rather than refused.

        Raises:
            InvalidInput: for rows never asked for, rows labelled already or twice, another number of labels, or
                labels that are missing (NaN, None).
        """
        positions, labels = np.asarray(positions).reshape(-1), np.atleast_1d(labels)
        if len(labels) != len(positions):
            raise invalid("labels", f"{len(positions)}, one a row", f"{len(labels)} labels")
        if missing := positions[np.asarray(pd.isna(labels)).reshape(len(labels), -1).any(axis=1)].tolist():
            raise invalid("labels", "a label of each row", f"none of rows {missing}", "Leave rows without one out.")
        if never := sorted(set(positions.tolist()) - set(self.asked)):
            raise invalid("positions", "rows that were asked for", never)
        again = [position for i, position in enumerate(positions.tolist())
                 if (position in self.answers and not correct) or position in positions[:i]]  # fmt: skip
        if again:
            raise invalid("positions", "rows without a label, each once", again, "correct=True replaces labels.")
        self.answers.update(zip(positions.tolist(), labels, strict=True))
        self._draws = None

    def _labelled_rows(self) -> tuple[Any, np.ndarray]:
        """All labelled rows: those known at the start, then those told."""
        parts = [] if self.known is None else [self.known]
        if self.answers:
            told = np.array(list(self.answers.values()))
            parts.append((taken(self.pool, np.fromiter(self.answers, int, len(self.answers))), told))
        x = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *[x for x, _ in parts])
        return x, np.concatenate([y.reshape(len(y), *parts[0][1].shape[1:]) for _, y in parts])


def _known(labelled: tuple[Any, Any]) -> tuple[Any, np.ndarray]:
    x, y = rows_of("labelled", labelled[0]), np.asarray(labelled[1])
    if check_rows("labelled", x) != len(y):
        raise invalid("labelled", "as many labels as rows", [check_rows("labelled", x), len(y)])
    return x, y
