"""A posterior of any form: Gaussian noise, bent by invertible maps."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfbnn.core.checks import factory_argument, finite_number, invalid, positive_integer, positive_number
from tfbnn.core.positive import positive
from tfbnn.core.serialization import register
from tfbnn.posteriors.base import (
    INITIAL_RHO,
    GaussianWeightPosterior,
    Posterior,
    add_variable,
    initializer_argument,
)

MAX_WEIGHTS = 4096  # with the defaults 1.6 million numbers, a layer of 64 x 64 weights
LARGEST_LOG_SCALE = 2.0  # of one map: it stretches by a factor of 7.4 at most, so that training cannot run away


class _FlowWeight(GaussianWeightPosterior):
    def __init__(self, name, shape, loc, rho, networks: list[list[keras.Variable]]):
        super().__init__(name, shape)
        self.loc = loc
        self.rho = rho
        self.networks = networks

    def parameters(self):
        """(loc and scale of `shape`, the four tensors of each coupling's network)."""
        networks = [[tf.convert_to_tensor(part.value) for part in network] for network in self.networks]
        return tf.convert_to_tensor(self.loc.value), positive(self.rho.value), networks

    def transform(self, eps, parameters=None):
        loc, scale, networks = parameters or self.parameters()
        return loc + scale * tf.reshape(bent(_flat(eps, len(self.shape)), networks), tf.shape(eps))

    def distribution(self):
        return FlowNormal(*self.parameters())


def _flat(tensors: tf.Tensor, rank: int) -> tf.Tensor:
    """[..., *shape of `rank` axes] -> [..., n]."""
    before = len(tensors.shape) - rank
    return tf.reshape(tensors, [*tf.unstack(tf.shape(tensors)[:before]), math.prod(tensors.shape[before:])])


# --- couplings --------------------------------------------------------------------------------------------------------


def bent(x: tf.Tensor, networks: Sequence[Any]) -> tf.Tensor:
    """T: in turn each coupling, which moves the second half of the entries by what it computes from the first.

    Args:
        x: [..., n].
        networks: of each coupling, kernel [n // 2, hidden], bias, kernel [hidden, 2 (n - n // 2)], bias.

    Returns:
        [..., n].
    """
    into, back = orders(x.shape[-1], len(networks))
    for network, order in zip(networks, into, strict=True):
        x = tf.gather(x, order, axis=-1)
        stays = x[..., : x.shape[-1] // 2]
        shift, log_scale = _shift_and_log_scale(stays, network)
        x = tf.concat([stays, shift + tf.exp(log_scale) * x[..., x.shape[-1] // 2 :]], axis=-1)
    return tf.gather(x, back, axis=-1)


def straightened(x: tf.Tensor, networks: Sequence[Any]) -> tuple[tf.Tensor, tf.Tensor]:
    """T^-1 (x), and the log of the volume by which T stretches there, [...]."""
    into, back = orders(x.shape[-1], len(networks))
    x, log_volume = tf.gather(x, np.argsort(back), axis=-1), tf.zeros(tf.shape(x)[:-1])
    for network, order in zip(reversed(networks), reversed(into), strict=True):
        stays = x[..., : x.shape[-1] // 2]
        shift, log_scale = _shift_and_log_scale(stays, network)
        x = tf.concat([stays, (x[..., x.shape[-1] // 2 :] - shift) * tf.exp(-log_scale)], axis=-1)
        x, log_volume = tf.gather(x, np.argsort(order), axis=-1), log_volume + tf.reduce_sum(log_scale, axis=-1)
    return x, log_volume


def _shift_and_log_scale(x: tf.Tensor, network: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    kernel, bias, out_kernel, out_bias = network
    hidden = tf.tanh(tf.tensordot(x, kernel, 1) + bias)
    shift, log_scale = tf.split(tf.tensordot(hidden, out_kernel, 1) + out_bias, 2, axis=-1)
    return shift, LARGEST_LOG_SCALE * tf.tanh(log_scale / LARGEST_LOG_SCALE)


def orders(n: int, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """How the entries are reordered before each coupling, and back after the last.

    Of a pair of couplings the second has the entries the other way round, so that all move; each pair mixes them anew.
    """
    into = [np.random.default_rng(k).permutation(n) if k % 2 == 0 else np.arange(n)[::-1] for k in range(count)]
    together = np.arange(n)
    for order in into:
        together = together[order]
    return into, np.argsort(together)


class FlowNormal(tfd.Distribution):
    """The law of w = loc + scale T(eps), eps ~ Normal(0, I), over tensors.

        log q(w) = log Normal(eps; 0, I) - sum log scale - log |det dT / d eps|,   eps = T^-1((w - loc) / scale)

    Args:
        loc, scale: float32 of the tensor's shape.
        networks: of T's couplings.
    """

    def __init__(self, loc: tf.Tensor, scale: tf.Tensor, networks: Sequence[Any]):
        parameters = dict(locals())
        self.flow = loc, scale, networks
        super().__init__(dtype=loc.dtype, reparameterization_type=tfd.FULLY_REPARAMETERIZED, validate_args=False,
                         allow_nan_stats=True, parameters=parameters)  # fmt: skip

    def _event_shape(self):
        return self.flow[0].shape

    def _batch_shape(self):
        return tf.TensorShape([])

    def _sample_n(self, n, seed=None):
        loc, scale, networks = self.flow
        eps = tf.random.stateless_normal([n, loc.shape.num_elements()], seed)
        return loc + scale * tf.reshape(bent(eps, networks), [n, *loc.shape])

    def _log_prob(self, w):
        loc, scale, networks = self.flow
        eps, log_volume = straightened(_flat((w - loc) / scale, len(loc.shape)), networks)
        log_normal = -0.5 * (tf.square(eps) + math.log(2.0 * math.pi))
        return tf.reduce_sum(log_normal, axis=-1) - tf.reduce_sum(tf.math.log(scale)) - log_volume


@register
class NormalizingFlow(Posterior):
    """w = loc + scale T(eps), eps ~ Normal(0, I): T, a chain of `num_flows` couplings, bends the noise of a tensor.

    It represents correlations, curved ridges, skewness and tails among all n weights of a tensor, better with every
    flow and hidden unit, and begins nearly as MeanField. It costs, a flow, 3/2 n `hidden` numbers and
    two small matrix products a draw; the KL is Monte Carlo, one draw a step. For small tensors: the last layer of a
    network, a table's few inputs. One weight alone is Gaussian.

    A coupling halves the entries, in an order of its own: the first half stays, and by a network with one hidden layer
    of tanh it shifts and stretches the second. Unlike in an autoregressive flow its inverse is as cheap as itself, so
    that log q(w) is known of every w.

    When: skewed or curved posteriors of few weights.
    Cost: num_flows networks over n weights, 4,096 at most; a Monte Carlo KL.

    Args:
        num_flows: couplings; two for every entry to be moved by others.
        hidden: units of each coupling's network.
        loc_initializer: Keras initializer of loc; None: what the layer suggests.
        initial_rho: where rho begins; scale = softplus(rho).
        initial_weight: standard deviation of the last weights of the couplings' networks at first, above 0: at 0 the
            others had no gradient.

    Raises:
        InvalidInput: for arguments out of range, and at build for more than 4,096 weights in a tensor.

    Example:
        >>> tfbnn.layers.DenseReparameterization(1, kernel_posterior_fn=tfbnn.posteriors.NormalizingFlow(num_flows=4))

    Reference: Rezende & Mohamed 2015, "Variational Inference with Normalizing Flows"; Dinh, Sohl-Dickstein & Bengio
    2017, "Density Estimation using Real NVP" (the couplings).
    """

    def __init__(
        self,
        num_flows: int = 4,
        hidden: int = 32,
        loc_initializer: Any = None,
        initial_rho: float = INITIAL_RHO,
        initial_weight: float = 0.01,
    ):
        self.num_flows = positive_integer("num_flows", num_flows)
        self.hidden = positive_integer("hidden", hidden)
        self.loc_initializer = initializer_argument("loc_initializer", loc_initializer)
        self.initial_rho = finite_number("initial_rho", initial_rho)
        self.initial_weight = positive_number("initial_weight", initial_weight)

    def build(self, layer, name, shape, loc_initializer="glorot_uniform") -> GaussianWeightPosterior:
        """Adds `<name>_loc` and `<name>_rho` of `shape`, and four variables a flow, `<name>_flow_0_kernel` ..."""
        n = int(np.prod(shape))
        _check_size(factory_argument(layer, name, "posterior"), n)
        loc = add_variable(layer, f"{name}_loc", shape, self.loc_initializer or loc_initializer)
        rho = add_variable(layer, f"{name}_rho", shape, keras.initializers.Constant(self.initial_rho))
        networks = [self._add_network(layer, f"{name}_flow_{k}", n) for k in range(self.num_flows if n > 1 else 0)]
        return _FlowWeight(name, shape, loc, rho, networks)

    def _add_network(self, layer: keras.layers.Layer, name: str, n: int) -> list[keras.Variable]:
        """Kernel [n // 2, hidden] and bias, then kernel [hidden, 2 (n - n // 2)] and bias."""
        stays, moves = n // 2, n - n // 2
        seed = getattr(layer, "seed", None)

        def add(part: str, shape: tuple[int, ...], stddev: float) -> keras.Variable:
            own = None if seed is None else (seed + zlib.crc32(f"{name}/{part}".encode())) % 2**31
            normal = keras.initializers.RandomNormal(stddev=stddev, seed=own) if stddev else "zeros"
            return add_variable(layer, f"{name}_{part}", shape, normal)

        return [
            add("kernel", (stays, self.hidden), stays**-0.5),
            add("bias", (self.hidden,), 1.0),  # at 0 the network would be odd, and a parabola far away
            add("out_kernel", (self.hidden, 2 * moves), self.initial_weight),
            add("out_bias", (2 * moves,), 0.0),
        ]


def _check_size(where: str, n: int) -> None:
    if n > MAX_WEIGHTS:
        raise invalid(
            where,
            f"a tensor of {MAX_WEIGHTS:,} weights at most, because every flow has a network over all of them",
            f"NormalizingFlow over {n:,} weights",
            "Use it in the last layer alone; here LowRank, which has correlations too, or MeanField.",
        )
