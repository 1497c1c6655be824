"""The expected calibration error as a Keras metric, added up batch by batch in `fit` and `evaluate`."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import positive_integer
from tfbnn.core.serialization import register
from tfbnn.prediction.reliability import BINS


@register
class CalibrationError(keras.metrics.Metric):
    """ECE = sum_b |sum_(i in b) (1[right_i] - p_i)| / N over bins of the likeliest class's probability p; 0 is best.

    That of all rows since the epoch began, as `expected_calibration_error` has it with bins of equal width.

    Args:
        bins: M.
        debiased: takes off what noise adds where bins have few rows.
        name, dtype: of `keras.metrics.Metric`.

    Raises:
        InvalidInput: unless `bins` is a whole number above 0.

    Example:
        >>> model.compile(optimizer, metrics=["accuracy", tfbnn.evaluation.CalibrationError()])

    Reference: Guo et al. 2017, equation 3; debiased: Kumar, Liang & Ma 2019, section 5.
    """

    def __init__(self, bins: int = BINS, debiased: bool = True, name: str = "calibration_error", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.bins = positive_integer("bins", bins)
        self.debiased = bool(debiased)
        self.count, self.right, self.confidence = (
            self.add_variable((bins,), "zeros", name=part) for part in ("count", "right", "confidence")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds rows: y_true [B] or [B, 1], class indices; y_pred [B, K], or [B, 1] of class 1; weights [B] or None."""
        y = tf.reshape(tf.cast(y_true, tf.int64), [-1])
        p = tf.cast(y_pred, self.dtype)
        p = tf.concat([1.0 - p, p], axis=-1) if p.shape[-1] == 1 else p
        surest = tf.reduce_max(p, axis=-1)
        right = tf.cast(tf.equal(tf.argmax(p, axis=-1), y), self.dtype)
        weight = tf.ones_like(surest) if sample_weight is None else tf.cast(tf.reshape(sample_weight, [-1]), self.dtype)
        edges = tf.cast(tf.linspace(0.0, 1.0, self.bins + 1)[1:-1], self.dtype)
        number = tf.searchsorted(edges, surest, side="left")
        for total, values in ((self.count, 1.0), (self.right, right), (self.confidence, surest)):
            total.assign_add(tf.math.unsorted_segment_sum(weight * values, number, self.bins))

    def result(self) -> tf.Tensor:
        """The error of all rows so far; 0 of none."""
        count = tf.convert_to_tensor(self.count)
        share = tf.math.divide_no_nan(count, tf.reduce_sum(count))
        frequency = tf.math.divide_no_nan(tf.convert_to_tensor(self.right), count)
        gap = frequency - tf.math.divide_no_nan(tf.convert_to_tensor(self.confidence), count)
        error = tf.abs(gap)
        if self.debiased:
            variance = tf.math.divide_no_nan(frequency * (1.0 - frequency), count)
            error = 2.0 * error - _expected_distance(gap, variance)
        return tf.reduce_sum(share * error)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "bins": self.bins, "debiased": self.debiased}


def _expected_distance(mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
    """`expected_distance`, in the graph: E|d|, d ~ Normal(mean, variance)."""
    stddev = tf.sqrt(variance)
    z = tf.math.divide_no_nan(mean, stddev)
    folded = stddev * math.sqrt(2.0 / math.pi) * tf.exp(-0.5 * z**2) + mean * tf.math.erf(z / math.sqrt(2.0))
    return tf.where(stddev > 0, folded, tf.abs(mean))
