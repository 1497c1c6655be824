"""The evidence lower bound: the one place where 1/N and beta are applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class ElboTerms:
    """ELBO = E_q[log p(y|X, w)] - KL(q || p), nats, of the whole training set.

    Attributes:
        log_likelihood: N times the mean log p(y|x, w) of the batch's rows, nats, in the units of y.
        kl: KL(q || p), nats, summed over all weights.
        penalty: -log p(w) of point weights that have a prior, nats (MAP).
        beta: weight of the KL in the loss.
        num_data: N, number of training rows.
        kl_per_layer: name of the layer -> its KL, nats.
    """

    log_likelihood: Any
    kl: Any
    penalty: Any
    beta: Any
    num_data: Any
    kl_per_layer: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def elbo(self) -> Any:
        """log_likelihood - kl: the bound itself, whatever beta."""
        return self.log_likelihood - self.kl

    @property
    def loss(self) -> Any:
        """(beta KL + penalty - log_likelihood) / N, nats a row: what training minimises."""
        return (self.beta * self.kl + self.penalty - self.log_likelihood) / self.num_data

    def loss_of(self, bound: Any) -> Any:
        """(penalty - bound) / N, nats a row: what training minimises where it maximises another bound of log p(D)."""
        return (self.penalty - bound) / self.num_data

    def log_weights(self, log_likelihoods: Any, log_ratios: Any) -> Any:
        """log p(D, w_k) - log q(w_k) of each draw k: its log likelihood, less beta (log q(w_k) - log p(w_k)).

        Args:
            log_likelihoods: mean log p(y|x, w_k) of the batch's rows, [K], nats a row.
            log_ratios: log q(w_k) - log p(w_k), [K], nats, summed over all weights.
        """
        return self.num_data * log_likelihoods - self.beta * log_ratios

    def reported(self) -> dict[str, Any]:
        """What training tells of a step, by name; a KL a layer only where there are several layers."""
        layers = self.kl_per_layer if len(self.kl_per_layer) > 1 else {}
        terms = {"elbo": self.elbo, "log_likelihood": self.log_likelihood, "kl": self.kl, "beta": self.beta}
        return terms | {f"kl/{name}": kl for name, kl in layers.items()}


def mean_log_likelihood(log_likelihood: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """sum_b w_b log p_b / sum_b w_b, averaged over draws.

    Args:
        log_likelihood: [..., B], nats a row.
        sample_weight: [B], or None for weights of 1.

    Returns:
        Scalar, nats a row.
    """
    if sample_weight is None:
        weight = tf.ones_like(log_likelihood[0] if len(log_likelihood.shape) > 1 else log_likelihood)
    else:
        weight = tf.reshape(tf.cast(sample_weight, log_likelihood.dtype), [-1])
    weighted = tf.reduce_sum(weight * log_likelihood, axis=-1)
    return tf.reduce_mean(tf.math.divide_no_nan(weighted, _mean_over_replicas(tf.reduce_sum(weight))))


def _mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The mean over the replicas of a strategy: with it, uneven parts of a batch count as in one batch."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
