"""Keras callbacks of the loop: which are honoured, and the progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfbnn.core.checks import invalid

BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
# Keras' own that have such hooks and do without them here.
WORK_BY_EPOCH = (keras.callbacks.TerminateOnNaN,)
READ_LOGS_ONLY = (
    keras.callbacks.History,
    keras.callbacks.CSVLogger,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.TerminateOnNaN,
)
SHOWN = ("elbo", "log_likelihood", "kl", "beta", "val_log_likelihood")


def check_callbacks(callbacks: Any) -> list[keras.callbacks.Callback]:
    """The callbacks as a list.

    Raises:
        InvalidInput: for one that works by the batch: batches pass inside the graph, where no Python runs.
    """
    found = callbacks.callbacks if isinstance(callbacks, keras.callbacks.CallbackList) else callbacks
    found = list(found) if isinstance(found, list | tuple) else [found] if found else []
    for callback in found:
        if not isinstance(callback, keras.callbacks.Callback):
            raise invalid("callbacks", "Keras callbacks", callback)
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            mend = "Use checkpoint=FOLDER, and resume=True to go on."
            raise invalid("callbacks", "no BackupAndRestore, which works inside Model.fit alone", callback, mend)
        if hook := _batch_hook(callback):
            raise invalid(
                "callbacks",
                "callbacks of epochs: whole epochs run in one graph, where no Python is called between batches",
                f"{type(callback).__name__}, which has {hook}",
                "Use model.fit for it, or move its work to on_epoch_end.",
            )
    return found


def _batch_hook(callback: keras.callbacks.Callback) -> str | None:
    """The name of a hook of batches that `callback` needs, or None."""
    if isinstance(callback, WORK_BY_EPOCH):
        return None
    if isinstance(callback, keras.callbacks.ModelCheckpoint):
        return None if callback.save_freq == "epoch" else "save_freq in batches"
    if isinstance(callback, keras.callbacks.TensorBoard):
        return None if callback.update_freq == "epoch" else "update_freq in batches"
    for hook in BATCH_HOOKS:
        if hook in vars(callback) or getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook):
            return hook
    return None


def read_weights(callbacks: Sequence[keras.callbacks.Callback]) -> bool:
    """Whether some callback may look at the model's weights now; `reads_weights = False` says that it will not."""
    may = [callback for callback in callbacks if not isinstance(callback, (*READ_LOGS_ONLY, Progress))]
    return any(getattr(callback, "reads_weights", True) for callback in may)


class Progress(keras.callbacks.Callback):
    """Keras' bar, one step an epoch, with the ELBO terms.

    Args:
        epochs: where the bar ends.
        verbose: 1: a bar that moves; 2: one line at the end.
    """

    def __init__(self, epochs: int, verbose: int):
        super().__init__()
        self._bar = keras.utils.Progbar(epochs, verbose=verbose, stateful_metrics=SHOWN, unit_name="epoch")

    def on_epoch_end(self, epoch, logs=None):
        """Moves the bar."""
        shown = [(name, logs[name]) for name in SHOWN if name in logs]
        self._bar.update(epoch + 1, shown)

    def on_train_end(self, logs=None):
        """Ends the line where training stopped early."""
        if self._bar.target != self._bar._seen_so_far:
            self._bar.update(self._bar._seen_so_far, finalize=True)
