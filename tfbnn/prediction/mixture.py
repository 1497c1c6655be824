"""Densities, distribution functions and quantiles of the mixture (1/S) sum_s p(y|f_s)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.likelihoods import Likelihood

tfd = tfp.distributions

BISECTIONS = 40  # at most
STEPS = 100  # at most, of Chandrupatla's method: it interpolates where it can, and needs some ten
TOLERANCE = 2e-6  # of the probability beyond a quantile


def log_prob(likelihood: Likelihood, parameters: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """log (1/S) sum_s p(y|f_s), nats a row: [S, B, P'], [B, T] -> [B]."""
    draws = likelihood.log_prob(parameters, y)
    return tf.reduce_logsumexp(draws, axis=0) - tf.math.log(tf.cast(tf.shape(draws)[0], draws.dtype))


def cdf(likelihood: Likelihood, parameters: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """P(Y <= y) of each target alone: [S, B, P'], [..., B, T] -> [..., B, T]."""
    return tf.reduce_mean(likelihood.cdf(parameters, tf.expand_dims(y, -3)), axis=-3)


def quantile(likelihood: Likelihood, parameters: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
    """y with cdf(y) = q, between the smallest and the largest quantile of the components.

    Where several have it, because no component has mass there, one of them; of counts, the smallest with cdf(y) >= q.

    Args:
        likelihood: of numbers; a whole number is the answer where it is discrete.
        parameters: [S, B, P'].
        q: [Q], each in (0, 1).

    Returns:
        [Q, B, T], in units of y.
    """
    q = tf.reshape(tf.cast(q, tf.float32), [-1, 1, 1])
    lowest, highest = likelihood.quantile_bracket(parameters, q[:, tf.newaxis])
    lower, upper = tf.reduce_min(lowest, axis=1), tf.reduce_max(highest, axis=1)
    if likelihood.is_discrete:
        return _bisect_counts(likelihood, parameters, q, lower, upper)

    found = tfp.math.find_root_chandrupatla(
        lambda y: cdf(likelihood, parameters, y) - q, lower, upper, max_iterations=STEPS,
        position_tolerance=0.0, value_tolerance=TOLERANCE * tf.minimum(q, 1.0 - q),
    )  # fmt: skip
    return found.estimated_root


def _bisect_counts(
    likelihood: Likelihood, parameters: tf.Tensor, q: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor
) -> tf.Tensor:
    """The smallest whole number k with cdf(k) >= q; cdf(lower) < q <= cdf(upper) holds throughout."""
    lower, upper = tf.maximum(tf.floor(lower) - 1.0, -1.0), tf.math.ceil(upper)

    def halve(lower, upper):
        middle = tf.floor(0.5 * (lower + upper))
        share = tf.ensure_shape(cdf(likelihood, parameters, middle), lower.shape)  # betainc forgets it
        below = share < q  # of a bool, on a GPU, ensure_shape goes through the host
        return tf.where(below, middle, lower), tf.where(below, upper, middle)

    def apart(lower, upper):
        return tf.reduce_any(upper - lower > 1.0)

    return tf.while_loop(apart, halve, (lower, upper), maximum_iterations=BISECTIONS)[1]


def distribution(likelihood: Likelihood, parameters: tf.Tensor) -> Any:
    """The mixture as a `tfd.MixtureSameFamily` over rows y [T], batch shape [B]."""
    draws_last = tf.transpose(parameters, [1, 0, 2])
    components = tfd.Independent(likelihood.distribution(draws_last), reinterpreted_batch_ndims=1)
    logits = tf.zeros(tf.shape(draws_last)[:-1])
    return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), components)
