"""The variational last layer: the outputs of a network have a Gaussian law in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import estimators, posteriors, priors
from tfbnn.core.checks import finite_number, invalid, one_of, positive_integer
from tfbnn.core.noise import Noise
from tfbnn.core.serialization import register
from tfbnn.layers.base import VariationalLayer, same_for_all_draws, tell_moments
from tfbnn.posteriors.base import INITIAL_RHO

POSTERIORS = {"full": posteriors.UnitCovariance, "diagonal": posteriors.MeanField}


def linear(x: Sequence[tf.Tensor], w: Sequence[tf.Tensor]) -> tf.Tensor:
    """The op: features [B, D + 1], the last of them 1, times weights [D + 1, U]."""
    return tf.matmul(x[0], tf.cast(w[0], x[0].dtype))


def _with_ones(x: tf.Tensor) -> tf.Tensor:
    """[B, D] -> [B, D + 1], the last column 1."""
    return tf.concat([x, tf.ones_like(x[:, :1])], axis=1)  # tf.vectorized_map would pad with 0, whatever it is told


@register
class VariationalLastLayer(VariationalLayer):
    """f_u(x) = a^T w_u ~ Normal(a^T m_u, a^T S_u a), a = [features of x, 1]: a last layer whose outputs' law is known.

    For a big net that is Bayesian at its end alone: the trunk runs once for all draws, and training draws nothing.
    Under `BayesianModel` the likelihoods Normal, Bernoulli and Categorical take E_q[log p(y|f)] from the moments in
    closed form (of classes a bound from below, by Jensen's inequality); other likelihoods, and other bounds than the
    ELBO, one draw of f a row.

    When: a big net whose trunk is to stay as it is; smooth training.
    Cost: (D + 1)^2 numbers an output, or 2 (D + 1) with "diagonal"; one trunk for all draws.

    Args:
        units: U, number of outputs; it has no activation, and its outputs are those of the network.
        covariance: "full": S_u over all weights of unit u, (D + 1)^2 numbers a unit; "diagonal": one a weight.
        prior_fn: p of the weights [D + 1, U], the last row being the bias: a `tfbnn.priors` object or name.
        initial_rho: where the diagonal of each factor of S_u begins, softplus(initial_rho).
        kl_weight, seed: as in `DenseReparameterization`.

    Inputs: features [B, D]. Outputs: [B, U].

    Raises:
        InvalidInput: for an unknown covariance, and features that are no rows [B, D].

    Example:
        >>> network = keras.Sequential([trunk, tfbnn.layers.VariationalLastLayer(10)])

    Reference: Harrison, Willes & Snoek 2024, "Variational Bayesian Last Layers", sections 3.1 and 3.2. The scale of the
    noise is the likelihood's point estimate, where theirs has a prior.
    """

    estimator = staticmethod(estimators.local_reparameterization)
    factory_argument = "{kind}_fn"

    def __init__(
        self,
        units: int,
        covariance: str = "full",
        prior_fn: Any = "Normal",
        initial_rho: float = INITIAL_RHO,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.covariance = one_of("covariance", covariance, POSTERIORS)
        self.prior_fn = priors.get(prior_fn)
        self.initial_rho = finite_number("initial_rho", initial_rho)

    def build(self, input_shape):
        """Adds the variables of the weights [D + 1, U]."""
        if len(input_shape) != 2 or input_shape[-1] is None:
            mend = "Put Flatten or a global pooling before it."
            raise invalid("inputs", "features [B, D] of known D", tuple(input_shape), mend)
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: input_shape[-1]})
        posterior = POSTERIORS[self.covariance](initial_rho=self.initial_rho)
        shape = (input_shape[-1] + 1, self.units)
        self.add_term("weights", shape, posterior, self.prior_fn, None, keras.initializers.GlorotUniform(self.seed))
        self.built = True

    def call(self, inputs, training=None):
        """[B, D] -> [B, U], one draw."""
        noise = self._noise()
        self._settle_kl(noise, bool(training))
        self._tell_log_ratio(noise)
        if noise.coupling is None:
            self._refuse_second_call(noise)
        a = same_for_all_draws(noise, [_with_ones(tf.cast(inputs, self.compute_dtype))])
        if noise.coupling == "coherent":
            return estimators.reparameterization(linear, a, self.weight_posteriors, noise)
        mean, variance = noise.shared("outputs", lambda: self.output_moments(a[0], noise), of=a)
        outputs = tf.cast(noise.normal_around("outputs", mean, tf.sqrt(variance)), self.compute_dtype)
        tell_moments(outputs, mean, variance)
        return outputs

    def output_moments(self, a: tf.Tensor, noise: Noise) -> tuple[tf.Tensor, tf.Tensor]:
        """a^T m_u and a^T S_u a of features with a last column of ones, [B, D + 1]: each float32 [B, U]."""
        (q,) = self.weight_posteriors
        a = tf.cast(a, tf.float32)
        if q.factorised_gaussian is not None:
            loc, scale = q.factorised_gaussian
            variance = tf.matmul(tf.square(a), tf.square(scale))
        else:
            loc, L = noise.shared("parameters", q.parameters)  # type: ignore[attr-defined]
            variance = tf.reduce_sum(tf.square(tf.einsum("bi,uij->buj", a, L)), axis=-1)
        return tf.matmul(a, loc), tf.maximum(variance, estimators.TINY)

    def compute_output_shape(self, input_shape):
        """[B, D] -> [B, U]."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "covariance": self.covariance,
            "prior_fn": priors.serialize(self.prior_fn),
            "initial_rho": self.initial_rho,
        }
