"""Noise is data: the one maker of a network's randomness.

A stochastic layer asks `noise_for(self)` and is given the noise of the current source, or, where no source is set,
that of its own generator. Who wants the same network with other noise sets a source around the call:

    with noise_scope(source):
        network(x)

Sources: `Generated` (a layer's `SeedGenerator`, in a plain Keras model), `Seeded` (a stateless seed; a new one every
pass of a `BayesianModel` in training), `Plan` (finds out what a network asks for) and `Tape` (noise that was drawn
before: one draw of many, or a test's own numbers).

In prediction, draw i of a tensor is defined by (seed, index of the layer, name of the tensor, i) alone: blocks of
`DRAWS_PER_BLOCK` draws are made from int32 bits, which neither XLA nor a GPU changes.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import itertools
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import invalid, one_of, whole_number
from tfbnn.core.sequences import MOST_DIMENSIONS, antithetic_bits, sobol_bits

DRAWS_PER_BLOCK = 10
_LOW_31_BITS = 0x7FFFFFFF
BITS = 32  # of a random word
COUPLINGS = ("marginal", "coherent")
MEMBER = "member"  # name of the number of a draw's member


class Noise(abc.ABC):
    """What one layer draws from during one call.

    Attributes:
        coupling: None in training (the layer's own estimator decides how rows share noise); "marginal" where only
            the distribution of each row alone matters; "coherent" where one weight draw must serve all rows.
        calls: how many times the layer has been called in this pass, where the source counts (training), else 1.
    """

    coupling: str | None = None
    calls = 1

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

    def normal_around(self, name: str, mean: tf.Tensor, stddev: tf.Tensor) -> tf.Tensor:
        """mean + stddev eps, of outputs [B, ...], with the standard normals eps of `normal_per_row`."""
        return mean + stddev * tf.cast(self.normal_per_row(name, mean), mean.dtype)

    def uniform_per_row(self, name: str, inputs: tf.Tensor) -> tf.Tensor:
        """Uniforms for the channels of `inputs` [B, ..., D], the same at all positions of a row.

        Returns:
            [B, 1, ..., D], fresh ones a row, in training; one [1, 1, ..., D] for all rows in prediction.
        """
        rows: Any = 1
        if self.coupling is None:
            rows = tf.shape(inputs)[0] if inputs.shape[0] is None else inputs.shape[0]  # static wherever it can be
        return self.uniform(name, [rows, *[1] * (len(inputs.shape) - 2), inputs.shape[-1]])

    def member(self, count: int, inputs: tf.Tensor) -> tf.Tensor:
        """Which of `count` members of an ensemble computes each row of `inputs`: the same in all layers of a network.

        Nothing is random in it, so that every member has its share of each shuffled batch, and a multiple of `count`
        draws is the average over the members.

        Returns:
            Row b's, b mod count, int32 [B], in training; draw i's for all rows, i mod count, int32, in prediction.
        """
        rows = tf.shape(inputs)[0] if inputs.shape[0] is None else inputs.shape[0]
        return tf.range(rows) % count

    def shared(self, name: str, compute: Callable[[], Any], of: Sequence[tf.Tensor] = ()) -> Any:
        """`compute()`, done once for all draws where many draws are made; it must not itself depend on noise.

        Args:
            name: of the result, within the layer.
            compute: makes it.
            of: what it is made of beside weights; where that differs from draw to draw, so does the result.
        """
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


@contextlib.contextmanager
def one_pass(
    generator: keras.random.SeedGenerator, layers: Sequence[keras.layers.Layer], count_calls: bool = True
) -> Iterator[None]:
    """Layers called inside draw from one new seed of `generator`, each its own noise, unless a source is set already.

    Args:
        generator: of the model; every pass takes its next seed, and every replica folds in its number.
        layers: all layers of the network, in a fixed order.
        count_calls: False for the pass in which Keras builds the network, which calls layers once more than it does.
    """
    if _SOURCE.get() is not None:
        yield
        return
    seed = _fold_in_replica(tf.cast(generator.next(), tf.int32))
    with noise_scope(Seeded(fold_in(seed, 0), layers, count_calls=count_calls)):
        yield


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
    return fold_in(seed, zlib.crc32(f"{layer}/{name}".encode()) & _LOW_31_BITS)


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


def random_bits(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """int32 of 32 random bits, the same on every device."""
    return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.int32)


def uniform_from_bits(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Uniforms (k + 1/2) / 2^23, k = 0 ... 2^23 - 1: never 0 or 1, the same on every device."""
    return unit_interval(random_bits(shape, seed))


def unit_interval(bits: tf.Tensor) -> tf.Tensor:
    """The upper 23 of 32 bits -> (k + 1/2) / 2^23, exact in float32."""
    signed = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.int32)), tf.float32)
    return (signed + 0.5) * 2.0**-23 + 0.5


def signs(bits: tf.Tensor) -> tf.Tensor:
    """Of each of the 32 bits a sign, -1 or +1: int32 [..., n] -> float32 [..., 32 n]."""
    each = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits[..., tf.newaxis], tf.range(BITS)), 1)
    return tf.reshape(2.0 * tf.cast(each, tf.float32) - 1.0, [*bits.shape[:-1], BITS * bits.shape[-1]])


def normal_from_bits(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Standard normals by the inverse cdf of `uniform_from_bits`; they end at 5.3 sigma."""
    return standard_normal(random_bits(shape, seed))


def standard_normal(bits: tf.Tensor) -> tf.Tensor:
    """The standard normal of each 32 random bits."""
    return tf.math.ndtri(unit_interval(bits))


def bits_of_block(
    shape: Sequence[int], seed: tf.Tensor, block: tf.Tensor, sequence: str = "independent", dimension: int = 0
) -> tf.Tensor:
    """Random bits of a tensor in draws block * DRAWS_PER_BLOCK ..., int32 [DRAWS_PER_BLOCK, *shape].

    Args:
        shape: of one draw's.
        seed: the tensor's own, int32 [2].
        block: int32 scalar.
        sequence: how draws go together.
        dimension: of Sobol's points, of the first of the numbers.
    """
    if sequence == "independent":
        return random_bits([DRAWS_PER_BLOCK, *shape], fold_in(seed, block))
    if sequence == "antithetic":
        return antithetic_bits(random_bits([DRAWS_PER_BLOCK // 2, *shape], fold_in(seed, block)))
    numbers = block * DRAWS_PER_BLOCK + tf.range(DRAWS_PER_BLOCK)
    return sobol_bits(numbers, dimension, shape, random_bits(shape, seed))


_WIDTH = 512  # of a row of counters: XLA shares rows between cores, which it does not do with one long one
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[tf.Tensor, tf.Tensor]:
    """The block cipher Threefry-2x32 of 20 rounds: two words of 32 random bits for each counter.

    Args:
        key: two words, uint32 that broadcast against the counter's.
        counter: two words, uint32 of one shape.

    Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    words = [tf.cast(word, tf.uint32) for word in key]
    words.append(words[0] ^ words[1] ^ _word(0x1BD11BDA))
    a, b = (tf.cast(word, tf.uint32) + own for word, own in zip(counter, words, strict=False))
    for group in range(5):
        for bits in _ROTATIONS[group % 2]:
            a = a + b
            b = a ^ (tf.bitwise.left_shift(b, _word(bits)) | tf.bitwise.right_shift(b, _word(32 - bits)))
        a = a + words[(group + 1) % 3]
        b = b + words[(group + 2) % 3] + _word(group + 1)
    return a, b


def _word(number: int) -> tf.Tensor:
    return tf.constant(number, tf.uint32)


def counted_bits(shape: Sequence[int], key: tuple[Any, Any], step: Any) -> tf.Tensor:
    """int32 of 32 random bits, a function of the key and of a step's number, the same on every device.

    For use inside XLA, where it is four times faster than the kernels' own generator is outside; `random_bits` is 60
    times slower there on CPUs. Outside of XLA it is the slower one, for large shapes.

    Args:
        shape: of the bits.
        key: two words of 32 bits, scalars; or [M] each, then bits are [M, *shape].
        step: whole number of 0 or more.
    """
    size = math.prod(shape)
    width = min(_WIDTH, max(1, math.ceil(size / 2)))
    places = tf.reshape(tf.range(math.ceil(size / (2 * width)) * width), [-1, width])
    words = [tf.cast(word, tf.uint32)[..., tf.newaxis, tf.newaxis] for word in key]
    a, b = threefry((words[0], words[1]), (places, tf.fill(tf.shape(places), tf.cast(step, tf.uint32))))
    lead = words[0].shape[:-2]
    bits = tf.reshape(tf.bitcast(tf.concat([a, b], axis=-1), tf.int32), [*lead, 2 * math.prod(places.shape)])
    return tf.reshape(bits[..., :size], [*lead, *shape])


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

    A layer that is called more than once gets the same weight draw each time, as one network has the same weights.

    Args:
        seed: int32 [2].
        layers: all layers of the network, in a fixed order.
        count_calls: whether layers are told how many times they have been called.
    """

    def __init__(
        self,
        seed: tf.Tensor,
        layers: Sequence[keras.layers.Layer],
        index: int = 0,
        calls: int = 1,
        count_calls: bool = True,
    ):
        self._seed = seed
        self._layers = layers
        self._index = index
        self._calls: Counter[int] = Counter()
        self._count_calls = count_calls
        self.calls = calls

    def for_layer(self, layer: keras.layers.Layer) -> Seeded:
        """The noise of `layer`."""
        index = _index_of(layer, self._layers)
        self._calls[index] += 1
        return Seeded(self._seed, self._layers, index, self._calls[index] if self._count_calls else 1)

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
    """What a layer asked for: how to make independent copies of it, one a draw, from a [2] seed.

    Attributes:
        draw: (numbers of the draws, int32 [n]; seed) -> [n, ...].
        shape: of one copy, where it is made of random bits.
        of_bits: random bits -> noise, likewise.
        follows_weights: whether it is of a distribution that holds the weights' present values.
    """

    draw: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    shape: Sequence[int] | None = None
    of_bits: Callable[[tf.Tensor], tf.Tensor] | None = None
    follows_weights: bool = False


def _request_of_bits(shape: Sequence[int], of_bits: Callable[[tf.Tensor], tf.Tensor]) -> Request:
    return Request(lambda draws, seed: of_bits(random_bits([*draws.shape, *shape], seed)), shape, of_bits)


class Plan:
    """Finds out, in one pass of a network, what noise its layers ask for and what all draws have in common.

    Args:
        layers: all layers of the network, in a fixed order.
        coupling: "marginal" or "coherent"; None: training, in which the layers' own estimators decide.
        whole_draws: indices of the layers that are coherent always, because a row meets their weights more than once:
            the network calls them again, or folds an axis of the row into the batch. One weight draw must serve all.

    Attributes:
        operations: kinds of TensorFlow's operations that the network is made of.
        around: of the requests, those that `Noise.normal_around` made.
    """

    def __init__(
        self, layers: Sequence[keras.layers.Layer], coupling: str | None, whole_draws: frozenset[int] = frozenset()
    ):
        self.layers = layers
        self.coupling = None if coupling is None else one_of("coupling", coupling, COUPLINGS)
        self.whole_draws = whole_draws
        self.requests: dict[tuple[int, str], Request] = {}
        self.in_common: dict[tuple[int, str], Any] = {}
        self.calls: Counter[int] = Counter()
        self.batch_sizes: dict[int, int | None] = {}
        self.operations: set[str] = set()
        self._graph = tf.compat.v1.get_default_graph()
        self._stand_ins: set[str] = set()  # names of ops
        self._draws_in_a_body = False
        self.rows_of_members: set[int | None] = set()
        self.around: set[tuple[int, str]] = set()

    @classmethod
    def of(cls, call: Callable[[Any], Any], x: Any, layers: Sequence[keras.layers.Layer], coupling: str) -> Plan:
        """The plan of what `call(x)`, which runs the network, asks for; its result is not used."""
        survey = cls(layers, coupling)
        plan = cls(layers, coupling, _meets_weights_again(call, x, survey))
        plan.operations = survey.operations
        with noise_scope(plan):
            call(x)
        return plan

    def for_layer(self, layer: keras.layers.Layer) -> Noise:
        """The noise of `layer`: remembers what is asked for and answers with a stand-in of the right shape."""
        index = _index_of(layer, self.layers)
        self.calls[index] += 1
        return _Planned(self, index)

    def coupling_of(self, index: int) -> str | None:
        """How layer number `index` must couple rows."""
        return "coherent" if index in self.whole_draws else self.coupling

    def stand_in(self, value: tf.Tensor) -> tf.Tensor:
        """`value` in place of noise: what is computed from it differs from draw to draw."""
        if not tf.executing_eagerly():
            value = tf.identity(value)
            self._stand_ins.add(value.op.name)
            self._draws_in_a_body |= not self.is_outside
        return value

    @property
    def is_outside(self) -> bool:
        """Whether what is computed now can be used in all draws: not where it is in the body of a loop or branch."""
        return tf.executing_eagerly() or tf.compat.v1.get_default_graph() is self._graph

    def is_common(self, index: int, tensors: Sequence[tf.Tensor]) -> bool:
        """Whether what layer number `index` was given is the same in all draws, as far as the graph tells."""
        if self.coupling_of(index) is None or index in self.whole_draws or tf.executing_eagerly():
            return False
        if self._draws_in_a_body:  # noise leaves it by ways that are not seen from outside
            return False
        seen = set[str]()
        waiting = [tensor.op for tensor in tensors if tf.is_symbolic_tensor(tensor)]
        while waiting:
            op = waiting.pop()
            if op.graph is not self._graph or op.name in self._stand_ins:
                return False
            if op.name not in seen:
                seen.add(op.name)
                waiting += [tensor.op for tensor in op.inputs]
        return True

    @property
    def follows_weights(self) -> bool:
        """Whether some noise cannot be drawn before the weights are known: its `Tape` needs a seed."""
        return any(request.follows_weights for request in self.requests.values())

    @property
    def size(self) -> int:
        """Numbers in the noise of one draw, as far as it can be made before the weights are known."""
        return sum(math.prod(request.shape) for request in self.requests.values() if request.shape is not None)

    def bits(self, seed: tf.Tensor, count: int) -> dict[tuple[int, str], tf.Tensor]:
        """Random bits for the noise of `count` draws from one [2] seed: each tensor with a leading axis of `count`."""
        return {
            key: random_bits([count, *request.shape], seed_of_tensor(seed, *key))
            for key, request in self.requests.items()
            if request.shape is not None
        }

    def counted_bits(self, key: tf.Tensor, step: tf.Tensor, count: int) -> dict[tuple[int, str], tf.Tensor]:
        """As `bits`, a function of the key and of a step's number, for use inside XLA.

        Args:
            key: int32 [2], or [M, 2]: then each tensor has an axis of M in front of that of `count`.
            step: int32 scalar.
            count: of draws.
        """
        shapes = {k: [count, *request.shape] for k, request in self.requests.items() if request.shape is not None}
        flat = counted_bits([count * self.size], (key[..., 0], key[..., 1]), step)
        parts = tf.split(flat, [math.prod(shape) for shape in shapes.values()], axis=-1) if shapes else []
        return {k: tf.reshape(p, [*key.shape[:-1], *shapes[k]]) for k, p in zip(shapes, parts, strict=True)}

    def noise(self, bits: Mapping[tuple[int, str], tf.Tensor]) -> dict[tuple[int, str], tf.Tensor]:
        """The noise of `bits`; inside XLA this is several times faster than by TensorFlow's kernels."""
        return {key: self.requests[key].of_bits(part) for key, part in bits.items()}  # type: ignore[misc]

    def seeds(self, seed: tf.Tensor) -> dict[tuple[int, str], tf.Tensor]:
        """The [2] seed of each tensor of noise."""
        return {key: seed_of_tensor(seed, *key) for key in self.requests}

    def draw_block(
        self, seeds: Mapping[tuple[int, str], tf.Tensor], block: tf.Tensor, sequence: str = "independent"
    ) -> dict[tuple[int, str], tf.Tensor]:
        """The noise of draws block * DRAWS_PER_BLOCK ...: each tensor with a leading axis of DRAWS_PER_BLOCK.

        Args:
            seeds: those of `seeds`, the same for all blocks.
            block: int32 scalar.
            sequence: how the bits of draws go together; noise that is not made of bits is independent.
        """
        numbers = block * DRAWS_PER_BLOCK + tf.range(DRAWS_PER_BLOCK)
        found, dimension = {}, 0
        for key, request in self.requests.items():
            own = seeds[key]
            if request.of_bits is None or request.shape is None:
                found[key] = request.draw(numbers, fold_in(own, block))
            else:
                found[key] = request.of_bits(bits_of_block(request.shape, own, block, sequence, dimension))
                dimension += math.prod(request.shape)
        return found

    def draw_blocks(
        self, seeds: Mapping[tuple[int, str], tf.Tensor], first: tf.Tensor, count: Any, sequence: str
    ) -> dict[tuple[int, str], tf.Tensor]:
        """As `draw_block`, of `count` blocks from number `first` on; for noise that is all made of bits."""
        shapes = {key: request.shape or [] for key, request in self.requests.items()}
        dimensions = itertools.accumulate((math.prod(shape) for shape in shapes.values()), initial=0)
        of_each = list(zip(shapes, shapes.values(), dimensions, strict=False))

        def bits_of(block):
            found = [bits_of_block(shape, seeds[key], block, sequence, dimension) for key, shape, dimension in of_each]
            return [tf.bitcast(bits, tf.float32) for bits in found]  # int32 would be put together in a GPU's host

        like = [tf.TensorSpec([DRAWS_PER_BLOCK, *shape], tf.float32) for shape in shapes.values()]
        parts = tf.map_fn(bits_of, first + tf.range(count), fn_output_signature=like)
        flat = {key: tf.reshape(part, [-1, *shapes[key]]) for key, part in zip(shapes, parts, strict=True)}
        return self.noise({key: tf.bitcast(part, tf.int32) for key, part in flat.items()})

    def refuse_too_large_for(self, sequence: str) -> None:
        """Raises where a draw has more numbers than Sobol's points have dimensions here."""
        if sequence == "sobol" and self.size > MOST_DIMENSIONS:
            expected = f"'antithetic' where a draw has more than {MOST_DIMENSIONS:,} numbers of noise"
            mend = "Marginal coupling needs fewer: one for each unit of a dense layer."
            raise invalid("sequence", expected, f"sobol, for {self.size:,} numbers", mend)

    def tape(self, values: Mapping[tuple[int, str], tf.Tensor]) -> Tape:
        """A source that answers with `values` (one draw, no leading axis)."""
        return Tape(values, self.layers, self.coupling_of, self.in_common)

    def stacked_tape(self, values: Mapping[tuple[int, str], tf.Tensor], behind_noise: bool = False) -> StackedTape:
        """A source that answers with `values` of S draws (leading axis of S), in the axis of the rows.

        `behind_noise` tells whether the rows are those of all draws already.
        """
        return StackedTape(values, self.layers, self.coupling_of, self.in_common, behind_noise=behind_noise)

    def tape_of_own_weights(self, values: Mapping[tuple[int, str], tf.Tensor], seed: tf.Tensor) -> Tape:
        """As `tape`, for a draw whose variables are not the network's own: nothing that follows them is shared."""
        return Tape(values, self.layers, self.coupling_of, seed=seed if self.follows_weights else None)


SURVEY_ROWS = 3  # a number of rows that is told in the shapes of a survey


def _meets_weights_again(call: Callable[[Any], Any], x: Any, survey: Plan) -> frozenset[int]:
    """Indices of the layers that are called more than once, or on another number of rows than x has."""

    def traced(x):
        with noise_scope(survey):
            call(x)

    specs = keras.tree.map_structure(lambda part: tf.TensorSpec([SURVEY_ROWS, *part.shape[1:]], part.dtype), x)
    graph = tf.function(traced, autograph=False).get_concrete_function(specs).graph
    survey.operations = {op.type for op in graph.get_operations()}
    again = {index for index, calls in survey.calls.items() if calls > 1}
    folded = {index for index, rows in survey.batch_sizes.items() if rows != SURVEY_ROWS}
    return frozenset(again | folded)


class _Planned(Noise):
    def __init__(self, plan: Plan, index: int):
        self._plan = plan
        self._index = index
        self.coupling = plan.coupling_of(index)
        self.calls = plan.calls[index] if self.coupling is None else 1

    def normal(self, name, shape):
        shape = _static(name, shape)
        self._plan.requests[self._index, name] = _request_of_bits(shape, standard_normal)
        return self._plan.stand_in(tf.zeros(shape))

    def uniform(self, name, shape):
        shape = _static(name, shape)
        self._plan.requests[self._index, name] = _request_of_bits(shape, unit_interval)
        return self._plan.stand_in(tf.fill(shape, 0.5))

    def rademacher(self, name, shape):
        shape = _static(name, shape)
        size = math.prod(shape)

        def of_bits(bits):
            return tf.reshape(signs(bits)[..., :size], [*bits.shape[:-1], *shape])

        self._plan.requests[self._index, name] = _request_of_bits([-(-size // BITS)], of_bits)
        return self._plan.stand_in(tf.ones(shape))

    def sample(self, name, distribution):
        self._plan.requests[self._index, name] = Request(
            lambda draws, seed: distribution.sample(*draws.shape, seed=seed), follows_weights=True
        )
        return self._plan.stand_in(tf.zeros(distribution.batch_shape + distribution.event_shape, distribution.dtype))

    def normal_per_row(self, name, outputs):
        self._plan.batch_sizes[self._index] = outputs.shape[0]
        return self._of_as_many_rows(name, super().normal_per_row, outputs)

    def normal_around(self, name, mean, stddev):
        self._plan.around.add((self._index, name))
        return super().normal_around(name, mean, stddev)

    def uniform_per_row(self, name, inputs):
        return self._of_as_many_rows(name, super().uniform_per_row, inputs)

    def _of_as_many_rows(self, name: str, ask: Callable[[str, tf.Tensor], tf.Tensor], like: tf.Tensor) -> tf.Tensor:
        before = self._plan.requests.get((self._index, name))
        noise = ask(name, like)
        if before is not None and before.shape != noise.shape.as_list():
            raise invalid(
                f"layer {self._plan.layers[self._index].name}",
                "a layer with noise a row that is given as many rows at every call",
                [before.shape, noise.shape.as_list()],
                "Use another layer for each call.",
            )
        return noise

    def member(self, count, inputs):
        if self.coupling is None:
            self._refuse_other_rows(inputs.shape[0])
            return super().member(count, inputs)
        self._plan.requests[self._index, MEMBER] = Request(lambda draws, seed: draws % count)
        return self._plan.stand_in(tf.zeros([], tf.int32))

    def _refuse_other_rows(self, rows: int | None) -> None:
        """A row is the same member's in all layers, by its place."""
        self._plan.rows_of_members.add(rows)
        if len(self._plan.rows_of_members) > 1:
            raise invalid(
                f"layer {self._plan.layers[self._index].name}",
                "a network that gives all layers with members the same rows",
                sorted(self._plan.rows_of_members, key=str),
                "Fold no axis into that of the rows.",
            )

    def shared(self, name, compute, of=()):
        if not self._plan.is_outside or (len(of) and not self._plan.is_common(self._index, of)):
            return compute()
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
        seed: int32 [2], from which samples that are not in `values` are drawn; None: all are there.
    """

    def __init__(
        self,
        values: Mapping[tuple[int, str], Any],
        layers: Sequence[keras.layers.Layer],
        coupling_of: Callable[[int], str | None] = lambda index: None,
        in_common: Mapping[tuple[int, str], Any] | None = None,
        seed: tf.Tensor | None = None,
        index: int = 0,
    ):
        self._values = values
        self._layers = layers
        self._coupling_of = coupling_of
        self._in_common = in_common or {}
        self._seed = seed
        self._index = index
        self.coupling = coupling_of(index)

    def for_layer(self, layer: keras.layers.Layer) -> Tape:
        """The noise of `layer`."""
        index = _index_of(layer, self._layers)
        return Tape(self._values, self._layers, self._coupling_of, self._in_common, self._seed, index)

    def _read(self, name: str) -> tf.Tensor:
        return tf.convert_to_tensor(self._values[self._index, name])

    def normal(self, name, shape):
        return self._read(name)

    def uniform(self, name, shape):
        return self._read(name)

    def rademacher(self, name, shape):
        return self._read(name)

    def member(self, count, inputs):
        return super().member(count, inputs) if self.coupling is None else self._read(MEMBER)

    def sample(self, name, distribution):
        if self._seed is not None:
            return distribution.sample(seed=seed_of_tensor(self._seed, self._index, name))
        return self._read(name)

    def shared(self, name, compute, of=()):
        key = (self._index, name)
        return self._in_common[key] if key in self._in_common else compute()


class StackedTape(Tape):
    """Noise of S draws that go through a chain of layers together, one after another in the axis of the rows.

    Before the first noise all draws have the same rows, [B, ...]; behind it row s B + b is row b of draw s. For layers
    that ask for nothing but `normal_around`.

    Args:
        values: (index of the layer, name of the tensor) -> [S, 1, ...].
        layers, coupling_of, in_common: of `Tape`.
        behind_noise: whether the rows are those of all draws from the beginning.
    """

    def __init__(self, values, layers, coupling_of, in_common, index=0, behind_noise=False):
        super().__init__(values, layers, coupling_of, in_common, index=index)
        self._added = {"any": behind_noise}  # noise; what all layers' tapes know

    def for_layer(self, layer):
        """The noise of `layer`."""
        index = _index_of(layer, self._layers)
        tape = StackedTape(self._values, self._layers, self._coupling_of, self._in_common, index)
        tape._added = self._added
        return tape

    def normal_around(self, name, mean, stddev):
        eps = tf.cast(self._read(name), mean.dtype)
        if not self._added["any"]:
            self._added["any"] = True
            return _in_rows(mean + stddev * eps)
        of_each_draw = tf.reshape(stddev, [tf.shape(eps)[0], -1, *stddev.shape[1:]])
        return mean + _in_rows(of_each_draw * eps)


def _in_rows(tensor: tf.Tensor) -> tf.Tensor:
    """[S, B, ...] -> [S B, ...]."""
    return tf.reshape(tensor, [-1, *tensor.shape[2:]])
