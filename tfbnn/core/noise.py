"""Noise is data: the one maker of a network's randomness.

A stochastic layer asks `noise_for(self)` and is given the noise of the current source, or, where no source is set
(training), that of its own generator. Who wants the same network with other noise sets a source around the call:

    with noise_scope(source):
        network(x)

Sources: `Generated` (a layer's `SeedGenerator`), `Seeded` (a stateless seed), `Plan` (finds out what a network asks
for) and `Tape` (noise that was drawn before: one draw of many, or a test's own numbers).

In prediction, draw i of a tensor is defined by (seed, index of the layer, name of the tensor, i) alone: blocks of
`DRAWS_PER_BLOCK` draws are made from int32 bits, which neither XLA nor a GPU changes.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import invalid, one_of, whole_number

DRAWS_PER_BLOCK = 10
_LOW_31_BITS = 0x7FFFFFFF
COUPLINGS = ("marginal", "coherent")


class Noise(abc.ABC):
    """What one layer draws from during one call.

    Attributes:
        coupling: None in training (the layer's own estimator decides how rows share noise); "marginal" where only
            the distribution of each row alone matters; "coherent" where one weight draw must serve all rows.
    """

    coupling: str | None = None

    @abc.abstractmethod
    def normal(self, name: str, shape: Any) -> tf.Tensor:
        """Standard normals, float32 of `shape`, for the tensor `name`."""

    @abc.abstractmethod
    def uniform(self, name: str, shape: Any) -> tf.Tensor:
        """Uniforms on (0, 1), float32 of `shape`."""

    @abc.abstractmethod
    def sample(self, name: str, distribution: Any) -> tf.Tensor:
        """One sample of a `tfd` distribution that has no noise -> sample map of its own."""

    def rademacher(self, name: str, shape: Any) -> tf.Tensor:
        """Signs, -1 or +1 with equal probability, float32 of `shape`."""
        return tf.where(self.uniform(name, shape) < 0.5, -1.0, 1.0)

    def normal_per_row(self, name: str, outputs: tf.Tensor) -> tf.Tensor:
        """Standard normals for `outputs` [B, ...]: fresh ones a row in training, one [1, ...] for all in prediction."""
        if self.coupling is None:
            return self.normal(name, tf.shape(outputs))
        return self.normal(name, [1, *outputs.shape[1:]])

    def shared(self, name: str, compute: Callable[[], Any]) -> Any:
        """`compute()`, done once for all draws where many draws are made; it must not depend on noise."""
        return compute()


_SOURCE: ContextVar[Any] = ContextVar("tfbnn_noise_source", default=None)


@contextlib.contextmanager
def noise_scope(source: Any) -> Iterator[None]:
    """Layers called inside draw from `source`, an object with `for_layer(layer) -> Noise`."""
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)


def noise_for(layer: keras.layers.Layer, generator: keras.random.SeedGenerator) -> Noise:
    """The noise that `layer` shall use now: the current source's, else its own generator's."""
    source = _SOURCE.get()
    return Generated(generator) if source is None else source.for_layer(layer)


# --- seeds ------------------------------------------------------------------------------------------------------------


def seed_pair(seed: Any) -> tf.Tensor:
    """An int32 scalar seed -> the [2] seed of TensorFlow's stateless functions: (its sign bit, its other 31 bits)."""
    seed = tf.cast(seed, tf.int32)
    return tf.stack([tf.cast(seed < 0, tf.int32), tf.bitwise.bitwise_and(seed, _LOW_31_BITS)])


def fold_in(seed: tf.Tensor, data: Any) -> tf.Tensor:
    """As `tf.random.fold_in`, for int32 [2] and a whole number of 0 or more, the same under XLA.

    XLA draws other numbers than the kernels do from a seed with a negative word: words stay at 0 or more.
    """
    folded = tf.random.fold_in(tf.bitwise.bitwise_and(seed, _LOW_31_BITS), data)
    return tf.bitwise.bitwise_and(folded, _LOW_31_BITS)


def seed_of_tensor(seed: tf.Tensor, layer: int, name: str) -> tf.Tensor:
    """The [2] seed of tensor `name` of layer number `layer`."""
    return fold_in(fold_in(seed, layer), zlib.crc32(name.encode()) & _LOW_31_BITS)


def check_seed(where: str, seed: Any) -> int:
    """Returns `seed` as an int; raises unless it is a whole number that int32 holds."""
    number = whole_number(seed)
    if number is None or not -(2**31) <= number < 2**31:
        raise invalid(where, "a whole number between -2^31 and 2^31 - 1", seed)
    return number


def _fold_in_replica(seed: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed
    return tf.random.fold_in(seed, tf.cast(context.replica_id_in_sync_group, tf.int32))


def uniform_from_bits(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Uniforms (k + 1/2) / 2^23, k = 0 ... 2^23 - 1: never 0 or 1, the same on every device."""
    return unit_interval(tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.int32))


def unit_interval(bits: tf.Tensor) -> tf.Tensor:
    """The upper 23 of 32 bits -> (k + 1/2) / 2^23, exact in float32."""
    signed = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.int32)), tf.float32)
    return (signed + 0.5) * 2.0**-23 + 0.5


def normal_from_bits(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Standard normals by the inverse cdf of `uniform_from_bits`; they end at 5.3 sigma."""
    return tf.math.ndtri(uniform_from_bits(shape, seed))


# --- sources ----------------------------------------------------------------------------------------------------------


class Generated(Noise):
    """Noise of the layer's own generator: another at every call, another on every replica."""

    def __init__(self, generator: keras.random.SeedGenerator):
        self._generator = generator

    def _seed(self) -> tf.Tensor:
        return _fold_in_replica(tf.cast(self._generator.next(), tf.int32))

    def normal(self, name, shape):
        return tf.random.stateless_normal(shape, self._seed())

    def uniform(self, name, shape):
        return tf.random.stateless_uniform(shape, self._seed())

    def sample(self, name, distribution):
        return distribution.sample(seed=self._seed())


class Seeded(Noise):
    """Noise fixed by a [2] seed, the layer's index and the tensor's name: the layers' own estimators, repeatable.

    Args:
        seed: int32 [2].
        layers: all layers of the network, in a fixed order.
    """

    def __init__(self, seed: tf.Tensor, layers: Sequence[keras.layers.Layer], index: int = 0):
        self._seed = seed
        self._layers = layers
        self._index = index

    def for_layer(self, layer: keras.layers.Layer) -> Seeded:
        """The noise of `layer`."""
        return Seeded(self._seed, self._layers, _index_of(layer, self._layers))

    def _seed_of(self, name: str) -> tf.Tensor:
        return seed_of_tensor(self._seed, self._index, name)

    def normal(self, name, shape):
        return normal_from_bits(shape, self._seed_of(name))

    def uniform(self, name, shape):
        return uniform_from_bits(shape, self._seed_of(name))

    def sample(self, name, distribution):
        return distribution.sample(seed=self._seed_of(name))


def _index_of(layer: keras.layers.Layer, layers: Sequence[keras.layers.Layer]) -> int:
    for index, other in enumerate(layers):
        if other is layer:
            return index
    raise invalid(
        "network",
        "a model that tracks all its layers, so that each has its own noise",
        f"a model that calls layer {layer.name} without tracking it",
        "Make the layer an attribute of the model or layer that calls it.",
    )


@dataclasses.dataclass(frozen=True)
class Request:
    """What a layer asked for: how to draw `count` independent copies of it from a [2] seed."""

    draw: Callable[[int, tf.Tensor], tf.Tensor]


class Plan:
    """Finds out, in one pass of a network, what noise its layers ask for and what all draws have in common.

    Args:
        layers: all layers of the network, in a fixed order.
        coupling: "marginal" or "coherent".
        repeated: indices of the layers that the network calls more than once; one weight draw must serve all their
            calls, so that they are coherent always.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], coupling: str, repeated: frozenset[int] = frozenset()):
        self.layers = layers
        self.coupling = one_of("coupling", coupling, COUPLINGS)
        self.repeated = repeated
        self.requests: dict[tuple[int, str], Request] = {}
        self.in_common: dict[tuple[int, str], Any] = {}
        self.calls: Counter[int] = Counter()

    @classmethod
    def of(cls, call: Callable[[], Any], layers: Sequence[keras.layers.Layer], coupling: str) -> Plan:
        """The plan of what `call()`, which runs the network, asks for; its result is not used."""
        plan = cls(layers, coupling)
        with noise_scope(plan):
            call()
        repeated = frozenset(index for index, calls in plan.calls.items() if calls > 1)
        if repeated:
            plan = cls(layers, coupling, repeated)
            with noise_scope(plan):
                call()
        return plan

    def for_layer(self, layer: keras.layers.Layer) -> Noise:
        """The noise of `layer`: remembers what is asked for and answers with a stand-in of the right shape."""
        index = _index_of(layer, self.layers)
        self.calls[index] += 1
        return _Planned(self, index)

    def coupling_of(self, index: int) -> str:
        """How layer number `index` must couple rows."""
        return "coherent" if index in self.repeated else self.coupling

    def draw_block(self, seed: tf.Tensor, block: tf.Tensor) -> dict[tuple[int, str], tf.Tensor]:
        """The noise of draws block * DRAWS_PER_BLOCK ...: each tensor with a leading axis of DRAWS_PER_BLOCK."""
        return {
            key: request.draw(DRAWS_PER_BLOCK, fold_in(seed_of_tensor(seed, *key), block))
            for key, request in self.requests.items()
        }

    def tape(self, values: Mapping[tuple[int, str], tf.Tensor]) -> Tape:
        """A source that answers with `values` (one draw, no leading axis)."""
        return Tape(values, self.layers, self.coupling_of, self.in_common)


class _Planned(Noise):
    def __init__(self, plan: Plan, index: int):
        self._plan = plan
        self._index = index
        self.coupling = plan.coupling_of(index)

    def _remember(self, name: str, draw: Callable[[int, tf.Tensor], tf.Tensor]) -> None:
        self._plan.requests[self._index, name] = Request(draw)

    def normal(self, name, shape):
        shape = _static(name, shape)
        self._remember(name, lambda count, seed: normal_from_bits([count, *shape], seed))
        return tf.zeros(shape)

    def uniform(self, name, shape):
        shape = _static(name, shape)
        self._remember(name, lambda count, seed: uniform_from_bits([count, *shape], seed))
        return tf.fill(shape, 0.5)

    def sample(self, name, distribution):
        self._remember(name, lambda count, seed: distribution.sample(count, seed=seed))
        return tf.zeros(distribution.batch_shape + distribution.event_shape, distribution.dtype)

    def shared(self, name, compute):
        return self._plan.in_common.setdefault((self._index, name), compute())


def _static(name: str, shape: Any) -> list[int]:
    static = tf.TensorShape(tf.get_static_value(shape) if tf.is_tensor(shape) else shape)
    if not static.is_fully_defined():
        raise invalid("shape", f"a shape without the batch size for noise `{name}` in prediction, so that a row's "
                               "answer depends neither on its place nor on its batch", static)  # fmt: skip
    return static.as_list()


class Tape(Noise):
    """Noise that was drawn before.

    Args:
        values: (index of the layer, name of the tensor) -> tensor.
        layers: all layers of the network, in a fixed order.
        coupling_of: index of the layer -> coupling; `lambda index: None` lets the layers' own estimators run.
        in_common: (index, name) -> what all draws share, computed before.
    """

    def __init__(
        self,
        values: Mapping[tuple[int, str], Any],
        layers: Sequence[keras.layers.Layer],
        coupling_of: Callable[[int], str | None] = lambda index: None,
        in_common: Mapping[tuple[int, str], Any] | None = None,
        index: int = 0,
    ):
        self._values = values
        self._layers = layers
        self._coupling_of = coupling_of
        self._in_common = in_common or {}
        self._index = index
        self.coupling = coupling_of(index)

    def for_layer(self, layer: keras.layers.Layer) -> Tape:
        """The noise of `layer`."""
        index = _index_of(layer, self._layers)
        return Tape(self._values, self._layers, self._coupling_of, self._in_common, index)

    def _read(self, name: str) -> tf.Tensor:
        return tf.convert_to_tensor(self._values[self._index, name])

    def normal(self, name, shape):
        return self._read(name)

    def uniform(self, name, shape):
        return self._read(name)

    def sample(self, name, distribution):
        return self._read(name)

    def shared(self, name, compute):
        key = (self._index, name)
        return self._in_common[key] if key in self._in_common else compute()
