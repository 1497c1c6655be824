"""The protocol of surrogate posteriors q(w)."""

from __future__ import annotations

import abc
import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import invalid
from tfbnn.core.noise import Noise
from tfbnn.core.positive import positive
from tfbnn.core.serialization import Configurable

INITIAL_RHO = -4.0  # softplus(-4) = 0.018: little noise at first, so that the means can find their place


class WeightPosterior(abc.ABC):
    """q(w) of one tensor of one layer; its variables are float32 weights of that layer.

    Attributes:
        name: of the tensor ("kernel").
        shape: of the tensor.
        is_point: whether all mass is on one value.
        has_spike: whether a weight may be exactly 0 in one draw and not in another, so that q has no density.
    """

    is_point = False
    has_spike = False

    def __init__(self, name: str, shape: tuple[int, ...]):
        self.name = name
        self.shape = tuple(shape)

    @abc.abstractmethod
    def distribution(self) -> Any:
        """The `tfd` distribution over tensors of `shape`, made anew so that it follows its variables."""

    @abc.abstractmethod
    def sample(self, noise: Noise) -> tf.Tensor:
        """One draw of the tensor, float32 of `shape`."""

    @property
    def factorised_gaussian(self) -> tuple[tf.Tensor, tf.Tensor] | None:
        """(loc, scale), each float32 of `shape`, where q is an independent Gaussian a weight; else None."""
        return None

    @property
    def kept(self) -> tf.Tensor | None:
        """bool of `shape`: weights that are left; the others are 0 for certain and have no KL. None: all are left."""
        return None


class GaussianWeightPosterior(WeightPosterior):
    """A family with a map from standard normals to weights."""

    @abc.abstractmethod
    def parameters(self) -> Any:
        """What `transform` needs, computed from the variables; the same for all draws."""

    @abc.abstractmethod
    def transform(self, eps: tf.Tensor, parameters: Any = None) -> tf.Tensor:
        """Noise -> weights: standard normals of `shape` -> a draw of q, of `shape`."""

    def sample(self, noise: Noise) -> tf.Tensor:
        """w = T(eps), eps ~ Normal(0, 1)."""
        parameters = noise.shared(f"{self.name}/parameters", self.parameters)
        return self.transform(noise.normal(self.name, self.shape), parameters)


class CholeskyWeightPosterior(GaussianWeightPosterior):
    """Gaussian weights of covariance L L^T: means `loc`; L of `rho` [..., n] and `correlation` [..., n, n]."""

    def __init__(
        self, name: str, shape: tuple[int, ...], loc: keras.Variable, rho: keras.Variable, correlation: keras.Variable
    ):
        super().__init__(name, shape)
        self.loc = loc
        self.rho = rho
        self.correlation = correlation

    def parameters(self):
        """(loc of `shape`, L [..., n, n])."""
        return tf.convert_to_tensor(self.loc.value), cholesky_factor(self.rho.value, self.correlation.value)


class Posterior(Configurable, abc.ABC):
    """A factory: its constructor's arguments say what the family is, `build` makes q(w) for one tensor."""

    @abc.abstractmethod
    def build(
        self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...], loc_initializer: Any = "glorot_uniform"
    ) -> WeightPosterior:
        """Adds the variables of tensor `name` to `layer`.

        Args:
            layer: who owns the variables.
            name: of the tensor; variables are `<name>_loc`, `<name>_rho`.
            shape: of the tensor.
            loc_initializer: where the means begin, unless the factory says it itself.
        """


def add_variable(layer: keras.layers.Layer, name: str, shape: tuple[int, ...], initializer: Any) -> keras.Variable:
    """A float32 weight of `layer` that mixed precision never casts."""
    return layer.add_weight(
        name=name, shape=shape, initializer=keras.initializers.get(initializer), dtype="float32", autocast=False
    )


def cholesky_factor(rho: tf.Tensor, correlation: tf.Tensor) -> tf.Tensor:
    """L = diag(softplus(rho)) (I + T), T the strictly lower triangle of `correlation`: [..., n] and [..., n, n]."""
    unit_lower = tf.linalg.set_diag(tf.linalg.band_part(correlation, -1, 0), tf.ones_like(rho))
    return positive(rho)[..., tf.newaxis] * unit_lower


def properties_of_one_tensor(names: Sequence[str]) -> dict[str, Any]:
    """What TFP asks of its subclasses (else it warns): all axes of these parameters are of the event, one tensor."""
    return {name: tfp.util.ParameterProperties(event_ndims=functools.partial(_rank_of, name)) for name in names}


def _rank_of(name: str, distribution: Any) -> int:
    return len(distribution.parameters[name].shape)


def initializer_argument(where: str, initializer: Any) -> Any:
    """Returns None or a name as it is, and the object that a Keras config means; raises for what is no initializer."""
    try:
        found = keras.initializers.get(initializer)
    except ValueError as error:
        raise invalid(where, "a Keras initializer, its name, or None", initializer) from error
    return initializer if initializer is None or isinstance(initializer, str) else found
