"""Checkpoints of a training: written whole or not at all, the last two kept, read back past damaged ones."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import uuid
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn._version import __version__
from tfbnn.core.checks import InvalidInput, invalid, positive_integer
from tfbnn.training.description import described
from tfbnn.training.epochs import Member
from tfbnn.training.model import BayesianModel
from tfbnn.training.stack import Stack

FORMAT = 1  # rises when an older tfbnn could not read what is written
KEPT = 2
ABOUT = "about"
UNFINISHED = ".writing-"  # how the name of a file begins that a killed process may leave behind


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state of a training at the end of an epoch.

    Attributes:
        epoch: epochs done.
        values: of every variable, in the order of the loop.
        about: JSON-able: the history, what early stopping knows, and what the training was of (`of`).
        best: values of the best epoch so far, where early stopping watches; else empty.
    """

    epoch: int
    values: list[np.ndarray]
    about: dict[str, Any]
    best: list[np.ndarray] = dataclasses.field(default_factory=list)


class Checkpoints:
    """A folder of checkpoints, `epoch-000040.npz`.

    Args:
        folder: made where it does not exist.
        of: what the training is of, JSON-able: name -> what; `newest` refuses those of another.
    """

    def __init__(self, folder: Any, of: Mapping[str, Any]):
        self.folder = Path(folder)
        self.of = json.loads(json.dumps(of))
        self._lock: int | None = None
        self._made: list[Path] = []

    def lock(self) -> None:
        """Keeps other trainings out of the folder, until `unlock` or the end of the process.

        Raises:
            InvalidInput: where another one has it, or it cannot be made.
        """
        try:
            self._made = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            mend = "Wait for that one to end, or give another folder (recipes: another name or export.path)."
            raise invalid("checkpoint", "a folder that no other training uses now", str(self.folder), mend) from None
        except OSError as error:
            raise self._not_written(self.folder, error) from error

    def unlock(self) -> None:
        """Lets other trainings use the folder; removes what `lock` has made, where nothing is in it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def files(self) -> list[Path]:
        """Checkpoints that are there, the newest first."""
        return sorted(self.folder.glob("epoch-*.npz"), reverse=True)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint under a temporary name, then renames it; removes all but the last two.

        Raises:
            InvalidInput: where it cannot be written (a full disk); those before stay as they are.
        """
        path = self.folder / f"epoch-{checkpoint.epoch:06d}.npz"
        temporary = self.folder / f"{UNFINISHED}{path.stem}.{uuid.uuid4().hex[:8]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                np.savez(file, allow_pickle=False, **self._arrays(checkpoint))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise self._not_written(path, error) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        for old in (*self.files()[KEPT:], *self.folder.glob(f"{UNFINISHED}*")):
            old.unlink(missing_ok=True)
        return path

    def _arrays(self, checkpoint: Checkpoint) -> dict[str, Any]:
        about = {**checkpoint.about, "of": self.of, "epoch": checkpoint.epoch, "format": FORMAT, "tfbnn": __version__}
        named = {f"value_{i:05d}": _storable(value) for i, value in enumerate(checkpoint.values)}
        best = {f"best_{i:05d}": _storable(value) for i, value in enumerate(checkpoint.best)}
        return {**named, **best, ABOUT: np.frombuffer(json.dumps(about, default=float).encode(), np.uint8)}

    def _not_written(self, path: Path, error: OSError) -> InvalidInput:
        last = next(iter(self.files()), None)
        kept = f"The last good one stays: {last}." if last else "There is none before it."
        return invalid("checkpoint", "a folder that can be written to", str(path), f"{error.strerror}. {kept}")

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that can be read; None where there is none at all.

        A damaged one, or one that a newer tfbnn wrote, is passed over with a warning.

        Raises:
            InvalidInput: where it is of another training, or none of those that are there can be read.
        """
        reasons = []
        for path in self.files():
            try:
                found = _read(path)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
                reasons.append(f"{path.name} cannot be used ({error})")
                continue
            self._refuse_other_training(path, found.about["of"])
            for reason in reasons:
                warnings.warn(f"Checkpoint {reason}; {path.name} is used instead.", stacklevel=2)
            return found
        if reasons:
            mend = "Remove the folder, and train from the start."
            raise invalid(
                "checkpoint", "a checkpoint that can be read", str(self.folder), f"{'; '.join(reasons)}. {mend}"
            )
        return None

    def _refuse_other_training(self, path: Path, of: Mapping[str, Any]) -> None:
        for name, value in self.of.items():
            if of.get(name) != value:
                what, here, there = _difference(name, value, of.get(name))
                raise invalid(
                    "checkpoint",
                    f"one of this training ({what}: {here})",
                    f"{path} ({what}: {there})",
                    "Train without resuming, which removes it, or give another folder.",
                )

    def remove(self) -> None:
        """Removes all checkpoints, finished and not."""
        for path in (*self.files(), *self.folder.glob(f"{UNFINISHED}*")):
            path.unlink(missing_ok=True)


class Keeper:
    """Keeps the state of one model's training in a folder, and takes it back.

    Args:
        folder: of the checkpoints.
        every: epochs between them.
        stack: of the one model.
        member: its training.
        settings: JSON-able: what else a resumed training must have in common with the first.
    """

    def __init__(self, folder: Any, every: int, stack: Stack, member: Member, settings: Mapping[str, Any]):
        self.member = member
        self.logs: dict[str, list[float]] = {}
        self._stack = stack
        self._every = positive_integer("checkpoint_every", every)
        model = member.model
        self._rate = _rate(model.optimizer)
        self._checkpoints = Checkpoints(
            folder,
            {
                "variables": [[list(v.shape), str(v.dtype)] for v in stack.variables],
                "optimizer": {"class": type(model.optimizer).__name__, **_settings(model.optimizer)},
                "beta": repr(model.beta),
                "seed": model.seed,
                "number of training rows": model.num_data,
                **settings,
                "model": described(model),
            },
        )

    def begin(self, resume: bool) -> int:
        """Takes the newest checkpoint back, or removes those of an earlier training; returns the epochs done."""
        self._checkpoints.lock()
        found = self._checkpoints.newest() if resume else None
        if found is None:
            self._checkpoints.remove()
            return 0
        self._take_rate(found.about["rates"])
        self._stack.write_back([0], [tf.constant(value) for value in found.values])
        member = self.member
        present = dict(zip(found.about["layers"], _of_layers(member.model), strict=True))
        self.logs = {present.get(name, name): values for name, values in found.about["history"].items()}
        member.best = found.best
        member.best_score, member.best_epoch = found.about["best"]
        member.done = found.about["done"]
        return found.epoch

    def end(self) -> None:
        """Lets other trainings use the folder."""
        self._checkpoints.unlock()

    def _take_rate(self, rates: list[float | None]) -> None:
        """Refuses a learning rate that is neither the one at the start nor the one that callbacks had set."""
        if self._rate not in rates:
            started = f"one that was begun with {rates[0]}, which {self._checkpoints.folder} has"
            raise invalid("optimizer.learning_rate", started, self._rate, "Resume with that one, or train anew.")
        self._rate = rates[0]

    def after_epoch(self, epochs_done: int, at_once: bool = False) -> None:
        """Writes a checkpoint where it is time for one."""
        member = self.member
        if not (at_once or member.done or epochs_done == member.epochs or epochs_done % self._every == 0):
            return
        about = {
            "history": member.history.history,
            "best": [member.best_score, member.best_epoch],
            "done": member.done,
            "layers": _of_layers(member.model),
            "rates": [self._rate, _rate(member.model.optimizer)],
        }
        values = [value.numpy() for value in self._stack.copy()]
        self._checkpoints.save(Checkpoint(epochs_done, values, about, [np.asarray(value) for value in member.best]))

    def told(self, epochs_done: int) -> str:
        """Where an interrupted training stands."""
        return (
            f"Training stopped after epoch {epochs_done} of {self.member.epochs}; its state is kept in "
            f"{self._checkpoints.folder}. To go on: resume=True, or `tfbnn train ... --resume`."
        )


def _of_layers(model: BayesianModel) -> list[str]:
    """What is reported of single layers; Keras names them anew in each process."""
    return [name for name in model.tracked if name.startswith("kl/")]


def _read(path: Path) -> Checkpoint:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        about = json.loads(arrays[ABOUT].tobytes())
        if about["format"] > FORMAT:
            raise ValueError(f"written by tfbnn {about['tfbnn']}, which is newer than {__version__}")
        return Checkpoint(about["epoch"], list(_named(arrays, "value_")), about, list(_named(arrays, "best_")))


def _named(arrays: Any, prefix: str) -> Iterator[np.ndarray]:
    return (arrays[name] for name in sorted(arrays.files) if name.startswith(prefix))


def _storable(value: np.ndarray) -> np.ndarray:
    """NumPy's file format knows no bfloat16, which float32 holds exactly."""
    return value.astype(np.float32) if value.dtype.kind == "V" or value.dtype.name == "bfloat16" else value


def _settings(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """What an optimizer is made with, but for a learning rate that is a number, which callbacks may change."""
    left_out = {"name"} if _rate(optimizer) is None else {"name", "learning_rate"}
    return {key: _plain(value) for key, value in optimizer.get_config().items() if key not in left_out}


def _rate(optimizer: keras.optimizers.Optimizer) -> float | None:
    """The learning rate now, where it is a number; None where it is a schedule."""
    return _plain(float(optimizer.learning_rate)) if isinstance(optimizer.learning_rate, keras.Variable) else None


def _plain(value: Any) -> Any:
    """Numbers to the digits that float32 holds, other settings as text."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value if isinstance(value, int | None) else repr(value)


def _difference(name: str, value: Any, other: Any) -> tuple[str, Any, Any]:
    """Where two values that differ first do so, and what stands there in each."""
    if isinstance(value, dict) and isinstance(other, dict):
        key = next(key for key in (*value, *other) if value.get(key) != other.get(key))
        return _difference(f"{name}.{key}", value.get(key), other.get(key))
    if isinstance(value, list) and isinstance(other, list):
        if len(value) != len(other):
            return f"number of {name}", len(value), len(other)
        i = next(i for i, (here, there) in enumerate(zip(value, other, strict=True)) if here != there)
        within = isinstance(value[i], dict)
        return _difference(f"{name}[{i}]", value[i], other[i]) if within else (f"{name}[{i}]", value[i], other[i])
    return name, value, other
