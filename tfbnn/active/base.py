"""What the acquisition functions share: a prediction of the pool goes in, the rows to label next come out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from tfbnn.core.checks import invalid, positive_integer
from tfbnn.likelihoods import Likelihood
from tfbnn.prediction import Prediction

Score = Callable[[Prediction], np.ndarray]
Choice = Callable[[Prediction, int, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """How the rows to label are chosen.

    Attributes:
        choose: (prediction of B rows, count, seed) -> positions int [count], in the order of choice.
        coupling: of the draws that it is asked on; "coherent" for what joins rows.
        needs_classes: whether it is of classes alone.
        needs_draws: whether it looks at the prediction; else one draw is as good as many.
    """

    choose: Choice
    coupling: str = "marginal"
    needs_classes: bool = False
    needs_draws: bool = True

    def check_suits(self, likelihood: Likelihood) -> None:
        """Raises InvalidInput where it is of classes and the likelihood is not."""
        if self.needs_classes and not likelihood.is_classifier:
            expected = f"'variance' or 'random' for {type(likelihood).__name__}, which has no classes"
            raise invalid("by", expected, "an acquisition function of classes")


def by_score(score: Score, needs_classes: bool = False) -> Acquisition:
    """The acquisition of the rows whose score is highest; `score` is prediction -> [B]."""
    return Acquisition(functools.partial(_choose_highest, score), needs_classes=needs_classes)


def _choose_highest(score: Score, prediction: Prediction, count: int, seed: int) -> np.ndarray:
    scores = np.asarray(score(prediction), np.float64)
    if scores.shape != (prediction.num_rows,) or np.isnan(scores).any():
        raise invalid("by", f"scores [{prediction.num_rows}], one number a row", scores)
    return highest(scores, count, seed)


def highest(scores: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions of the `count` highest scores, best first; equal ones in random order, not in that of the rows."""
    check_count(count, len(scores))
    order = generator(seed).permutation(len(scores))
    return order[np.argsort(-scores[order], kind="stable")[:count]]


def generator(*seed: int) -> np.random.Generator:
    """NumPy's, seeded by whole numbers, which may be negative."""
    return np.random.default_rng([number % 2**32 for number in seed])


def check_count(count: int, num_rows: int) -> int:
    """Returns `count`; raises where the pool has fewer rows."""
    if num_rows == 0:
        raise invalid("pool", "one row or more that is not labelled yet", "none")
    if positive_integer("count", count) > num_rows:
        raise invalid("count", f"at most {num_rows}, the rows of the pool that are not labelled yet", count)
    return count


def draw_probabilities(prediction: Prediction) -> np.ndarray:
    """p(y = k|x_b, w_s), float64 [S, B, K]."""
    probabilities = prediction.likelihood.class_probabilities(prediction.parameters)
    return np.asarray(probabilities, np.float64)
