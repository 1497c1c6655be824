"""Validation rows of the loop: log (1/S) sum_s p(y|x, w_s), nats a row, and the metrics of `compile`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.prediction import mixture
from tfbnn.training.stack import Stack
from tfbnn.training.steps import specs

ROWS_PER_CALL = 1024  # of a validation set on the device


class Validation:
    """Scores the models of a stack on their own validation rows.

    Args:
        stack: the models.
        batches: of each model: "x", "y", and "w" where rows have weights.
        num_samples: S of each model.

    Attributes:
        batches: as given.
    """

    def __init__(self, stack: Stack, batches: Sequence[Any], num_samples: Sequence[int]):
        self._stack = stack
        self.batches = batches
        self._num_samples = num_samples
        self._compiled: dict[Any, Any] = {}

    def __call__(self, member: int) -> dict[str, float]:
        """`val_loss`, `val_log_likelihood`, and the metrics of `compile`, of one model."""
        model = self._stack.models[member]
        total = rows = 0.0
        metrics: dict[str, Any] = {}
        model.reset_metrics()
        seed, samples = tf.constant(model.seed), self._num_samples[member]
        for batch in self.batches[member]:
            parameters, log_prob = self._draws(tf.constant(member), seed, tf.constant(samples), batch["x"], batch["y"])
            weight = batch.get("w", tf.ones_like(log_prob))
            total += float(tf.reduce_sum(weight * log_prob))
            rows += float(tf.reduce_sum(weight))
            if has_compiled_metrics(model):
                metrics = model.compiled_metrics_of(batch["x"], batch["y"], parameters, batch.get("w"))
        scores = {"loss": -total / rows, "log_likelihood": total / rows}
        return {f"val_{name}": float(value) for name, value in (scores | metrics).items()}

    def _draws(self, *arguments: Any) -> tuple[Any, Any]:
        """`_draw_parameters` as a graph, made once for each shape of batches."""
        key = str(specs(arguments))
        if key not in self._compiled:
            graph = tf.function(self._draw_parameters, autograph=False, jit_compile=False)
            self._compiled[key] = graph.get_concrete_function(*arguments)
        return self._compiled[key](*arguments)

    def _draw_parameters(
        self, member: tf.Tensor, seed: tf.Tensor, samples: tf.Tensor, x: Any, y: tf.Tensor
    ) -> tuple[Any, Any]:
        """Parameters [S, B, P'] of the draws, and the log density of the rows [B], nats."""
        parameters, state = self._stack.values_of(member)
        with self._stack.scope(parameters, state):
            draws = self._stack.lead.posterior_draws().apply(x, seed, 0, samples)
            return draws, mixture.log_prob(self._stack.lead.likelihood, draws, y)


def has_compiled_metrics(model: Any) -> bool:
    """Whether `compile` was given metrics."""
    return len(model.metrics) > len(model.tracked)


def in_batches(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows on the device in parts of `ROWS_PER_CALL`."""
    starts = range(0, len(data["y"]), ROWS_PER_CALL)
    return [keras.tree.map_structure(lambda part, i=i: part[i : i + ROWS_PER_CALL], data) for i in starts]
