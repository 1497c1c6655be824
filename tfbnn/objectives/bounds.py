"""Lower bounds of the log evidence from several draws of the weights: the ELBO's family of Renyi bounds."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

ORDERS = {"elbo": 1.0, "importance_weighted": 0.0}  # alpha of the bounds that have a name
BOUNDS = (*ORDERS, "renyi")


def renyi(log_weights: Any, alpha: float) -> tf.Tensor:
    """L_alpha = 1 / (1 - alpha) log (1/K) sum_k w_k^(1 - alpha), w_k = p(D, w_k) / q(w_k).

    It falls as alpha grows: 1 is the ELBO, the mean of log w_k; 0 the importance-weighted bound. For 0 <= alpha < 1
    its expectation is below log p(D), and grows with K; below 0 it may be above. Where q is the posterior, all log
    w_k are log p(D), and so is every bound.

    Args:
        log_weights: log p(D, w_k) - log q(w_k) of K draws of q, [K, ...], nats.
        alpha: any number.

    Returns:
        [...], nats.

    Reference: Li & Turner 2016, "Renyi Divergence Variational Inference", equation 14.
    """
    log_weights = tf.convert_to_tensor(log_weights)
    if alpha == 1.0:
        return tf.reduce_mean(log_weights, axis=0)
    largest = tf.reduce_max if alpha < 1.0 else tf.reduce_min  # of w_k^(1 - alpha)
    shift = tf.stop_gradient(largest(log_weights, axis=0))
    powers = tf.math.expm1((1.0 - alpha) * (log_weights - shift))  # less 1: exact where alpha is near 1
    return shift + tf.math.log1p(tf.reduce_mean(powers, axis=0)) / (1.0 - alpha)


def importance_weighted(log_weights: Any) -> tf.Tensor:
    """log (1/K) sum_k w_k: `renyi` of alpha 0.

    Reference: Burda, Grosse & Salakhutdinov 2016, "Importance Weighted Autoencoders", equation 8.
    """
    return renyi(log_weights, ORDERS["importance_weighted"])


def order_of(bound: str, alpha: float) -> float:
    """The alpha of a bound of `BOUNDS`; "renyi" has the one given."""
    return ORDERS.get(bound, alpha)
