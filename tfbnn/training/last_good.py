"""Stops a training whose loss is no longer finite, and gives back the last good weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

TERMS = ("log_likelihood", "kl", "penalty", "loss")


class LastGoodWeights(keras.callbacks.Callback):
    """Keeps the weights of the last epoch end at which loss and weights were finite; stops at the first that is not.

    The optimizer's state is kept and given back with them, so that training can go on. It is the first of the
    callbacks, so that no other one writes or scores weights that are not finite.

    Attributes:
        failure: what went wrong, in words, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failure: str | None = None
        self._epoch = 0
        self._good_epoch: int | None = None
        self._weights: list[np.ndarray] = []
        self._optimizer_state: list[np.ndarray] = []

    @classmethod
    @contextlib.contextmanager
    def guard(cls, callbacks: Any) -> Iterator[list[keras.callbacks.Callback]]:
        """Yields `callbacks` with a guard before them; raises its failure when training has ended.

        Raises:
            FloatingPointError: where loss or weights stopped being finite.
        """
        guard = cls()
        yield [guard, *_as_list(callbacks)]
        if not guard.failure:
            guard._check_weights()
        if guard.failure:
            guard._restore()
            raise FloatingPointError(guard.failure)

    def on_train_begin(self, logs=None):
        """Keeps the weights that training starts from."""
        self._keep(self.model.get_weights())

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers where training is."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Stops at the first loss that is not finite."""
        if logs and "loss" in logs and not math.isfinite(logs["loss"]):
            self._stop(f"epoch {self._epoch + 1}, step {batch + 1}", _not_finite(logs))

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the weights, if they are good."""
        if not self.failure and self._check_weights():
            self._good_epoch = epoch
            self._keep(self.model.get_weights())

    def _keep(self, weights: list[np.ndarray]) -> None:
        self._weights = weights
        self._optimizer_state = [variable.numpy() for variable in self.model.optimizer.variables]

    def _restore(self) -> None:
        self.model.set_weights(self._weights)
        for variable, value in zip(self.model.optimizer.variables, self._optimizer_state, strict=True):
            variable.assign(value)

    def _check_weights(self) -> bool:
        """Whether all weights are finite; stops where one is not."""
        poisoned = [weight.path for weight in self.model.weights if not np.isfinite(weight.numpy()).all()]
        if poisoned:
            self._stop(f"epoch {self._epoch + 1}", [f"weights {poisoned[0]} = nan or inf"])
        return not poisoned

    def _stop(self, when: str, terms: list[str]) -> None:
        self.model.stop_training = True
        self.failure = _failure(when, terms, self._good_epoch)
        self._restore()


def stopped_training(when: str, logs: dict[str, Any], good_epoch: int | None) -> str:
    """Why a training whose `logs` or weights are no longer finite has stopped, and what to do.

    Args:
        when: where in the training.
        logs: reported values by name.
        good_epoch: the last epoch, counted from 0, whose weights the model has again; None: those before training.
    """
    return _failure(when, _not_finite(logs) or ["weights = nan or inf"], good_epoch)


def _failure(when: str, terms: list[str], good_epoch: int | None) -> str:
    kept = "those before training" if good_epoch is None else f"those at the end of epoch {good_epoch + 1}"
    return (
        f"Training stopped in {when}: {', '.join(terms)}. The model has its last good weights, {kept}. "
        "Usual causes: a learning rate that is too high (try a tenth), inputs that are not standardised, "
        "or gradients without clipping (clipnorm=1.0 of the optimizer)."
    )


def _as_list(callbacks: Any) -> list[keras.callbacks.Callback]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []


def _not_finite(logs: dict[str, Any]) -> list[str]:
    return [f"{name} = {float(logs[name])}" for name in TERMS if not math.isfinite(logs.get(name, 0.0))]
