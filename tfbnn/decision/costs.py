"""Decisions by costs: the action of least expected cost, or a referral where even that is too much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.core.checks import finite_number, invalid
from tfbnn.core.serialization import register
from tfbnn.decision.base import Decision


@register
class CostMatrix(Decision):
    """Takes the action a of least expected cost sum_k p(k|x) C[a, k], or refers at a fixed cost where that is less.

    Outputs, beside `uncertainty` (the least expected cost) and `abstain` (whether it is above the cost of a referral):
    `action` [B], an action's name, also of rows that are referred.

    Args:
        costs: action -> cost of each class, in the order of the classes, [K]; negative for a gain.
        refer: cost of a referral; above the least of the costs, as every row would be referred otherwise, and below the
            largest, as none would.

    Example:
        >>> decision = tfbnn.decision.CostMatrix({"grant": [0, 5], "refuse": [1, 0]}, refer=0.3)
        >>> decision(prediction)["action"]

    Reference: Chow 1970, "On optimum recognition error and reject tradeoff"; Elkan 2001.
    """

    def __init__(self, costs: Mapping[str, Any], refer: float):
        if not isinstance(costs, Mapping) or not costs:
            raise invalid("costs", "action -> cost of each class", costs)
        self.costs = {str(action): _numbers(f"costs.{action}", row) for action, row in costs.items()}
        if len({len(row) for row in self.costs.values()}) != 1:
            expected = "as many costs for each action as there are classes"
            raise invalid("costs", expected, {action: len(row) for action, row in self.costs.items()})
        self.refer = finite_number("refer", refer)
        if self.refer <= self.matrix.min():
            least = f"more than the least of the costs, {self.matrix.min():g}"
            raise invalid("refer", least, refer, "Every row would be referred.")
        if self.refer >= self.matrix.max():
            most = f"less than the largest of the costs, {self.matrix.max():g}"
            raise invalid("refer", most, refer, "No row would ever be referred.")

    @property
    def threshold(self) -> float:
        """The cost of a referral."""
        return self.refer

    @property
    def matrix(self) -> np.ndarray:
        """C, float32 [actions, K]."""
        return np.array(list(self.costs.values()), np.float32)

    def check(self, likelihood):
        if not likelihood.is_classifier:
            raise invalid("costs", "a likelihood of classes", type(likelihood).__name__)
        if self.matrix.shape[1] != likelihood.num_classes:
            raise invalid("costs", f"{likelihood.num_classes} costs for each action", f"{self.matrix.shape[1]}")

    def expected(self, named: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The expected cost of each action, [B, actions]."""
        return tf.linalg.matmul(named["probabilities"], self.matrix, transpose_b=True)

    def uncertainty(self, named):
        return tf.reduce_min(self.expected(named), axis=-1)

    def outputs(self, named, threshold=None):
        best = tf.argmin(self.expected(named), axis=-1)
        return {**super().outputs(named, threshold), "action": tf.gather(tf.constant(list(self.costs)), best)}

    def cost(self, action: Any, abstain: Any, y: Any) -> np.ndarray:
        """What the decisions cost, row by row.

        Args:
            action: [B], names.
            abstain: [B], bool: referred rows cost `refer`.
            y: [B], classes.
        """
        names = list(self.costs)
        rows = [names.index(name.decode() if isinstance(name, bytes) else str(name)) for name in np.asarray(action)]
        return np.where(abstain, self.refer, self.matrix[rows, np.asarray(y, int).reshape(-1)])


def _numbers(where: str, row: Any) -> list[float]:
    if isinstance(row, str | Mapping) or not np.iterable(row):
        raise invalid(where, "a list of costs, one a class", row)
    return [finite_number(where, value) for value in row]
