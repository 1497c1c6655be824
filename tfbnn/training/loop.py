"""The custom training loop: whole epochs in one graph."""

from __future__ import annotations

import contextlib
import functools
import itertools
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import invalid, positive_integer
from tfbnn.training import arrays
from tfbnn.training.callbacks import Progress, check_callbacks
from tfbnn.training.checkpoint import Keeper
from tfbnn.training.epochs import AfterEpoch, Member, run, silent
from tfbnn.training.model import BayesianModel
from tfbnn.training.stack import Stack
from tfbnn.training.steps import Steps
from tfbnn.training.validation import Validation, in_batches

BATCHES_AT_ONCE = 32  # of a dataset that go to the device together
NUMBERS_AT_ONCE = 2**24


def train(
    model: BayesianModel,
    x: Any,
    y: Any = None,
    epochs: int = 1,
    batch_size: int = 32,
    validation_data: Any = None,
    callbacks: Any = None,
    *,
    sample_weight: Any = None,
    num_data: int | None = None,
    shuffle: bool = True,
    steps_per_epoch: int | None = None,
    patience: int | None = None,
    validation_samples: int | None = None,
    checkpoint: Any = None,
    checkpoint_every: int = 10,
    resume: bool = False,
    jit_compile: bool | None = None,
    verbose: Any = "auto",
) -> keras.callbacks.History:
    """Trains a compiled `BayesianModel` as `fit` does, whole epochs in one graph: many times faster for small nets.

    The objective, its terms and the optimizer are those of `fit`; for the same batches and noise the steps are equal.
    The order of the rows and the noise are functions of the model's seed and the number of steps made.

    Args:
        model: compiled; it is trained in place.
        x: inputs [N, ...] (arrays, or a dict or list of them), or a `tf.data.Dataset` of batches (x, y) or
            (x, y, sample_weight), which may be larger than memory.
        y: targets [N] or [N, T], in their units; None with a dataset.
        epochs: passes over the rows, those before a resumed checkpoint included.
        batch_size: B; not used with a dataset.
        validation_data: (x, y), (x, y, sample_weight), or a dataset: `val_log_likelihood` at the end of each epoch.
        callbacks: Keras callbacks that work by the epoch.
        sample_weight: [N], 0 or more: a batch's log likelihood is sum(w ll) / sum(w); N stays the number of rows.
        num_data: N; needed for datasets unless they drop the remainder.
        shuffle: whether each epoch has another order; a dataset shuffles itself.
        steps_per_epoch: batches an epoch, of a dataset that does not end.
        patience: epochs without a better `val_log_likelihood` after which training stops; the weights of the best
            epoch are put back, also where training ends before. None: no early stopping.
        validation_samples: S of `val_log_likelihood` and of the metrics of `compile`, which are computed on validation
            rows alone (`val_mae`, ...); None: the model's `num_samples`.
        checkpoint: folder in which the state is kept, every `checkpoint_every` epochs and at the end; with it,
            Ctrl-C finishes the epoch and saves.
        checkpoint_every: epochs between checkpoints.
        resume: goes on from the newest checkpoint in `checkpoint`, where there is one. For equal arguments the
            result is, to the last bit, that of a training that was never interrupted. What keeps a memory of its own
            begins anew: callbacks (not `patience`), and a dataset that shuffles itself or does not end.
        jit_compile: whether XLA compiles the steps; None: where that is faster: not on CPUs where a layer draws
            numbers of its own, convolves or pools.
        verbose: 0: silent; 1 or "auto": a bar; 2: one line at the end.

    Returns:
        The Keras `History`: `elbo`, `log_likelihood`, `kl` (nats), `beta`, `loss`, ... of each epoch.

    Raises:
        InvalidInput: for numbers, shapes, callbacks or checkpoints that cannot work.
        FloatingPointError: where the loss stops being finite; the last good weights are restored.
        KeyboardInterrupt: at Ctrl-C; its text says where the checkpoint is.

    Example:
        >>> model.compile(keras.optimizers.Adam(0.01))
        >>> history = tfbnn.train(model, x, y, epochs=300, batch_size=32)

    Reference: Blundell et al. 2015, "Weight Uncertainty in Neural Networks", section 3.
    """
    epochs, batch_size = positive_integer("epochs", epochs), positive_integer("batch_size", batch_size)
    callbacks = check_callbacks(callbacks)
    check_model(model)
    _check_sources(x, y, sample_weight, steps_per_epoch)
    rows = None if isinstance(x, tf.data.Dataset) else rows_of(model, x, y, sample_weight)
    model.num_data = model.choose_num_data(num_data, arrays.training_rows(x, None if rows is None else len(rows["y"])))
    model.build_for(x)
    if rows is not None:
        arrays.check_width("x", model, rows["x"])
    steps = _steps_of(model, jit_compile)
    stack = steps.stack
    validation = validation_of(stack, [validation_data], validation_samples, patience)
    bar = [Progress(epochs, 1 if verbose in ("auto", True) else int(verbose))] if verbose else []
    member = Member(model, [*callbacks, *bar], epochs, patience)
    settings = {
        "batch size": batch_size,
        "shuffle": shuffle,
        "rows (checksum)": rows and checksum(rows),
        "validation rows (checksum)": validation and checksum(validation.batches[0]),
    }
    keeper = None if checkpoint is None else Keeper(checkpoint, checkpoint_every, stack, member, settings)
    with finishing_epochs(keeper) as after_epoch:
        first = keeper.begin(resume) if keeper else 0
        member.begin(first, keeper.logs if keeper else None)
        if rows is None:
            one_epoch = _epoch_of_dataset(steps, x, steps_per_epoch, first)
        else:
            one_epoch = _epoch_of_rows(steps, rows, batch_size, shuffle)
        run(stack, steps, one_epoch, [member], range(first, epochs), validation, after_epoch)
    return member.history


def _steps_of(model: BayesianModel, jit_compile: bool | None) -> Steps:
    """The model's compiled steps: those of its last training, where nothing has changed that they were traced from."""
    variables = [(id(variable), variable.trainable) for variable in model.variables]
    traced_from = [jit_compile, model.optimizer, model.beta, model.train_samples, variables]
    kept = model.__dict__.get("_steps")
    if kept is None or kept[0] != traced_from:
        kept = traced_from, Steps(Stack([model]), jit_compile)
        model.__dict__["_steps"] = kept  # past Keras' tracking
    return kept[1]


def rows_of(model: BayesianModel, x: Any, y: Any, sample_weight: Any, names: tuple[str, str] = ("x", "y")) -> dict:
    """Checked rows as tensors: "x" [N, ...], "y" [N, T], and "w" [N] where there are weights."""
    if not arrays.is_arrays(x):
        raise invalid(names[0], "arrays, or a tf.data.Dataset of batches (x, y)", type(x).__name__)
    x, y, rows = arrays.prepare(x, y, model.likelihood, names)
    weight = arrays.prepare_weights("sample_weight", sample_weight, rows)
    found = {"x": keras.tree.map_structure(_as_tensor, x), "y": model.likelihood.match_target(y)}
    return found if weight is None else {**found, "w": tf.constant(weight, tf.float32)}


def _check_sources(x: Any, y: Any, sample_weight: Any, steps_per_epoch: int | None) -> None:
    """Raises where arguments do not go with arrays, or with a dataset."""
    if not isinstance(x, tf.data.Dataset):
        if steps_per_epoch is not None:
            raise invalid("steps_per_epoch", "None, because x is no dataset: an epoch has all rows", steps_per_epoch)
        return
    for name, value in {"y": y, "sample_weight": sample_weight}.items():
        if value is not None:
            raise invalid(name, "None, because x is a dataset, which yields it", type(value).__name__)
    if steps_per_epoch is not None:
        positive_integer("steps_per_epoch", steps_per_epoch)
    elif x.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise invalid("steps_per_epoch", "how many batches of the endless dataset x are an epoch", None)


def checksum(rows: Any) -> int:
    """CRC-32 of the tensors of `rows`."""
    return functools.reduce(lambda crc, part: zlib.crc32(part.numpy().tobytes(), crc), keras.tree.flatten(rows), 0)


def _as_tensor(value: Any) -> tf.Tensor:
    tensor = tf.convert_to_tensor(value)
    return tf.cast(tensor, keras.config.floatx()) if tensor.dtype == tf.float64 else tensor


def _epoch_of_rows(steps: Steps, rows: dict, batch_size: int, shuffle: bool) -> Callable[[], tf.Tensor]:
    num_rows = len(rows["y"])
    return lambda: steps.epoch(rows, num_rows, min(batch_size, num_rows), shuffle)


def _epoch_of_dataset(
    steps: Steps, dataset: tf.data.Dataset, steps_per_epoch: int | None, first: int
) -> Callable[[], tf.Tensor]:
    """Epochs of a dataset, `BATCHES_AT_ONCE` on the device together; one of `steps_per_epoch` goes on where it was."""
    model = steps.stack.lead
    endless = iter(dataset.skip(first * steps_per_epoch)) if steps_per_epoch else None

    def one_epoch() -> tf.Tensor:
        batches = iter(dataset) if endless is None else itertools.islice(endless, steps_per_epoch)
        sums, count = 0.0, 0
        for group in _alike(batch_of(model, batch) for batch in batches):
            sums += steps.batches(keras.tree.map_structure(lambda *parts: tf.stack(parts), *group))
            count += len(group)
        if not count or (steps_per_epoch and count < steps_per_epoch):
            expected = f"a dataset with {steps_per_epoch or 1} batches or more for each epoch"
            raise invalid("x", expected, f"one with {count} left", "Use dataset.repeat(), or fewer steps_per_epoch.")
        return sums / count

    return one_epoch


def batch_of(model: BayesianModel, batch: Any) -> dict[str, Any]:
    """A batch of a dataset as the loop takes it."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    if y is None:
        raise invalid("x", "a dataset that yields (x, y) or (x, y, sample_weight)", "one that yields x alone")
    found = {"x": keras.tree.map_structure(_as_tensor, x), "y": model.likelihood.match_target(y)}
    return found if weight is None else {**found, "w": tf.reshape(tf.cast(weight, tf.float32), [-1])}


def _alike(batches: Iterator[dict]) -> Iterator[list[dict]]:
    """Groups of neighbouring batches of the same shapes, not too large."""
    group: list[dict] = []
    for batch in batches:
        sizes = [part.shape for part in keras.tree.flatten(batch)]
        most = min(BATCHES_AT_ONCE, max(1, NUMBERS_AT_ONCE // sum(size.num_elements() for size in sizes)))
        if group and (len(group) >= most or sizes != [part.shape for part in keras.tree.flatten(group[0])]):
            yield group
            group = []
        group.append(batch)
    if group:
        yield group


def validation_of(
    stack: Stack, data_of_each: Sequence[Any], num_samples: int | None, patience: int | None
) -> Validation | None:
    """What scores the models on their `validation_data`; None where there is none."""
    if patience is not None:
        positive_integer("patience", patience)
    if all(data is None for data in data_of_each):
        if patience is not None:
            raise invalid("patience", "None, because there is no validation_data to watch", patience)
        return None
    if num_samples is not None:
        positive_integer("validation_samples", num_samples)
    samples = [num_samples or model.num_samples for model in stack.models]
    each = [_validation_batches(model, data) for model, data in zip(stack.models, data_of_each, strict=True)]
    return Validation(stack, each, samples)


def _validation_batches(model: BayesianModel, data: Any) -> Any:
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise invalid("validation_data", "a dataset that ends", "an endless one", "Use dataset.take(batches).")
        batches = [batch_of(model, batch) for batch in data]
        if not batches:
            raise invalid("validation_data", "one batch or more", "an empty dataset")
        return batches
    data = arrays.prepare_validation(data, model.likelihood)
    if not isinstance(data, tuple | list):
        raise invalid("validation_data", "(x, y), (x, y, sample_weight), or a tf.data.Dataset", type(data).__name__)
    arrays.check_width("validation_data[0]", model, data[0])
    return in_batches(batch_of(model, tuple(data)))


def check_model(model: BayesianModel) -> None:
    """Raises unless the loop can train `model`."""
    if not isinstance(model, BayesianModel):
        raise invalid("model", "a tfbnn.BayesianModel", type(model).__name__)
    if not model.compiled:
        raise invalid("model", "a compiled model", model.name, "Call model.compile(optimizer) first.")
    if model.distribute_strategy.num_replicas_in_sync > 1:
        name = type(model.distribute_strategy).__name__
        raise invalid("model", "a model on one device", f"one made under {name}", "Use model.fit with strategies.")


@contextlib.contextmanager
def finishing_epochs(keeper: Keeper | None) -> Iterator[AfterEpoch]:
    """Yields what to call after each epoch: it keeps checkpoints, and ends the training that Ctrl-C has stopped.

    With checkpoints, the first Ctrl-C lets the epoch end; the second one stops at once.
    """
    if keeper is None:
        yield silent
        return
    asked: list[int] = []
    python_handles = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ours = python_handles and threading.current_thread() is threading.main_thread()

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    def after_epoch(epochs_done: int, logs: dict[str, float]) -> None:
        keeper.after_epoch(epochs_done, at_once=bool(asked))
        if asked:
            raise KeyboardInterrupt(keeper.told(epochs_done))

    before = signal.signal(signal.SIGINT, note) if ours else None
    try:
        yield after_epoch
    finally:
        keeper.end()
        if ours:
            signal.signal(signal.SIGINT, before)
