"""Weights that are exactly 0 with some probability: what a posterior and a prior of that kind have in common."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd


class SpikeAndSlabNormal(tfd.Distribution):
    """w = 0 where its gate is shut; Normal(loc, scale^2) where it is open, which has probability P.

    It has no density (a share of its mass is on one value), and so no `log_prob`.

    Args:
        log_odds: log P / (1 - P) of each gate, float32; it broadcasts to the tensor's shape, and weights that share an
            entry share a gate. A scalar: of a gate for each weight.
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
        """0 or 1, [n, ...], which broadcast to [n, *the tensor's shape]."""
        logits = self.log_odds if self.log_odds.shape.rank else tf.fill(self.slab[0].shape, self.log_odds)
        return tf.cast(tfd.Bernoulli(logits=logits).sample(n, seed=seed), self.dtype)


@tfd.RegisterKL(SpikeAndSlabNormal, SpikeAndSlabNormal)
def _(q: SpikeAndSlabNormal, p: SpikeAndSlabNormal, name: str | None = None) -> tf.Tensor:
    """sum over gates of KL(Bernoulli(P) || Bernoulli(pi)) + sum over weights of P KL(Normal || slab)."""
    if p.log_odds.shape.rank:
        raise NotImplementedError("No exact KL to a spike and slab whose gates differ.")
    of_gates = tfd.kl_divergence(tfd.Bernoulli(logits=q.log_odds), tfd.Bernoulli(logits=p.log_odds))
    of_weights = tfd.kl_divergence(tfd.Normal(*q.slab), tfd.Normal(*p.slab))
    return tf.reduce_sum(of_gates) + tf.reduce_sum(tf.sigmoid(q.log_odds) * of_weights)
