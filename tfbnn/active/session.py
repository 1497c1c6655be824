"""A session with a person: which rows of a pool were asked for, and their labels, kept in one folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tfbnn.active.base import check_count
from tfbnn.core.checks import InvalidInput, invalid
from tfbnn.data import Target, read_frame, write_frame
from tfbnn.data.columns import is_missing

ROW = "pool_row"
STATE, LABELLED, HISTORY, TO_LABEL = "session.json", "labelled.csv", "history.csv", "to_label.csv"


class Session:
    """Rows asked for and labels got, in a folder that a later process goes on with.

    The folder holds `session.json` (what was asked for in each round, and the scores before it), `labelled.csv` (the
    rows labelled so far) and `history.csv` (labels against scores). Each file appears whole or not at all, and neither
    pool nor labels are written to where they came from.

    Args:
        folder: of the session; made at the first question.
        pool: the rows without labels, [B, columns]; the column `target`, where it has one, is not looked at.
        target: name of the column that the person fills in.

    Attributes:
        rounds: of each question: `asked` (row numbers in the pool, from 0), `by`, `labels` (how many there were in all)
            and `scores`.
        labelled: DataFrame of row number (`pool_row`) and target of the rows labelled so far.

    Raises:
        InvalidInput: for an empty pool, another pool or target than the session began with, a folder that is none.

    Example:
        >>> session = tfbnn.active.Session("saved_models/moons.active", pool, target="moon")
        >>> session.ask([3, 14], by="bald", num_labels=20).to_csv("to_label.csv", index=False)
        >>> answers = pandas.DataFrame({"pool_row": [3, 14], "moon": ["upper", "lower"]})
        >>> session.answer(answers, tfbnn.data.Target.fit(known, "classes"))
    """

    def __init__(self, folder: str | os.PathLike[str], pool: pd.DataFrame, target: str):
        self.folder, self.target = Path(folder), target
        if not len(pool):
            raise invalid("pool", "one row or more", "0 rows")
        if ROW in pool.columns:
            raise invalid("pool", f"no column of the name {ROW}, which numbers its rows", list(pool.columns))
        self.pool = pool.drop(columns=[target], errors="ignore").reset_index(drop=True)
        self.rounds: list[dict[str, Any]] = self._read_rounds()
        self.labelled: pd.DataFrame = self._read_labelled()

    @property
    def asked(self) -> set[int]:
        """Numbers of all rows that were ever asked for."""
        return {row for one in self.rounds for row in one["asked"]}

    @property
    def waiting(self) -> np.ndarray:
        """Numbers of the rows of the last question that have no label yet."""
        last = self.rounds[-1]["asked"] if self.rounds else []
        return np.array([row for row in last if row not in set(self.labelled[ROW])], dtype=int)

    @property
    def unlabelled(self) -> np.ndarray:
        """Numbers of the rows of the pool without a label."""
        return np.setdiff1d(np.arange(len(self.pool)), self.labelled[ROW].to_numpy(int))

    @property
    def history(self) -> pd.DataFrame:
        """Labels against scores, a row a question."""
        return pd.DataFrame(
            [{"round": i + 1, "labels": one["labels"], **one["scores"]} for i, one in enumerate(self.rounds)]
        )

    def rows(self, numbers: Sequence[int] | np.ndarray) -> pd.DataFrame:
        """Rows of the pool as a person gets them: their number, the target, empty, then the columns."""
        numbers = np.asarray(numbers, int)
        found = self.pool.iloc[numbers].reset_index(drop=True)
        found.insert(0, ROW, numbers)
        found.insert(1, self.target, "")
        return found

    def labelled_rows(self) -> tuple[pd.DataFrame, pd.Series]:
        """Columns [n, ...] and labels [n] of the rows labelled so far."""
        features = self.pool.iloc[self.labelled[ROW].to_numpy(int)]
        return features, self.labelled[self.target].set_axis(features.index)

    def ask(
        self, numbers: Sequence[int] | np.ndarray, by: str, num_labels: int, scores: Mapping[str, float] | None = None
    ) -> pd.DataFrame:
        """Keeps a question; returns its rows, as `rows` does.

        Args:
            numbers: of the rows in the pool, from 0.
            by: name of the acquisition function.
            num_labels: labels that were learned from before it was asked.
            scores: of the model that asked, by name.
        """
        asked = [int(row) for row in numbers]
        check_count(len(asked), len(self.unlabelled))
        if wrong := sorted(set(asked) - set(self.unlabelled.tolist())):
            raise invalid("numbers", "rows of the pool without a label", wrong)
        rounds = [*self.rounds, {"asked": asked, "by": by, "labels": num_labels, "scores": dict(scores or {})}]
        self._write_state(rounds)
        self.rounds = rounds
        write_frame(self.history, self.folder / HISTORY, "session")
        return self.rows(asked)

    def check_answers(self, answers: pd.DataFrame, target: Target) -> pd.DataFrame:
        """The row numbers and labels among `answers` that are new; nothing is kept yet.

        Args:
            answers: with the columns `pool_row` and the target; others are not looked at. Rows without a label are left
                out.
            target: of the rows that were labelled before, which tells the classes.

        Raises:
            InvalidInput: for missing columns, no label at all, rows never asked for or told twice, unknown classes,
                and a label other than the one that a row has already.
        """
        for name in (ROW, self.target):
            if name not in answers.columns:
                expected = f"the columns {ROW} and {self.target}, as in the file of the rows to label"
                raise invalid("labels", expected, list(answers.columns))
        answers = answers[[ROW, self.target]].reset_index(drop=True)
        self._check_asked(answers[ROW])
        answers = answers[~is_missing(answers[self.target])].astype({ROW: float}).astype({ROW: int})
        if not len(answers):
            raise invalid("labels", f"the column {self.target} filled in", "no label at all")
        try:
            target.encode(answers[self.target])
        except InvalidInput as error:
            raise error.at("labels") from None
        return answers[~answers[ROW].isin(self._labelled_alike(answers, target))]

    def answer(self, answers: pd.DataFrame, target: Target) -> int:
        """Keeps labels; returns how many were new. Arguments and errors are those of `check_answers`."""
        new = self.check_answers(answers, target)
        self.labelled = pd.concat([self.labelled, new], ignore_index=True) if len(self.labelled) else new
        self.folder.mkdir(parents=True, exist_ok=True)
        features, told = self.labelled_rows()
        features = features.reset_index(drop=True)
        features.insert(0, ROW, self.labelled[ROW].to_numpy())
        features.insert(1, self.target, told.to_numpy())
        write_frame(features, self.folder / LABELLED, "session")
        return len(new)

    def not_given(self, path: Path) -> list[int]:
        """Numbers of the rows that have a label in the file `path`, if there is one, and none in the session."""
        if not path.is_file():
            return []
        try:
            rows = read_frame(path)[[ROW, self.target]]
        except (InvalidInput, KeyError):
            return []
        return sorted(set(rows[ROW][~is_missing(rows[self.target])]) - set(self.labelled[ROW]))

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_asked(self, numbers: pd.Series) -> None:
        if not len(numbers):
            raise invalid("labels", "a row or more", "no rows")
        unread = numbers[pd.to_numeric(numbers, errors="coerce").mod(1) != 0]
        if len(unread):
            expected = f"a whole number as {ROW} in each row, as in the file of the rows to label"
            raise invalid("labels", expected, unread.tolist()[:10])
        numbers = numbers.astype(float).astype(int)
        never = [row for row in numbers if row not in self.asked]
        if never:
            mend = f"{len(never)} of {len(numbers)} rows were not." if self.asked else "Nothing was asked for yet."
            raise invalid("labels", "rows that were asked for", never[:10], mend)
        if numbers.duplicated().any():
            raise invalid("labels", "each row once", numbers[numbers.duplicated()].tolist())

    def _labelled_alike(self, answers: pd.DataFrame, target: Target) -> set[int]:
        """Numbers of the rows that have their label already; raises where they have another."""
        known = dict(zip(self.labelled[ROW], target.encode(self.labelled[self.target])[:, 0], strict=True))
        told = dict(zip(answers[ROW], target.encode(answers[self.target])[:, 0], strict=True))
        if other := [row for row, label in told.items() if row in known and known[row] != label]:
            mend = f"Correct {self.folder / LABELLED} where that was the mistake."
            raise invalid("labels", "the label that a row was given before", other[:10], mend)
        return set(told) & set(known)

    # --- files -------------------------------------------------------------------------------------------------------

    def _read_rounds(self) -> list[dict[str, Any]]:
        path = self.folder / STATE
        if not path.is_file():
            if self.folder.exists() and not (self.folder.is_dir() and not any(self.folder.iterdir())):
                raise invalid("session", f"a new folder, or one with a {STATE}", str(self.folder))
            return []
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            rounds, pool, target = state["rounds"], state["pool"], state["target"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise invalid("session", f"a {STATE} that can be read", str(path), f"{error}.") from None
        mend = f"Another session needs another folder than {self.folder}."
        if target != self.target:
            raise invalid("data.target", f"{target!r}, as the session began with", self.target, mend)
        if pool != self._digest():
            raise invalid("pool", "the rows that the session began with", f"{len(self.pool)} other rows", mend)
        return rounds

    def _read_labelled(self) -> pd.DataFrame:
        path = self.folder / LABELLED
        if not self.rounds or not path.is_file():
            return pd.DataFrame({ROW: np.array([], int), self.target: np.array([], object)})
        return read_frame(path)[[ROW, self.target]].astype({ROW: int})

    def _write_state(self, rounds: list[dict[str, Any]]) -> None:
        state = {"target": self.target, "pool": self._digest(), "rounds": rounds}
        temporary = self.folder / f".{STATE}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")
            os.replace(temporary, self.folder / STATE)
        except OSError as error:
            raise invalid("session", "a folder that can be written to", str(self.folder), f"{error}.") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _digest(self) -> str:
        """The same for the same rows, from whatever file they came."""
        return hashlib.sha256(self.pool.to_csv(index=False).encode()).hexdigest()
