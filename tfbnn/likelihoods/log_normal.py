"""The log-normal likelihood: positive numbers whose noise grows with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.positive import inverse_positive, positive
from tfbnn.core.serialization import register
from tfbnn.likelihoods.base import SMALLEST_SCALE, StandardisedLikelihood, refused_rows

tfd = tfp.distributions


@register
class LogNormal(StandardisedLikelihood):
    """log y ~ Normal(f, scale^2) in standardised units of log y; y is above 0, one noise scale for all rows.

    E[y] = exp(mu + s^2 / 2), Var[y] = (exp(s^2) - 1) E[y]^2; the density is that of y itself, not of log y. The
    learned scale is a point estimate (type-II maximum likelihood): it has no prior and no KL. Parameters [..., 2 T] =
    mu, s, mean and standard deviation of log y.

    Args:
        num_targets: T, targets a row; each has its own scale.

    Reference: Johnson, Kotz & Balakrishnan 1994, chapter 14.
    """

    def __init__(self, num_targets: int = 1, **kwargs: Any):
        super().__init__(num_targets, **kwargs)
        self.num_outputs = self.num_targets
        self.rho = self.add_target_weight("rho", inverse_positive(1.0), trainable=True)  # all is noise at first

    def call(self, outputs):
        """[B, T] standardised means of log y -> [B, 2 T]: mu and s of log y."""
        return tf.concat(self.in_units_of_y(outputs, positive(self.rho.value) + SMALLEST_SCALE), axis=-1)

    def distribution(self, parameters):
        return tfd.LogNormal(*self.parts(parameters))

    def log_prob(self, parameters, y):
        """log p(y), nats a row; -inf where y is not above 0."""
        possible = y > 0.0
        density = self.distribution(parameters).log_prob(tf.where(possible, y, 1.0))
        return tf.reduce_sum(tf.where(possible, density, -np.inf), axis=-1)

    def cdf(self, parameters, y):
        return self.distribution(parameters).cdf(tf.maximum(y, 0.0))

    def quantile_bracket(self, parameters, q):
        """The quantile itself, twice."""
        quantile = self.distribution(parameters).quantile(q)
        return quantile, quantile

    def mean(self, parameters):
        mu, s = self.parts(parameters)
        return tf.exp(mu + 0.5 * tf.square(s))

    def variance(self, parameters):
        _, s = self.parts(parameters)
        return tf.math.expm1(tf.square(s)) * tf.square(self.mean(parameters))

    def null_parameters(self, y):
        return np.concatenate([np.log(y).mean(axis=0), np.log(y).std(axis=0)])

    def check_target(self, where, y):
        super().check_target(where, y)
        if (bad := y <= 0.0).any():
            mend = "For targets of either sign use Normal or StudentT, for counts Poisson or NegativeBinomial."
            raise refused_rows(where, y, bad, "targets above 0 for LogNormal", mend)

    def _on_real_line(self, y):
        return np.log(y)

    @property
    def num_parameters(self):
        """2 T: mu and s."""
        return 2 * self.num_targets
