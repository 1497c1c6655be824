"""Student's t: a likelihood of numbers whose noise has outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.positive import inverse_positive, positive
from tfbnn.core.serialization import register
from tfbnn.likelihoods.base import SMALLEST_SCALE, StandardisedLikelihood

tfd = tfp.distributions

SMALLEST_DF = 2.01  # the variance is infinite at 2
LARGEST_DF = 1000.0  # a Normal but for its far tails
DF_AT_FIRST = 10.0


@register
class StudentT(StandardisedLikelihood):
    """y ~ f + scale t_df in standardised units: one noise scale and one number of degrees of freedom for all rows.

    scale = softplus(rho), df = 2 + softplus(free), at most 1000, begins at 10. Both are learned point estimates
    (type-II maximum likelihood): they have no prior and no KL. Parameters [..., 3 T] = loc, scale, df; Var[y] =
    scale^2 df / (df - 2).

    Args:
        num_targets: T, targets a row; each has its own scale and df.

    Reference: Lange, Little & Taylor 1989.
    """

    def __init__(self, num_targets: int = 1, **kwargs: Any):
        super().__init__(num_targets, **kwargs)
        self.num_outputs = self.num_targets
        all_is_noise = np.sqrt((DF_AT_FIRST - 2.0) / DF_AT_FIRST)  # a variance of 1
        self.rho = self.add_target_weight("rho", inverse_positive(all_is_noise), trainable=True)
        self.free_df = self.add_target_weight("free_df", inverse_positive(DF_AT_FIRST - SMALLEST_DF), trainable=True)

    def call(self, outputs):
        """[B, T] standardised locations -> [B, 3 T]: loc and scale in units of y, and df."""
        loc, scale = self.in_units_of_y(outputs, positive(self.rho.value) + SMALLEST_SCALE)
        df = tf.minimum(SMALLEST_DF + positive(self.free_df.value), LARGEST_DF)
        return tf.concat([loc, scale, tf.broadcast_to(df, tf.shape(loc))], axis=-1)

    def distribution(self, parameters):
        loc, scale, df = self.parts(parameters)
        return tfd.StudentT(df, loc, scale)

    def cdf(self, parameters, y):
        """P(T > |t|) = I_x(df / 2, 1 / 2) / 2 at x = df / (df + t^2); in float64, or sqrt(1 - x) loses digits about 0.

        TFP's own is right too, but makes a graph that takes ten times as long to export.
        """
        loc, scale, df = self.parts(parameters)
        t, df = tf.cast((y - loc) / scale, tf.float64), tf.cast(df, tf.float64)
        x = df / (df + tf.square(t))
        tail = 0.5 * tf.math.betainc(0.5 * df + tf.zeros_like(x), tf.fill(tf.shape(x), np.float64(0.5)), x)
        return tf.cast(tf.where(t < 0.0, tail, 1.0 - tail), tf.float32)

    def mean(self, parameters):
        return self.parts(parameters)[0]

    def variance(self, parameters):
        _, scale, df = self.parts(parameters)
        return tf.square(scale) * df / (df - 2.0)

    def null_parameters(self, y):
        """By mean, variance and kurtosis: 3 + 6 / (df - 4) where that is above 3."""
        mean, stddev = y.mean(axis=0), y.std(axis=0)
        excess = np.mean(((y - mean) / stddev) ** 4, axis=0) - 3.0
        df = np.minimum(4.0 + 6.0 / np.maximum(excess, 1e-3), LARGEST_DF)
        return np.concatenate([mean, stddev * np.sqrt((df - 2.0) / df), df])

    @property
    def num_parameters(self):
        """3 T: loc, scale and df."""
        return 3 * self.num_targets
