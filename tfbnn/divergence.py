"""Kullback-Leibler divergences between weight distributions, in nats, summed over all weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import invalid
from tfbnn.core.noise import Noise
from tfbnn.core.tfp_factory import takes

tfd = tfp.distributions


def kl_divergence(q: Any, p: Any, name: str, noise: Noise, transform: Callable | None = None) -> tf.Tensor:
    """KL(q || p) = E_q[log q(w) - log p(w)]: exact where it is known, else one Monte Carlo draw.

    Args:
        q: `tfd` distribution of the weights.
        p: `tfd` distribution, over tensors of the same shape.
        name: name of the tensor; the draw is noise `<name>/divergence`.
        noise: what the draw is made from.
        transform: standard normals of the tensor's shape -> a draw of q, where q's family has such a map.

    Returns:
        Scalar float32, nats, summed over weights.
    """
    q, p = as_one_event(q), as_one_event(p)
    try:
        return tf.reduce_sum(tfd.kl_divergence(q, p))
    except NotImplementedError:
        return monte_carlo_kl(q, p, _draw(q, f"{name}/divergence", noise, transform))


def _draw(q: Any, name: str, noise: Noise, transform: Callable | None) -> tf.Tensor:
    return noise.sample(name, q) if transform is None else transform(noise.normal(name, q.event_shape))


def as_one_event(distribution: Any) -> Any:
    """The same distribution with all axes of the tensor in its event, however the factory wrapped it."""
    base = distribution
    while isinstance(base, tfd.Independent):
        base = base.distribution
    rank = base.batch_shape.rank
    return tfd.Independent(base, reinterpreted_batch_ndims=rank) if rank else base


def of_kept(distribution: Any, kept: tf.Tensor | None, where: str) -> Any:
    """The distribution of the weights that are left: log densities and KLs count those alone.

    Args:
        distribution: over tensors, weight by weight, or one that says it itself by `of_kept(kept)`.
        kept: bool of the tensor's shape, or None: all.
        where: what errors call it.
    """
    if kept is None:
        return distribution
    if hasattr(distribution, "of_kept"):
        return distribution.of_kept(kept)
    base = as_one_event(distribution)
    base = base.distribution if isinstance(base, tfd.Independent) else base
    if base.batch_shape != kept.shape:
        raise invalid(where, "independent weights, where some are removed", type(base).__name__)
    return tfd.Independent(tfd.Masked(base, kept), reinterpreted_batch_ndims=len(kept.shape))


def monte_carlo_kl(q: Any, p: Any, weights: tf.Tensor) -> tf.Tensor:
    """log q(w) - log p(w) at one draw `weights` of q: unbiased for KL(q || p), scalar, nats."""
    return tf.reduce_sum(q.log_prob(weights)) - tf.reduce_sum(p.log_prob(weights))


def user_divergence(fn: Callable, q: Any, p: Any) -> tf.Tensor:
    """The value of a `*_divergence_fn`, which takes (q, p) or, as TFP's do, (q, p, ignored); scalar."""
    value = fn(q, p) if takes(fn, 2) else fn(q, p, None)
    return tf.reduce_sum(tf.cast(value, tf.float32))
