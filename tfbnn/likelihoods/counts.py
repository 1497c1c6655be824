"""Likelihoods of counts, 0, 1, 2, ...: Poisson, and negative binomial for counts that vary more."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import invalid
from tfbnn.core.positive import inverse_positive, positive
from tfbnn.core.serialization import register
from tfbnn.likelihoods.base import Likelihood, RegressionLikelihood, refused_rows

tfd = tfp.distributions

LARGEST_LOG_MEAN = 40.0  # exp(40) = 2e17; float32 holds the square of it, which variances need
SMALLEST_DISPERSION = 1e-6  # a Poisson but for counts of a million
LARGEST_IN_IGAMMAC = 1e5  # beyond, its iteration stops before it has converged


class CountLikelihood(RegressionLikelihood):
    """Counts of mean mean_y exp(f), mean_y that of the training targets: f = 0 says what the null model does.

    Means are held as their logarithms, at most 40, so that no f overflows. Densities and distribution functions are
    computed in float64: in float32 they would be off by 0.6 nats, and 0.8, at a count of a million.

    Args:
        num_targets: T, targets a row.
    """

    is_discrete = True

    def __init__(self, num_targets: int = 1, **kwargs: Any):
        super().__init__(num_targets, **kwargs)
        self.num_outputs = self.num_targets
        self.log_mean_y = self.add_target_weight("log_mean_y", 0.0)

    def adapt(self, y: Any) -> Likelihood:
        """Takes the mean of the training targets, [N] or [N, T].

        Raises:
            InvalidInput: where y holds what is no count, does not fit T, or is 0 in every row.
        """
        y = self._checked(y)
        if not (y.sum(axis=0) > 0.0).all():
            raise invalid("y", "counts of which some are above 0", f"{len(y)} rows, all 0")
        self.log_mean_y.assign(np.log(y.mean(axis=0)))
        return self

    def log_mean(self, outputs: tf.Tensor) -> tf.Tensor:
        """log E[y], [B, T], for the network's outputs."""
        return tf.minimum(self.log_mean_y.value + outputs, LARGEST_LOG_MEAN)

    def log_prob(self, parameters, y):
        """log P(Y = y), nats a row; -inf where y is no count."""
        y = tf.cast(y, tf.float64)
        is_count = tf.equal(y, tf.floor(y)) & (y >= 0.0)
        each = self.distribution(tf.cast(parameters, tf.float64)).log_prob(tf.where(is_count, y, 0.0))
        return tf.cast(tf.reduce_sum(tf.where(is_count, each, -np.inf), axis=-1), tf.float32)

    def cdf(self, parameters, y):
        y = tf.floor(tf.cast(y, tf.float64))
        p = self._cdf_of_counts(tf.cast(parameters, tf.float64), tf.maximum(y, 0.0))
        return tf.cast(tf.where(y >= 0.0, p, 0.0), tf.float32)

    def _cdf_of_counts(self, parameters: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return self.distribution(parameters).cdf(y)

    def mean(self, parameters):
        return tf.exp(self.parts(parameters)[0])

    def check_target(self, where, y):
        super().check_target(where, y)
        if (bad := (y < 0) | (y != np.floor(y))).any():
            mend = "Use Normal for numbers of any kind, LogNormal for those above 0."
            raise refused_rows(where, y, bad, f"counts 0, 1, 2, ... for {type(self).__name__}", mend)


@register
class Poisson(CountLikelihood):
    """y ~ Poisson(mean_y exp(f)), so that Var[y] = E[y]. Parameters [..., T] = log E[y].

    Args:
        num_targets: T, targets a row.

    Example:
        >>> likelihood = tfbnn.likelihoods.Poisson().adapt(visits_train)
    """

    def call(self, outputs):
        """[B, T] log of the mean over mean_y -> [B, T] log of the mean."""
        return self.log_mean(outputs)

    def distribution(self, parameters):
        return tfd.Poisson(log_rate=parameters)

    def _cdf_of_counts(self, parameters, y):
        """P(Y <= y) = P(Gamma(y + 1) > rate); its cube root is nearly Normal where both are large.

        Reference: Wilson & Hilferty 1931.
        """
        exact = super()._cdf_of_counts(tf.minimum(parameters, np.log(LARGEST_IN_IGAMMAC)), y)
        rate, shape = tf.exp(parameters), y + 1.0
        z = 3.0 * tf.sqrt(shape) * (1.0 - 1.0 / (9.0 * shape) - tf.pow(rate / shape, 1.0 / 3.0))
        return tf.where(rate > LARGEST_IN_IGAMMAC, 0.5 * tf.math.erfc(-np.sqrt(0.5) * z), exact)

    def variance(self, parameters):
        return self.mean(parameters)

    def null_parameters(self, y):
        return np.log(y.mean(axis=0))


@register
class NegativeBinomial(CountLikelihood):
    """Counts of mean mean_y exp(f) and Var[y] = E[y] + dispersion E[y]^2, one dispersion for all rows.

    dispersion = softplus(rho), begins at 1. It is a learned point estimate (type-II maximum likelihood): it has no
    prior and no KL. Parameters [..., 2 T] = log E[y], log dispersion.

    Args:
        num_targets: T, targets a row; each has its own dispersion.

    Reference: Cameron & Trivedi 1986 (their Negbin II).
    """

    def __init__(self, num_targets: int = 1, **kwargs: Any):
        super().__init__(num_targets, **kwargs)
        self.rho = self.add_target_weight("rho", inverse_positive(1.0), trainable=True)

    def call(self, outputs):
        """[B, T] log of the mean over mean_y -> [B, 2 T]: log of the mean, log of the dispersion."""
        log_mean = self.log_mean(outputs)
        log_dispersion = tf.math.log(positive(self.rho.value) + SMALLEST_DISPERSION)
        return tf.concat([log_mean, tf.broadcast_to(log_dispersion, tf.shape(log_mean))], axis=-1)

    def distribution(self, parameters):
        """Successes of odds dispersion E[y] before 1 / dispersion failures."""
        log_mean, log_dispersion = self.parts(parameters)
        return tfd.NegativeBinomial(tf.exp(-log_dispersion), logits=log_mean + log_dispersion)

    def variance(self, parameters):
        mean, dispersion = (tf.exp(part) for part in self.parts(parameters))
        return mean + dispersion * tf.square(mean)

    def null_parameters(self, y):
        """By mean and variance."""
        mean = y.mean(axis=0)
        dispersion = (y.var(axis=0) - mean) / mean**2
        return np.log(np.concatenate([mean, np.maximum(dispersion, SMALLEST_DISPERSION)]))

    @property
    def num_parameters(self):
        """2 T: log of the mean, log of the dispersion."""
        return 2 * self.num_targets
