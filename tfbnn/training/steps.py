"""Many steps of training in one graph, compiled by XLA where that is faster."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.noise import Plan, fold_in, seed_of_tensor, seed_pair
from tfbnn.training.stack import Stack, bits_for_stack

NUMBERS_PER_CHUNK = 2**20  # noise of one model that is drawn at once outside XLA: 4 MiB
ORDER, NOISE = -1, -2  # keys of training's own seeds, beside the layers' indices of prediction


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Steps of one batch size that are made by one call.

    Attributes:
        plan: what noise a step asks for.
        steps: how many steps at most.
        run: (data, rows [steps, ...], source, seed, count) -> sum over `count` steps of the reported values. The source
            of noise is (keys, number of the first step) where it is compiled; else the bits of all steps.
        compiled: whether `run` is compiled by XLA.
    """

    plan: Plan
    steps: int
    run: Callable[..., tf.Tensor]
    compiled: bool


class Steps:
    """Steps of a stack of models on rows of data on the device.

    The noise of a step is a function of the model's seed and the step's number, whatever is trained beside it: XLA
    makes its bits by counting. Outside of XLA bits are drawn for a chunk of steps at once, and are others: functions of
    the number of steps made when the chunk began, too.

    Args:
        stack: what is trained.
        jit_compile: whether XLA compiles the steps; None: where that is faster.
    """

    def __init__(self, stack: Stack, jit_compile: bool | None = None):
        self.stack = stack
        self._jit_compile = jit_compile
        self._chunks: dict[Any, Chunk] = {}
        self._epochs: dict[Any, Callable] = {}

    @property
    def names(self) -> list[str]:
        """Of the reported values, once a step has been traced."""
        return self.stack.names

    def epoch(self, data: dict[str, Any], num_rows: int, batch_size: int, shuffle: bool) -> tf.Tensor:
        """One pass over the rows of every model; the last batch may be smaller, as in Keras.

        Args:
            data: "x", "y", and "w" where rows have weights: tensors [N, ...] that all models share, or
                [M N, ...], those of one model after those of another.
            num_rows: N.
            batch_size: B.
            shuffle: whether each epoch has another order, a function of the model's seed and the steps made.

        Returns:
            Means over the steps of the reported values, [R] or [M, R].
        """
        key = (num_rows, batch_size, shuffle, str(specs(data)))
        if key not in self._epochs:
            full, rest = divmod(num_rows, batch_size)
            shared = len(data["y"]) == num_rows

            def epoch(data):
                order = self._order(num_rows, shuffle, shared)
                sums = self._run(data, self._batches(order, 0, full, batch_size)) if full else 0.0
                sums += self._run(data, self._batches(order, full * batch_size, 1, rest)) if rest else 0.0
                return sums / tf.cast(full + bool(rest), tf.float32)

            self._epochs[key] = tf.function(epoch, autograph=False, jit_compile=False).get_concrete_function(data)
        return self._epochs[key](data)

    def batches(self, data: dict[str, Any]) -> tf.Tensor:
        """Steps on batches that were stacked, [k, B, ...], one a step; returns sums over the steps (one model only)."""
        key = str(specs(data))
        if key not in self._epochs:
            steps = tf.function(
                lambda data: self._run(data, tf.range(data["y"].shape[0])), autograph=False, jit_compile=False
            )
            self._epochs[key] = steps.get_concrete_function(data)
        return self._epochs[key](data)

    def _order(self, num_rows: int, shuffle: bool, shared: bool) -> list[tf.Tensor]:
        """The order of each model's rows, [N], as places in the data."""
        orders = [tf.range(num_rows) for _ in self.stack.models]
        if shuffle:
            seeds = [fold_in(seed, self.stack.steps_made) for seed in self._seeds(ORDER)]
            orders = [tf.random.experimental.stateless_shuffle(o, s) for o, s in zip(orders, seeds, strict=True)]
        return [order if shared else order + m * num_rows for m, order in enumerate(orders)]

    def _seeds(self, purpose: int) -> list[tf.Tensor]:
        return [seed_of_tensor(seed_pair(model.seed), purpose, "training") for model in self.stack.models]

    def _batches(self, order: list[tf.Tensor], start: int, steps: int, size: int) -> tf.Tensor:
        """Rows of `steps` batches, [steps, size], or [steps, M, size]."""
        each = [tf.reshape(rows[start : start + steps * size], [steps, size]) for rows in order]
        return each[0] if len(each) == 1 else tf.stack(each, axis=1)

    def _run(self, data: dict[str, Any], rows: tf.Tensor) -> tf.Tensor:
        """All steps on `rows` [steps, ...]; the sum of their reported values."""
        chunk = self._chunk(data, rows)
        steps, first = int(rows.shape[0]), self.stack.steps_made
        rows = tf.pad(rows, [[0, -steps % chunk.steps], *[[0, 0]] * (len(rows.shape) - 1)])
        seeds = self._seeds(NOISE)

        def body(begin, sums):
            at = [fold_in(seed, first + begin) for seed in seeds]
            if chunk.compiled:
                source: Any = (seeds[0] if len(seeds) == 1 else tf.stack(seeds), first + begin)
            else:
                source = bits_for_stack(chunk.plan, at, chunk.steps, self.stack.lead.train_samples)
            part = tf.slice(rows, [begin, *[0] * (len(rows.shape) - 1)], [chunk.steps, *rows.shape[1:]])
            count = tf.minimum(chunk.steps, steps - begin)
            return begin + chunk.steps, sums + chunk.run(data, part, source, at[0], count)

        return tf.while_loop(lambda begin, _: begin < steps, body, (0, self._zeros()), parallel_iterations=1)[1]

    def _zeros(self) -> tf.Tensor:
        return tf.zeros([len(self.names)] if self.stack.size == 1 else [self.stack.size, len(self.names)])

    def _chunk(self, data: dict[str, Any], rows: tf.Tensor) -> Chunk:
        batch = keras.tree.map_structure(
            lambda part: tf.TensorSpec(
                [*(rows.shape[-1:] if len(rows.shape) > 1 else []), *part.shape[1:]], part.dtype
            ),
            data,
        )
        steps = int(rows.shape[0])
        key = (str(batch), steps)
        if key not in self._chunks:
            plan, is_faster = self.stack.plan(batch)
            worth_it = steps > 1 and is_faster  # XLA takes a second to compile
            compiled = worth_it if self._jit_compile is None else self._jit_compile
            at_most = max(1, NUMBERS_PER_CHUNK // max(plan.size * self.stack.lead.train_samples, 1))
            size = steps if compiled else math.ceil(steps / math.ceil(steps / at_most))
            run = tf.function(self._steps(plan, compiled), autograph=False, jit_compile=compiled)
            self._chunks[key] = Chunk(plan, size, run, compiled)
        return self._chunks[key]

    def _steps(self, plan: Plan, compiled: bool) -> Callable[..., tf.Tensor]:
        def noise_of(source, i):
            if not compiled:
                return plan.noise({key: part[i] for key, part in source.items()})
            keys, first = source
            return plan.noise(plan.counted_bits(keys, first + i, self.stack.lead.train_samples))

        def run(data, rows, source, seed, count):
            def body(i, sums, noise):
                batch = keras.tree.map_structure(lambda part: tf.gather(part, rows[i]), data)
                values = self.stack.step(batch, noise, fold_in(seed, i) if plan.follows_weights else None)
                return i + 1, sums + values, noise_of(source, tf.minimum(i + 1, count - 1))

            # Noise is made a step ahead: XLA would make it anew wherever it is used, in the gradient too.
            begin = (0, self._zeros(), noise_of(source, 0))
            return tf.while_loop(lambda i, *_: i < count, body, begin)[1]

        return run


def specs(data: Any) -> Any:
    """Shapes and dtypes of all parts."""
    return keras.tree.map_structure(lambda part: (tuple(part.shape), part.dtype.name), data)
