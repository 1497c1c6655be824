"""Prediction without draws of the weights: the moments of a dense network's outputs, and points of their Gaussian."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import InvalidInput, invalid, one_of
from tfbnn.core.noise import Noise, bits_of_block, noise_scope, seed_of_tensor, standard_normal
from tfbnn.core.serialization import register
from tfbnn.core.traversal import sublayers
from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.dense import DenseFlipout, DenseLocalReparameterization, DenseReparameterization, DenseVariational
from tfbnn.layers.dropout import ConcreteDropout, MCDropout
from tfbnn.layers.rank_one import BatchEnsemble
from tfbnn.prediction.chain import chain_of, run
from tfbnn.prediction.gaussian_draws import symmetric_root
from tfbnn.prediction.jacobians import NUMBERS_AT_ONCE, in_parts
from tfbnn.prediction.moments import DenseWeights, Moments, dense, relu
from tfbnn.prediction.monte_carlo import Blocks, NetworkDraws

COVARIANCES = ("full", "diagonal")
OUTPUT_NOISE = -4  # in place of a layer's index, which the layers' own noise has
_DENSE = (DenseFlipout, DenseLocalReparameterization, DenseReparameterization, DenseVariational, keras.layers.Dense)
_ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU)
_AS_THEY_ARE = (
    keras.layers.ActivityRegularization, keras.layers.AlphaDropout, keras.layers.Dropout, keras.layers.Flatten,
    keras.layers.GaussianDropout, keras.layers.GaussianNoise, keras.layers.Identity, keras.layers.InputLayer,
)  # fmt: skip
_MEND = "Take method='sampling', which takes every network."


@register
class MomentDraws(NetworkDraws):
    """Endless points of Normal(m(x), V(x)), the moments of a dense network's outputs: no weight is drawn.

    Mean and covariance of the units pass through the network layer by layer: exactly where it is linear, and through
    ReLU as if its inputs were normal (see `tfbnn.prediction.moments`). Point s of a row's outputs is
    f_s(x) = m(x) + V(x)^(1/2) z_s, z_s a function of the seed and s alone. More points take away the error of averages
    over them, not that of the approximation, which `Prediction.mc_error` does not tell.

    A network is a chain: layers that are the same in all draws, of any kind; then dense layers of factorised Gaussian
    posteriors or of points with ReLU or without activation, of which the last has none; and between them `Flatten` and
    Keras' dropout, which predicts without masks.

    When: dense ReLU networks, where the answer shall not depend on chance, or many points are wanted at little cost.
    Cost: "diagonal" three products of a layer instead of S; "full" some U of a layer of U units, from the second on.

    Args:
        network: built.
        likelihood: turns its outputs into parameters.
        covariance: "full": covariances between units are kept; "diagonal": those between hidden units are dropped in
            front of each ReLU.
        seed: used where none is given.
        sequence: how the points go together: of `NetworkDraws`.

    Raises:
        InvalidInput: where the network has a layer whose moments are not known; it is named.

    Example:
        >>> draws = model.posterior_draws(method="moments")
        >>> draws.predict_distribution(x_test).stddev

    Reference: Wu et al. 2019, "Deterministic Variational Inference for Robust Bayesian Neural Networks".
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: keras.layers.Layer,
        covariance: str = "full",
        seed: int = 0,
        sequence: str = "sobol",
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, seed, sequence, **kwargs)
        self.covariance = one_of("covariance", covariance, COVARIANCES)
        self.metadata = {"prediction": "moments", "covariance": covariance}  # in a report `method` is of inference
        # Past Keras' tracking, which would save the network's weights twice.
        self.__dict__["_trunk"], self.__dict__["_steps"] = _split(network)

    def output_moments(self, x: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """m(x) [B, P] and V(x) [B, P, P], float32, of rows x."""
        with noise_scope(_NoNoise()):
            h = run(self._trunk, tf.cast(keras.tree.flatten(x)[0], self.network.inputs[0].dtype))
        h = tf.cast(h, tf.float32)
        if len(h.shape) != 2:
            raise _refused(self._steps[0].layer if self._steps else self._trunk[-1], "rows [B, D]", list(h.shape))
        if not self._steps:
            f = self.likelihood.check_outputs(h)
            return f, Moments(f).full_covariance()
        both = in_parts(self._through_steps, h, self._rows_at_once())
        return self.likelihood.check_outputs(both[..., 0]), both[..., 1:]

    def _through_steps(self, h: tf.Tensor) -> tf.Tensor:
        """Mean and covariance of the outputs side by side, [B, P, 1 + P]."""
        moments = Moments(h)
        for step in self._steps:
            y = dense(moments, step.weights(), joint=self.covariance == "full" or not step.has_relu)
            moments = relu(y) if step.has_relu else y
        return tf.concat([moments.mean[..., tf.newaxis], moments.full_covariance()], axis=-1)

    def _rows_at_once(self) -> int:
        """So many that the covariances of the widest layer are no more than `NUMBERS_AT_ONCE`."""
        if self.covariance == "diagonal":
            return NUMBERS_AT_ONCE
        return max(1, NUMBERS_AT_ONCE // max(step.layer.units for step in self._steps) ** 2)

    def _blocks(self, x, seed, coupling):
        if coupling == "coherent":
            expected = "'marginal' of method 'moments', which knows the law of each row alone"
            raise invalid("coupling", expected, coupling, "Take method='sampling', whose draws join rows.")
        mean, covariance = self.output_moments(x)
        root, own = symmetric_root(covariance), seed_of_tensor(seed, OUTPUT_NOISE, "outputs")

        def points(block, _):
            z = standard_normal(bits_of_block([self.likelihood.num_outputs], own, block, self.sequence))
            return self._complete_draws(mean + tf.einsum("bpq,sq->sbp", root, z))

        return Blocks(points)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "covariance": self.covariance, "sequence": self.sequence}


@dataclasses.dataclass(frozen=True)
class _Step:
    """h -> h W + b, or relu(h W + b)."""

    layer: Any
    has_relu: bool

    def weights(self) -> DenseWeights:
        """The present means and variances of the layer's weights."""
        (m, s), *of_bias = _gaussians(self.layer)
        if not self.layer.use_bias:
            zero = tf.zeros([self.layer.units])
            return DenseWeights(m, tf.square(s), zero, zero)
        if not of_bias:  # in one tensor
            return DenseWeights(m[:-1], tf.square(s[:-1]), m[-1], tf.square(s[-1]))
        return DenseWeights(m, tf.square(s), of_bias[0][0], tf.square(of_bias[0][1]))


def _gaussians(layer: Any) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Means and standard deviations of each tensor of a dense layer."""
    if isinstance(layer, VariationalLayer):
        return [q.factorised_gaussian for q in layer.weight_posteriors]  # type: ignore[misc]
    values = [layer.kernel, *([layer.bias] if layer.use_bias else [])]
    values = [tf.cast(tf.convert_to_tensor(value), tf.float32) for value in values]
    return [(value, tf.zeros_like(value)) for value in values]


def _all_layers(network: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a chain, those of chains inside it among them."""
    found = _inside(network)
    if not found:
        expected = "a built network that is a chain of layers, sequential or functional, with one input"
        raise invalid("network", expected, network.name, _MEND)
    for i, layer in enumerate(found):
        if layer in found[:i]:
            raise _refused(layer, "layers that are called once, because the same weights join all calls", "two calls")
    return found


def _inside(network: keras.Model) -> list[keras.layers.Layer]:
    parts = [(layer, _inside(layer) if isinstance(layer, keras.Model) else []) for layer in chain_of(network)]
    return [each for layer, inside in parts for each in (inside or [layer])]


def _is_random(layer: keras.layers.Layer) -> bool:
    """Whether draws differ behind it, as far as its class tells."""
    return any(
        isinstance(part, MCDropout | ConcreteDropout | BatchEnsemble)
        or (isinstance(part, VariationalLayer) and not all(q.is_point for q in part.weight_posteriors))
        for part in sublayers(layer)
    )


def _split(network: keras.Model) -> tuple[list[keras.layers.Layer], list[_Step]]:
    """The layers in front of the first noise, and the steps from there on."""
    layers = _all_layers(network)
    first = next((i for i, layer in enumerate(layers) if _is_random(layer)), len(layers))
    steps: list[_Step] = []
    for layer in layers[first:]:
        if _is_dense(layer):
            steps.append(_Step(layer, _has_relu(layer)))
        elif steps and type(layer) in _ACTIVATIONS:
            steps[-1] = _Step(steps[-1].layer, _has_relu(layer) or steps[-1].has_relu)
        elif type(layer) not in _AS_THEY_ARE:
            raise _refused(layer, "dense layers with ReLU or none, Flatten and Dropout behind the first noise", layer)
    if steps and steps[-1].has_relu:
        raise _refused(layers[-1], "a last layer without activation, whose outputs are near a normal law", "relu")
    return layers[:first], steps


def _is_dense(layer: Any) -> bool:
    """Whether it is a dense layer of known moments; raises where it is one whose posterior has none."""
    if type(layer) not in _DENSE or getattr(layer, "quantization_mode", None):
        return False
    for q in layer.weight_posteriors if isinstance(layer, VariationalLayer) else ():
        if q.factorised_gaussian is None:
            family = type(q.distribution()).__name__
            raise _refused(layer, f"a factorised Gaussian posterior (MeanField) of {q.name}", family)
    return True


def _has_relu(layer: Any) -> bool:
    """Whether the activation of a layer is ReLU; raises where it is neither that nor none."""
    if type(layer) is keras.layers.ReLU:
        is_plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
        if not is_plain:
            raise _refused(layer, "a ReLU without a limit, slope or threshold", layer.get_config())
        return True
    if layer.activation not in (keras.activations.relu, keras.activations.linear):
        raise _refused(layer, "activation 'relu' or none", keras.activations.serialize(layer.activation))
    return layer.activation is keras.activations.relu


def _refused(layer: keras.layers.Layer, expected: str, received: Any) -> InvalidInput:
    received = type(received).__name__ if isinstance(received, keras.layers.Layer) else received
    return invalid(f"layer {layer.name}", f"for method 'moments' {expected}", received, _MEND)


class _NoNoise(Noise):
    """The source, and the noise, of layers that must not be random: who asks for some is refused."""

    coupling = "marginal"

    def __init__(self, layer: keras.layers.Layer | None = None):
        self.layer = layer

    def for_layer(self, layer: keras.layers.Layer) -> _NoNoise:
        """Of one layer."""
        return _NoNoise(layer)

    def normal(self, name, shape):
        """Refused."""
        raise _refused(self.layer, "no noise but that of dense layers", self.layer)

    def uniform(self, name, shape):
        """Refused."""
        return self.normal(name, shape)

    def sample(self, name, distribution):
        """Refused."""
        return self.normal(name, ())

    def member(self, count, inputs):
        """Refused."""
        return self.normal("member", ())
