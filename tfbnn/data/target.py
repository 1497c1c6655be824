"""The target column as an array: real numbers, or classes by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tfbnn.core.checks import invalid, one_of
from tfbnn.data.columns import finite_numbers, labels, refuse_missing, refused_cells

KINDS = ("real", "classes")
_WHERE = "data.target"


@dataclasses.dataclass(frozen=True)
class Target:
    """How the target column becomes numbers; fitted on training rows only.

    Attributes:
        kind: "real" or "classes".
        labels: the K class names, sorted; class k of the likelihood is `labels[k]`. Empty for a real target.

    Example:
        >>> target = Target.fit(pd.Series(["no", "yes", "no"]), "classes")
        >>> target.encode(pd.Series(["yes"]))
        array([[1]], dtype=int32)
    """

    kind: str
    labels: tuple[str, ...] = ()

    @classmethod
    def fit(cls, series: pd.Series, kind: str) -> Target:
        """Learns the classes of the training rows.

        Args:
            series: the target column of the training rows, [N].
            kind: "real" or "classes"; class names that are whole numbers read alike as int and float.

        Returns:
            The fitted target.

        Raises:
            InvalidInput: a missing value; a real target with text or infinite values; fewer than 2 classes.
        """
        one_of("kind", kind, KINDS)
        refuse_missing(series, _WHERE)
        if kind == "real":
            finite_numbers(series, _WHERE, "For classes use likelihood: Bernoulli (two) or Categorical (more).")
            return cls(kind)
        names = tuple(sorted(set(labels(series))))
        if len(names) < 2:
            raise invalid(_WHERE, "at least 2 classes in the training rows", list(names))
        return cls(kind, names)

    def encode(self, series: pd.Series) -> np.ndarray:
        """Returns the target as the likelihood takes it.

        Args:
            series: target column, [N], in the units (or class names) of the table.

        Returns:
            [N, 1]: float32 in original units, or the int32 index of each class in `labels`.

        Raises:
            InvalidInput: a missing, non-numeric or infinite value, or a class that no training row has.
        """
        refuse_missing(series, _WHERE)
        if self.kind == "real":
            return finite_numbers(series, _WHERE)[:, None]
        return self._class_indices(series)[:, None]

    def _class_indices(self, series: pd.Series) -> np.ndarray:
        index_of = {name: index for index, name in enumerate(self.labels)}
        indices = np.array([index_of.get(name, -1) for name in labels(series)], dtype=np.int32)
        if (unseen := indices < 0).any():
            expected = f"one of the {len(self.labels)} classes of the training rows"
            raise refused_cells(series, unseen, _WHERE, expected, "Give it training rows, or leave its rows out.")
        return indices

    def to_dict(self) -> dict[str, Any]:
        """Returns what `from_dict` takes, fit for JSON."""
        return {"kind": self.kind, "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Target:
        """Returns the target whose `to_dict` is `config`."""
        return cls(config["kind"], tuple(config["labels"]))
