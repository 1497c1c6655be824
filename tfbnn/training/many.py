"""Many models of one architecture, trained at once on a stacked axis."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import invalid, positive_integer
from tfbnn.core.traversal import sublayers
from tfbnn.prediction.monte_carlo import draws_loop
from tfbnn.training.callbacks import Progress, check_callbacks
from tfbnn.training.description import described
from tfbnn.training.epochs import AfterEpoch, Member, run, silent
from tfbnn.training.loop import check_model, rows_of, validation_of
from tfbnn.training.model import BayesianModel
from tfbnn.training.stack import ELEMENTWISE, Stack
from tfbnn.training.steps import NUMBERS_PER_CHUNK, Steps, specs

WORTH_HALVING = 50_000  # steps of single models: then a stack is halved for each core, and compiled as often
SMALLEST_TO_HALVE = 8
NUMBERS_AT_ONCE = 2**28  # of a stack: variables, their optimizer's, rows, and a chunk of noise; 1 GiB


def train_many(
    models: Sequence[BayesianModel],
    data: Any,
    epochs: int = 1,
    batch_size: int = 32,
    validation_data: Any = None,
    callbacks: Callable[[int], Sequence[keras.callbacks.Callback]] | None = None,
    *,
    shuffle: bool = True,
    patience: int | None = None,
    validation_samples: int | None = None,
    jit_compile: bool | None = None,
    verbose: Any = "auto",
) -> list[keras.callbacks.History]:
    """Trains compiled models in place, at once where they share a graph; each ends as `tfbnn.train` would leave it.

    Models share a graph where they differ in numbers alone: seeds and initial values, data of equal size, learning
    rate, beta. Those that differ in more (another activation, prior scale or number of rows, an optimizer that joins
    weights, such as LAMB, or decays them) are trained one stack after another.

    Args:
        models: compiled, different objects, with weights of the same shapes.
        data: (x, y) or (x, y, sample_weight) for all models, or a list with one such tuple a model.
        epochs: passes over the rows.
        batch_size: B.
        validation_data: one tuple for all models, or a list with one a model: `val_log_likelihood` each epoch.
        callbacks: function of a model's number, 0 ... M - 1, that returns its Keras callbacks, which work by the epoch;
            what they do to the weights is seen only when they stop the training of their model. They are called one
            at a time, but from threads where stacks train side by side, each on a core.
        shuffle: whether each epoch of each model has another order.
        patience: as in `tfbnn.train`, for each model alone.
        validation_samples: as in `tfbnn.train`.
        jit_compile: as in `tfbnn.train`.
        verbose: 0: silent; 1 or "auto": a bar; 2: one line at its end.

    Returns:
        The Keras `History` of each model.

    Raises:
        InvalidInput: for models or data whose shapes differ, and as `tfbnn.train` does.
        FloatingPointError: where the loss of some model stops being finite, after the others have been trained.

    Example:
        >>> models = [make(seed) for seed in range(5)]
        >>> histories = tfbnn.train_many(models, (x, y), epochs=300)
    """
    members = train_members(
        models, data, epochs, batch_size, validation_data, callbacks, shuffle=shuffle, patience=patience,
        validation_samples=validation_samples, jit_compile=jit_compile, verbose=verbose,
    )  # fmt: skip
    failures = [f"models[{m}]: {member.failure}" for m, member in enumerate(members) if member.failure]
    if failures:
        raise FloatingPointError(" ".join(failures))
    return [member.history for member in members]


def train_members(
    models: Sequence[BayesianModel],
    data: Any,
    epochs: int,
    batch_size: int,
    validation_data: Any,
    callbacks: Callable[[int], Sequence[keras.callbacks.Callback]] | None = None,
    *,
    shuffle: bool = True,
    patience: int | None = None,
    validation_samples: int | None = None,
    jit_compile: bool | None = None,
    verbose: Any = 0,
) -> list[Member]:
    """As `train_many`, but returns the members: those that failed tell it by their `failure`."""
    epochs, batch_size = positive_integer("epochs", epochs), positive_integer("batch_size", batch_size)
    models = _checked(models)
    rows = _rows_of_each(models, data)
    watched = _one_each("validation_data", validation_data, len(models))
    members = [Member(model, check_callbacks(callbacks(m) if callbacks else None), epochs, patience)
               for m, model in enumerate(models)]  # fmt: skip

    def train_stack(group: list[int], after_epoch: AfterEpoch) -> None:
        stack = Stack([models[m] for m in group])
        steps = Steps(stack, jit_compile)
        validation = validation_of(stack, [watched[m] for m in group], validation_samples, patience)
        one_epoch = _epoch_of(steps, [rows[m] for m in group], batch_size, shuffle)
        with contextlib.suppress(FloatingPointError):  # told below, when all have been trained
            run(stack, steps, one_epoch, _begun([members[m] for m in group]), range(epochs), validation, after_epoch)

    groups = _stacks(models, rows)
    model_steps = sum(epochs * -(-len(one["y"]) // batch_size) for one in rows)
    if model_steps >= WORTH_HALVING:
        groups = halved(groups, cores())
    with _bar(epochs, verbose) as show:
        _side_by_side(train_stack, groups, show)
    return members


def cores() -> int:
    """Stacks that run side by side: XLA runs one on one core of a CPU; a GPU runs one after another."""
    return 1 if tf.config.list_physical_devices("GPU") else len(os.sched_getaffinity(0))


def halved(groups: list[list[int]], parts: int) -> list[list[int]]:
    """The groups in smaller ones, until there are `parts` or all are small."""
    groups = list(groups)
    while len(groups) < parts and len(largest := max(groups, key=len)) >= SMALLEST_TO_HALVE:
        groups.remove(largest)
        groups += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
    return groups


class _StoppedWithOthers(Exception):
    """Another stack was interrupted or has failed."""


def _side_by_side(train_stack: Callable, groups: list[list[int]], bar: AfterEpoch) -> None:
    """Trains the groups, as many at a time as there are cores; the bar is that of the first."""
    stop = threading.Event()

    def after_epoch(epochs_done: int, logs: dict[str, float], show: AfterEpoch = silent) -> None:
        if stop.is_set():
            raise _StoppedWithOthers
        show(epochs_done, logs)

    workers = min(cores(), len(groups))
    if workers == 1:
        for group in groups:
            train_stack(group, functools.partial(after_epoch, show=bar))
        return
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        shown = [functools.partial(after_epoch, show=bar), *[after_epoch] * (len(groups) - 1)]
        futures = [pool.submit(train_stack, group, told) for group, told in zip(groups, shown, strict=True)]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _checked(models: Any) -> list[BayesianModel]:
    models = list(models) if isinstance(models, list | tuple) else []
    if not models:
        raise invalid("models", "a list of one or more BayesianModels", models)
    for m, model in enumerate(models):
        check_model(model)
        if any(model is other for other in models[:m]):
            raise invalid(f"models[{m}]", "models that are different objects", "one that stands in the list before")
    return models


def _rows_of_each(models: Sequence[BayesianModel], data: Any) -> list[dict[str, Any]]:
    """Checked rows of each model, one object where all share it; counts N and builds the models."""
    each = _one_each("data", data, len(models))
    found: dict[int, dict[str, Any]] = {}
    for m, (model, one) in enumerate(zip(models, each, strict=True)):
        if not isinstance(one, tuple | list) or not 2 <= len(one) <= 3:
            raise invalid(f"data[{m}]" if isinstance(data, list) else "data", "(x, y) or (x, y, sample_weight)", one)
        if id(one) not in found:
            x, y, *weight = one
            found[id(one)] = rows_of(model, x, y, weight[0] if weight else None)
        model.num_data = model.choose_num_data(None, len(found[id(one)]["y"]))
        model.build_for(found[id(one)]["x"])
        _refuse_other_shapes(m, models, found[id(one)], found[id(each[0])])
    return [found[id(one)] for one in each]


def _one_each(where: str, data: Any, count: int) -> list[Any]:
    if not isinstance(data, list):
        return [data] * count
    if len(data) != count:
        raise invalid(where, f"one tuple for all models, or a list of {count}, one a model", f"a list of {len(data)}")
    return data


def _refuse_other_shapes(m: int, models: Sequence[BayesianModel], rows: dict, first: dict) -> None:
    """Raises where model m or its rows differ in shape from the first's."""
    for variable, other in zip(models[m].trainable_variables, models[0].trainable_variables, strict=False):
        if variable.shape != other.shape:
            raise invalid(
                f"models[{m}]",
                f"weights of the shapes of models[0] ({other.path}: {list(other.shape)})",
                f"{variable.path}: {list(variable.shape)}",
                "Train models of other widths by another call.",
            )
    if len(models[m].trainable_variables) != len(models[0].trainable_variables):
        counts = [len(model.trainable_variables) for model in (models[0], models[m])]
        raise invalid(f"models[{m}]", f"{counts[0]} trainable variables, as models[0] has", f"{counts[1]}")
    shapes = [[list(part.shape[1:]) for part in keras.tree.flatten([one["x"], one["y"]])] for one in (first, rows)]
    if shapes[0] != shapes[1]:
        raise invalid(f"data[{m}]", f"rows of the shapes of data[0]: {shapes[0]}", shapes[1])


def _stacks(models: Sequence[BayesianModel], rows: Sequence[dict]) -> list[list[int]]:
    """Numbers of the models that are trained together."""
    alike: dict[Any, list[int]] = {}
    for m, model in enumerate(models):
        graph = _graph_of(model)
        key = (m,) if graph is None else (graph, str(specs(rows[m])))
        alike.setdefault(key, []).append(m)
    return [part for group in alike.values() for part in _that_fit(models[group[0]], rows[group[0]], group)]


def _that_fit(model: BayesianModel, rows: dict, group: list[int]) -> list[list[int]]:
    numbers = sum(math.prod(variable.shape) for variable in (*model.variables, *model.optimizer.variables))
    of_rows = sum(math.prod(part.shape) for part in keras.tree.flatten(rows))
    most = max(1, NUMBERS_AT_ONCE // (2 * numbers + of_rows + NUMBERS_PER_CHUNK))
    return [group[i : i + most] for i in range(0, len(group), most)]


def _graph_of(model: BayesianModel) -> str | None:
    """What tells the graph of a training step of `model`; None where it cannot be told, or must run alone."""
    optimizer = model.optimizer
    settings = optimizer.get_config()
    clips_sums = settings.get("gradient_accumulation_steps") and (optimizer.clipnorm or optimizer.global_clipnorm)
    joins = settings.get("weight_decay") or settings.get("use_ema") or clips_sums
    if type(optimizer).__name__ not in ELEMENTWISE or joins or _does_not_stack(model.network):
        return None
    config = described(model, numbers=False)
    settings = {key: value for key, value in settings.items() if key not in ("name", "learning_rate")}
    return config and json.dumps([config, type(optimizer).__name__, settings], default=str)


def _does_not_stack(network: keras.Model) -> bool:
    """Whether many networks at once would run one by one all the same, or not at all."""
    layers = sublayers(network)
    has_branches = any(isinstance(layer, keras.layers.SpectralNormalization) for layer in layers)
    return has_branches or draws_loop(layers, network.trainable_variables)


def _epoch_of(steps: Steps, rows: Sequence[dict], batch_size: int, shuffle: bool) -> Callable[[], tf.Tensor]:
    """Epochs on rows that all share, or on each model's own, one after another in one tensor."""
    num_rows = len(rows[0]["y"])
    shared = all(one is rows[0] for one in rows)
    data = rows[0] if shared else keras.tree.map_structure(lambda *parts: tf.concat(parts, axis=0), *rows)
    return lambda: steps.epoch(data, num_rows, min(batch_size, num_rows), shuffle)


def _begun(members: list[Member]) -> list[Member]:
    for member in members:
        member.begin()
    return members


@contextlib.contextmanager
def _bar(epochs: int, verbose: Any) -> Iterator[AfterEpoch]:
    """Yields what moves the bar."""
    if not verbose:
        yield silent
        return
    bar = Progress(epochs, 1 if verbose in ("auto", True) else int(verbose))
    try:
        yield lambda epochs_done, logs: bar.on_epoch_end(epochs_done - 1, logs)
    finally:
        bar.on_train_end()
