"""The Gaussian prior whose scale is unknown too, and has a posterior."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfbnn.core.arrays import shape_of_each
from tfbnn.core.checks import one_of, positive_number
from tfbnn.core.positive import inverse_positive, positive
from tfbnn.core.serialization import register
from tfbnn.priors.base import Prior, WeightPrior

EACH = ("tensor", "input")


@dataclasses.dataclass(frozen=True)
class _HierarchicalNormalWeightPrior(WeightPrior):
    hyper_prior: tuple[float, float]
    loc: keras.Variable
    rho: keras.Variable
    shape: tuple[int, ...]

    def distribution(self) -> Any:
        q = tf.convert_to_tensor(self.loc.value), positive(self.rho.value)
        return HierarchicalNormalTensor(self.shape, *q, *self.hyper_prior)


@register
class HierarchicalNormal(Prior):
    """w ~ Normal(0, tau^2), log tau ~ Normal(log scale, spread^2), with a posterior q(log tau) = Normal(m, s^2).

    It represents that nobody knows how large weights are, or which inputs matter, and learns it with its uncertainty;
    it costs two numbers a tensor or an input. Unlike that of EmpiricalBayesNormal, which is a point, tau is counted in
    the KL of the layer:

        E_q(tau)[KL(q(w) || Normal(0, tau^2))] + KL(q(tau) || p(tau))
        E_q(tau)[log p(w | tau)] = sum -1/2 w^2 exp(2 s^2 - 2 m) - m - 1/2 log(2 pi)

    It is exact where q(w) knows its moments and entropy (all Gaussians and Radial), else Monte Carlo over w alone.
    Given q(w), it is least where s^2 = 1 / (2 n + (1 + 2 (m - log scale)) / spread^2), n the weights of a tau. Every
    tensor of every layer has a tau of its own; none is shared between layers. A weight decay of the optimizer, where it
    has one, should leave `<name>_prior_loc` and `<name>_prior_rho` out.

    A posterior of points (Deterministic) is refused: with n weights their best tau is scale exp(-n spread^2), at which
    they vanish.

    When: few weights a tensor, or which inputs matter (each="input").
    Cost: 2 numbers a tensor or an input; exact KL to Gaussians.

    Args:
        scale: median of tau, above 0.
        spread: standard deviation of log tau, above 0; 1: tau is within a factor of 7 of `scale` with 95 %.
        each: "tensor": one tau a tensor; "input": one a row of a kernel (all axes but the last), so that inputs that do
            not matter are found and their weights shrink (automatic relevance determination). A bias has one.

    Raises:
        InvalidInput: for arguments out of range; from the layer, where the tensor's posterior is a point.

    Example:
        >>> tfbnn.layers.DenseFlipout(10, kernel_prior_fn=tfbnn.priors.HierarchicalNormal(each="input"))

    Reference: Neal 1996, "Bayesian Learning for Neural Networks"; MacKay 1994, "Bayesian Non-linear Modelling for the
    Prediction Competition" (a scale an input).
    """

    has_learned_scale = True

    def __init__(self, scale: float = 0.3, spread: float = 1.0, each: str = "tensor"):
        self.scale = positive_number("scale", scale)
        self.spread = positive_number("spread", spread)
        self.each = one_of("each", each, EACH)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """Adds `<name>_prior_loc` (m) and `<name>_prior_rho` (s = softplus(rho)), of one entry a tau."""
        own = shape_of_each(self.each, shape)
        weights = np.prod(shape) / np.prod(own)
        begin = {"loc": math.log(self.scale), "rho": inverse_positive(best_stddev(weights, self.spread))}
        loc, rho = (
            layer.add_weight(
                name=f"{name}_prior_{part}",
                shape=own,
                initializer=keras.initializers.Constant(value),
                dtype="float32",
                autocast=False,
            )
            for part, value in begin.items()
        )
        return _HierarchicalNormalWeightPrior((math.log(self.scale), self.spread), loc, rho, tuple(shape))


def best_stddev(weights: float, spread: float) -> float:
    """s that makes the KL least for a tau of so many weights, where m is the hyper-prior's."""
    return float((2.0 * weights + spread**-2) ** -0.5)


class HierarchicalNormalTensor(tfd.Distribution):
    """Of Gaussian weights, their scale being unknown: what the ELBO needs of log p(w, tau), for any q(w).

    log_prob(w) = E_q(tau)[log Normal(w; 0, tau^2)] - KL(q(tau) || p(tau)), a lower bound of log p(w), best at the
    q(tau) that fits w. Draws are of w under q(tau).

    Args:
        shape: of the tensor.
        loc, scale: m and s of q(log tau) = Normal(m, s^2), float32 that broadcast to `shape`.
        prior_loc, prior_scale: of p(log tau).
        kept: bool of `shape`, weights that are left, which alone count; None: all.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        loc: tf.Tensor,
        scale: tf.Tensor,
        prior_loc: float,
        prior_scale: float,
        kept: tf.Tensor | None = None,
    ):
        parameters = dict(locals())
        self._tensor_shape = tf.TensorShape(shape)
        self.log_tau = tfd.Normal(loc, scale)
        self.log_tau_prior = tfd.Normal(prior_loc, prior_scale)
        self.kept = kept
        super().__init__(dtype=tf.float32, reparameterization_type=tfd.FULLY_REPARAMETERIZED, validate_args=False,
                         allow_nan_stats=True, parameters=parameters)  # fmt: skip

    def of_kept(self, kept: tf.Tensor) -> HierarchicalNormalTensor:
        """The same prior, for the weights that are left alone."""
        return self.copy(kept=kept)

    def expected_log_prob(self, squares: tf.Tensor) -> tf.Tensor:
        """As `log_prob`, in the mean over weights of which E[w^2] is known: `squares`, [..., *shape]."""
        m, s = self.log_tau.loc, self.log_tau.scale
        each = -0.5 * squares * tf.exp(2.0 * (tf.square(s) - m)) - m - 0.5 * math.log(2.0 * math.pi)
        each = each if self.kept is None else tf.where(self.kept, each, 0.0)
        of_weights = tf.reduce_sum(each, axis=list(range(-len(self._tensor_shape), 0)))
        return of_weights - tf.reduce_sum(tfd.kl_divergence(self.log_tau, self.log_tau_prior))

    def _log_prob(self, w):
        return self.expected_log_prob(tf.square(w))

    def _sample_n(self, n, seed=None):
        of_tau, of_weights = tfp.random.split_seed(seed, n=2)
        tau = tf.exp(self.log_tau.sample(n, seed=of_tau))
        return tau * tf.random.stateless_normal([n, *self._tensor_shape], of_weights)

    def _event_shape(self):
        return self._tensor_shape

    def _batch_shape(self):
        return tf.TensorShape([])


@tfd.RegisterKL(tfd.Distribution, HierarchicalNormalTensor)
def _(q: Any, p: HierarchicalNormalTensor, name: str | None = None) -> tf.Tensor:
    """-H(q) - E_q[log p(w, tau)], of any q whose TFP class knows its entropy, mean and variance."""
    return -q.entropy() - p.expected_log_prob(tf.square(q.mean()) + q.variance())
