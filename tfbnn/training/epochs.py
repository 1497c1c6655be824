"""The epochs of the loop: callbacks, validation, early stops and last good weights of each model."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.training.callbacks import read_weights
from tfbnn.training.last_good import stopped_training
from tfbnn.training.model import BayesianModel
from tfbnn.training.stack import Stack, state_of
from tfbnn.training.steps import Steps
from tfbnn.training.validation import Validation

MONITORED = "val_log_likelihood"
AfterEpoch = Callable[[int, dict[str, float]], None]  # epochs done, means of the logs of the models that trained
ONE_AT_A_TIME = threading.RLock()  # callbacks of stacks that train side by side


@dataclasses.dataclass
class Member:
    """One model in training: its callbacks, its history, its early stop.

    Attributes:
        patience: epochs without a better `val_log_likelihood` after which it is done; None: no early stop.
        done: whether it trains no more.
        failure: what went wrong, in words, or None.
        best: values of the best epoch, where `patience` watches; `best_score` and `best_epoch` belong to it.
    """

    model: BayesianModel
    callbacks: Sequence[keras.callbacks.Callback]
    epochs: int
    patience: int | None = None
    done: bool = False
    failure: str | None = None
    best: list[Any] = dataclasses.field(default_factory=list)
    best_score: float = -np.inf
    best_epoch: int = -1

    def __post_init__(self):
        self.history = keras.callbacks.History()
        self.model.stop_training = False
        every = [*self.callbacks, self.history]
        self._all = keras.callbacks.CallbackList(every, model=self.model, epochs=self.epochs, verbose=0)

    def begin(self, epochs_done: int = 0, logs: dict[str, list[float]] | None = None) -> None:
        """Starts the callbacks; `logs` are those of the `epochs_done` before."""
        with ONE_AT_A_TIME:
            self._all.on_train_begin()
        self.history.history.update(logs or {})
        self.history.epoch.extend(range(epochs_done))

    def begin_epoch(self, epoch: int) -> None:
        """Tells the callbacks."""
        with ONE_AT_A_TIME:
            self._all.on_epoch_begin(epoch)

    def end_epoch(self, epoch: int, logs: dict[str, float], copy: Callable[[], list[Any]]) -> None:
        """Tells the callbacks, and finds out whether the model is done; `copy` gives its present values."""
        if self.patience is not None and logs[MONITORED] > self.best_score:
            self.best, self.best_score, self.best_epoch = copy(), logs[MONITORED], epoch
        with ONE_AT_A_TIME:
            self._all.on_epoch_end(epoch, logs)
        waited = self.patience is not None and epoch - self.best_epoch >= self.patience
        self.done = waited or bool(self.model.stop_training)

    def end(self) -> None:
        """Puts the values of the best epoch back, where `patience` watched and nothing failed; ends the callbacks."""
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        if self.best and not self.failure:
            for variable, value in zip(trained_and_state(self.model), self.best, strict=True):
                variable.assign(tf.reshape(value, variable.shape))
        with ONE_AT_A_TIME:
            self._all.on_train_end()

    def fail(self, failure: str) -> None:
        """Training is over for this model."""
        self.failure, self.done = failure, True


def silent(epochs_done: int, logs: dict[str, float]) -> None:
    """Does nothing after an epoch."""


def trained_and_state(model: BayesianModel) -> list[keras.Variable]:
    """The variables that early stopping puts back: all but the optimizer's."""
    return [*model.trainable_variables, *state_of(model)]


def run(
    stack: Stack,
    steps: Steps,
    one_epoch: Callable[[], tf.Tensor],
    members: Sequence[Member],
    epochs: Iterable[int],
    validation: Validation | None,
    after_epoch: AfterEpoch,
) -> None:
    """Epochs of all members until each is done; the models then have their weights.

    Args:
        stack: the models.
        steps: tells the names of the reported values.
        one_epoch: trains an epoch; returns the means of the reported values.
        members: one a model; begun.
        epochs: numbers of the epochs.
        validation: scores a model, or None.
        after_epoch: told of each epoch; what it raises ends the training.

    Raises:
        FloatingPointError: where loss or weights of a model stopped being finite; it has its last good weights, and
            the others are trained to their end.
    """
    good, good_epoch = stack.copy(), None
    for epoch in epochs:
        active = [m for m, member in enumerate(members) if not member.done]
        if not active:
            break
        for m in active:
            members[m].begin_epoch(epoch)
        stack.read_rates()
        values = np.reshape(one_epoch().numpy(), [stack.size, -1])
        finite = stack.finite() & np.isfinite(values).all(axis=1)
        told = []
        for m in active:
            logs = {name: float(value) for name, value in zip(steps.names, values[m], strict=True)}
            if finite[m]:
                told.append(_end_epoch(stack, members[m], m, epoch, logs, validation))
            else:
                stack.write_back([m], good)
                members[m].fail(stopped_training(f"epoch {epoch + 1}", logs, good_epoch))
        good, good_epoch = stack.copy(), epoch
        if told:
            after_epoch(epoch + 1, {name: float(np.mean([logs[name] for logs in told])) for name in told[0]})
    stack.write_back([m for m, f in enumerate(members) if not f.done and not read_weights(f.callbacks)])
    for member in members:
        member.end()
    _raise_failures(members)


def _end_epoch(
    stack: Stack, member: Member, m: int, epoch: int, logs: dict[str, float], validation: Validation | None
) -> dict[str, float]:
    if validation is not None:
        logs = logs | validation(m)
    before = read_weights(member.callbacks)  # what callbacks then do to the weights stays
    if before:
        stack.write_back([m])
    member.end_epoch(epoch, logs, lambda: [part for parts in stack.values_of(m) for part in parts])
    if member.done and not before:
        stack.write_back([m])
    return logs


def _raise_failures(members: Sequence[Member]) -> None:
    failures = [(m, member.failure) for m, member in enumerate(members) if member.failure]
    if failures and len(members) == 1:
        raise FloatingPointError(failures[0][1])
    if failures:
        raise FloatingPointError(" ".join(f"Model {m}: {failure}" for m, failure in failures))
