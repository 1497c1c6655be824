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

    Attributes:
        failure: what went wrong, in words, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failure: str | None = None
        self._epoch = 0
        self._good_epoch: int | None = None
        self._weights: list[np.ndarray] = []

    @classmethod
    @contextlib.contextmanager
    def guard(cls, callbacks: Any, model: keras.Model) -> Iterator[Any]:
        """Yields `callbacks` with a guard added; raises its failure when training has ended.

        Raises:
            FloatingPointError: where the loss stopped being finite.
        """
        guard = cls()
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(guard)
        else:
            given = callbacks if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []
            callbacks = [*given, guard]
        yield callbacks
        if guard.failure:
            raise FloatingPointError(guard.failure)

    def on_train_begin(self, logs=None):
        """Keeps the weights that training starts from."""
        self._weights = self.model.get_weights()

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers where training is."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Stops at the first loss that is not finite."""
        if logs and "loss" in logs and not math.isfinite(logs["loss"]):
            self._stop(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the weights, if they are good."""
        if self.failure:
            return
        weights = self.model.get_weights()
        if all(np.isfinite(weight).all() for weight in weights if weight.dtype.kind == "f"):
            self._weights, self._good_epoch = weights, epoch
        else:
            self._stop(None, {"weights": math.nan})

    def on_train_end(self, logs=None):
        """Gives the good weights back after a failure."""
        if self.failure:
            self.model.set_weights(self._weights)

    def _stop(self, batch: int | None, logs: dict[str, float]) -> None:
        self.model.stop_training = True
        terms = [f"{name} = {logs[name]}" for name in (*TERMS, "weights") if not math.isfinite(logs.get(name, 0.0))]
        when = f"epoch {self._epoch + 1}" + ("" if batch is None else f", step {batch + 1}")
        kept = "those before training" if self._good_epoch is None else f"those at the end of epoch {self._good_epoch + 1}"
        self.failure = (
            f"Training stopped in {when}: {', '.join(terms)}. The model has its last good weights, {kept}. "
            "Usual causes: a learning rate that is too high (try a tenth), inputs that are not standardised, "
            "or gradients without clipping (clipnorm=1.0 of the optimizer)."
        )
