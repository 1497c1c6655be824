"""The uncertainty split: total = aleatoric + epistemic."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfbnn.likelihoods import ClassLikelihood, Likelihood


class Moments(NamedTuple):
    """Moments of the predictive distribution, each [B, T] in units of y (variances in units squared)."""

    mean: tf.Tensor
    aleatoric_variance: tf.Tensor
    epistemic_variance: tf.Tensor

    @property
    def variance(self) -> tf.Tensor:
        """Var[y] = E_w Var[y|w] + Var_w E[y|w], the law of total variance."""
        return self.aleatoric_variance + self.epistemic_variance


def moments(likelihood: Likelihood, parameters: tf.Tensor) -> Moments:
    """Moments of the mixture of S draws, variances over draws with 1/S.

    Args:
        likelihood: what the parameters are of.
        parameters: [S, B, P'].
    """
    means = likelihood.mean(parameters)
    return Moments(
        mean=mean_over_draws(means),
        aleatoric_variance=mean_over_draws(likelihood.variance(parameters)),
        epistemic_variance=tf.math.reduce_variance(means - means[0], axis=0),
    )


def mean_over_draws(values: tf.Tensor) -> tf.Tensor:
    """(1/S) sum_s values_s, [S, ...] -> [...], summed as differences from the first draw.

    Draws that agree to the last bit so have that mean and no variance, and digits are not lost to a large offset.
    """
    return values[0] + tf.reduce_mean(values - values[0], axis=0)


def mc_error(means: tf.Tensor, sequence: str = "independent") -> tf.Tensor:
    """Standard error of (1/S) sum_s mean_s for having S draws and no more: sqrt(sum_i (m_i - m)^2 / (n (n - 1))).

    The m_i are the n parts of the draws that are independent of one another.

    Args:
        means: of each draw, [S, ...].
        sequence: how the draws go together, of `tfbnn.core.sequences`. Of "sobol" the error is what independent draws
            would have, which is more than theirs.

    Returns:
        [...], in units of the means; NaN where there are fewer than two independent parts.
    """
    parts = independent_parts(means, sequence)
    n = tf.cast(tf.shape(parts)[0], parts.dtype)
    return tf.sqrt(tf.math.reduce_variance(parts - parts[:1], axis=0) / (n - 1.0))


def independent_parts(means: tf.Tensor, sequence: str) -> tf.Tensor:
    """Of draws [S, ...], the first of which has an even number, what is independent: antithetic ones come in pairs."""
    if sequence != "antithetic":
        return means
    second = means[1::2]
    return 0.5 * (means[::2][: tf.shape(second)[0]] + second)


class Entropies(NamedTuple):
    """Entropies of the predicted class, each [B], nats; predictive = expected + mutual information."""

    predictive_entropy: tf.Tensor
    expected_entropy: tf.Tensor
    mutual_information: tf.Tensor


def class_probabilities(likelihood: ClassLikelihood, parameters: tf.Tensor) -> tf.Tensor:
    """P(y = k) = (1/S) sum_s P(y = k|w_s): [S, B, P'] -> [B, K]."""
    return mean_over_draws(likelihood.class_probabilities(parameters))


def entropies(likelihood: ClassLikelihood, parameters: tf.Tensor) -> Entropies:
    """H[y] = E_w H[y|w] + I[y; w] for parameters [S, B, P'].

    Reference: Houlsby et al. 2011 (BALD); Depeweg et al. 2018.
    """
    p = likelihood.class_probabilities(parameters)
    predictive = entropy(mean_over_draws(p))
    expected = mean_over_draws(entropy(p))
    return Entropies(predictive, expected, tf.maximum(predictive - expected, 0.0))


def entropy(p: tf.Tensor) -> tf.Tensor:
    """-sum_k p_k log p_k over the last axis, nats, with 0 log 0 = 0."""
    return -tf.reduce_sum(tf.math.multiply_no_nan(tf.math.log(tf.maximum(p, 1e-38)), p), axis=-1)
