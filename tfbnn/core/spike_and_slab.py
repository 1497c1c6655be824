"""Weights that are exactly 0 with some probability: what a posterior and a prior of that kind have in common."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd


class SpikeAndSlabNormal(tfd.Distribution):
    """w = 0 where its gate is shut; Normal(loc, scale^2) where it is open, which has probability P.

    It has no density (a share of its mass is on one value), and so no `log_prob`.

    Args:
        log_odds: log P / (1 - P) of each gate, float32; it broadcasts to the tensor's shape, and weights that share an
            entry share a gate.
        loc, scale: of weights whose gate is open, float32 of the tensor's shape.
        parameters: what a subclass was made of.
    """

    def __init__(self, log_odds: tf.Tensor, loc: tf.Tensor, scale: tf.Tensor, parameters: dict | None = None):
        parameters = parameters or dict(locals())
        self.log_odds = log_odds
        self.slab = loc, scale
        super().__init__(dtype=loc.dtype, reparameterization_type=tfd.NOT_REPARAMETERIZED, validate_args=False,
                         allow_nan_stats=True, parameters=parameters)  # fmt: skip

    def _event_shape(self):
        return self.slab[0].shape

    def _batch_shape(self):
        return tf.TensorShape([])

    def _sample_n(self, n, seed=None):
        of_gates, of_slab = tfp.random.split_seed(seed, n=2)
        loc, scale = self.slab
        return self._gates(n, of_gates) * (loc + scale * tf.random.stateless_normal([n, *loc.shape], of_slab))

    def _gates(self, n: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """0 or 1, [n, *shape of log_odds]."""
        return tf.cast(tfd.Bernoulli(logits=self.log_odds).sample(n, seed=seed), self.dtype)


@tfd.RegisterKL(SpikeAndSlabNormal, SpikeAndSlabNormal)
def _(q: SpikeAndSlabNormal, p: SpikeAndSlabNormal, name: str | None = None) -> tf.Tensor:
    """sum over gates of KL(Bernoulli(P) || Bernoulli(pi)) + sum over weights of P KL(Normal || slab)."""
    of_gates = tfd.kl_divergence(tfd.Bernoulli(logits=q.log_odds), tfd.Bernoulli(logits=_one_of_all(p.log_odds)))
    of_weights = tfd.kl_divergence(tfd.Normal(*q.slab), tfd.Normal(*p.slab))
    return tf.reduce_sum(of_gates) + tf.reduce_sum(tf.sigmoid(q.log_odds) * of_weights)


def _one_of_all(log_odds: Any) -> Any:
    if log_odds.shape.num_elements() != 1:
        raise NotImplementedError("No exact KL to a spike and slab whose gates differ.")
    return tf.reshape(log_odds, [])
