"""Monte Carlo over draws of the weights, in the graph: the one loop over draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid, one_of, positive_integer, positive_number
from tfbnn.core.draws import Draws
from tfbnn.core.noise import COUPLINGS, DRAWS_PER_BLOCK, Plan, check_seed, fold_in, noise_scope, seed_pair
from tfbnn.core.sequences import SEQUENCES
from tfbnn.core.serialization import register
from tfbnn.core.traversal import sublayers
from tfbnn.layers.convolution import Convolution
from tfbnn.layers.variational import Variational
from tfbnn.prediction import decompose
from tfbnn.prediction.convolutions import ConvolutionalHead
from tfbnn.prediction.in_rows import blocks_at_once, draws_stack_in_rows, rest_stacks_in_rows
from tfbnn.prediction.prediction import Prediction

DEFAULT_SAMPLES = 100
MOST_SAMPLES = 10_000  # of num_samples="auto"
BLOCKS_BEFORE_ERROR = 2  # of ten draws, before their spread is believed
ROWS_PER_CALL = 1024  # keeps the working set of a block of draws small whatever the number of rows
FEWEST_ROWS_PER_CALL = 128  # where there are more
NUMBERS_PER_CALL = 2**22  # of a result: it is held up to three times while it is put together


@dataclasses.dataclass(frozen=True)
class Blocks:
    """What makes draws, in blocks of `DRAWS_PER_BLOCK`.

    Attributes:
        make: (number of the first block, how many) -> their draws, [how many * DRAWS_PER_BLOCK, B, P'].
        at_once: how many it makes together, always: products of other sizes round otherwise. int or int32 scalar.
    """

    make: Callable[[Any, Any], tf.Tensor]
    at_once: Any = 1

    def draws(self, start: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Draws start ... start + count - 1."""
        per_turn = self.at_once * DRAWS_PER_BLOCK
        first, last = start // per_turn, (start + count - 1) // per_turn
        results = tf.TensorArray(tf.float32, size=last - first + 1, infer_shape=False)

        def step(turn, results):
            return turn + 1, results.write(turn - first, self.make(turn * self.at_once, self.at_once))

        made = tf.while_loop(lambda turn, _: turn <= last, step, (first, results), parallel_iterations=1)[1].concat()
        return made[start - first * per_turn :][:count]


@register
class NetworkDraws(Draws):
    """Endless draws from the posterior that the layers of a network hold (variational inference, dropout).

    A method whose posterior is not the layers' own gives `drawn`, and is asked and exported by the same code.

    Args:
        network: the Keras model, [B, ...] -> [B, P].
        likelihood: the layer that turns its outputs into parameters.
        seed: used where none is given.
        sequence: how draws go together: "independent"; "antithetic": each second draw has the opposite noise of the one
            before; "sobol": noise is spread evenly over the draws, for 4,096 numbers of noise a draw at most; draw
            16,384 is draw 0 again. Each draw alone has the same law; means over draws have less error.
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: keras.layers.Layer,
        seed: int = 0,
        sequence: str = "independent",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.sequence = one_of("sequence", sequence, SEQUENCES)
        self.network = network
        self.likelihood = likelihood
        self.seed = check_seed("seed", seed)
        self.built = True

    def apply(self, x, seed, start, count, coupling="marginal"):
        """Draws start ... start + count - 1, float32 [count, B, P'].

        They are made in whole blocks of `DRAWS_PER_BLOCK`, several together where rows are few, so that draw i has the
        same bits whatever was asked with it; the working memory does not grow with `count`.
        """
        start, count = tf.cast(start, tf.int32), tf.cast(count, tf.int32)
        with tf.control_dependencies([_assert_positive(count), *self._assert_enough(start + count)]):
            start, count = tf.identity(start), tf.identity(count)
        draws = self._blocks(x, seed_pair(seed), coupling).draws(start, count)
        draws.set_shape([None, keras.tree.flatten(x)[0].shape[0], self.likelihood.num_parameters])
        return draws

    def apply_until(self, x, seed, max_error, at_most, coupling="marginal", of=None):
        """As `apply`, of draws 0, 1, ... until the standard error of the mean is `max_error` or less for every row.

        Args:
            x, seed, coupling: of `apply`.
            max_error: float32 scalar above 0, in units of the likelihood's mean.
            at_most: int32 scalar, draws after which it ends in any case; it makes 20 at least, if it may, in blocks of
                ten, or of the 20 or 50 that are made together.
            of: parameters [n, B, P'] of n draws -> those that are answered with (a recalibration); None: as drawn.

        Returns:
            float32 [S, B, P'], what `of` made of them.
        """
        at_most = tf.cast(at_most, tf.int32)
        with tf.control_dependencies([_assert_error(max_error)]):
            max_error = tf.identity(max_error)
        blocks = self._blocks(x, seed_pair(seed), coupling)
        last = (at_most - 1) // (blocks.at_once * DRAWS_PER_BLOCK)
        num_rows = keras.tree.flatten(x)[0].shape[0]
        of_mean = self.likelihood.mean(tf.zeros([1, 1, self.likelihood.num_parameters])).shape[-1]

        def goes_on(turn, _, count, mean, squares):
            known = tf.where(tf.math.is_finite(squares), squares, 0.0)  # what is no number does not end the others
            error = tf.sqrt(tf.reduce_max(known) / (count * tf.maximum(count - 1.0, 1.0)))
            return (turn <= last) & ((turn * blocks.at_once < BLOCKS_BEFORE_ERROR) | (error > max_error))

        def step(turn, results, count, mean, squares):
            draws = blocks.make(turn * blocks.at_once, blocks.at_once)
            draws = draws if of is None else of(draws)
            values = decompose.independent_parts(self.likelihood.mean(draws), self.sequence)
            return turn + 1, results.write(turn, draws), *moments_with(count, mean, squares, values)

        results = tf.TensorArray(tf.float32, size=0, dynamic_size=True, infer_shape=False)
        zeros = tf.zeros([tf.shape(keras.tree.flatten(x)[0])[0], of_mean])
        of_moments = tf.TensorShape([num_rows, of_mean])
        invariants = (tf.TensorShape([]), tf.TensorShape(None), tf.TensorShape([]), of_moments, of_moments)
        begin = (tf.constant(0), results, tf.constant(0.0), zeros, zeros)
        draws = tf.while_loop(goes_on, step, begin, invariants, parallel_iterations=1)[1].concat()[:at_most]
        draws.set_shape([None, num_rows, self.likelihood.num_parameters])
        return draws

    def predict_distribution(
        self,
        x: Any,
        num_samples: int | str | None = None,
        seed: int | None = None,
        coupling: str = "marginal",
        max_error: float | None = None,
    ) -> Prediction:
        """The predictive distribution of rows x; see `tfbnn.prediction.predict_distribution`."""
        return predict_distribution(self, x, num_samples, seed, coupling, max_error)

    def _forward(self, x: Any) -> tf.Tensor:
        return self._complete(self.network(x, training=False))

    def _complete(self, outputs: tf.Tensor) -> tf.Tensor:
        return self.likelihood(tf.cast(self.likelihood.check_outputs(outputs), tf.float32))

    def _complete_draws(self, f: tf.Tensor) -> tf.Tensor:
        """Outputs of a block's draws, [DRAWS_PER_BLOCK, B, P] -> [DRAWS_PER_BLOCK, B, P']."""
        f = tf.reshape(f, [-1, self.likelihood.num_outputs])
        return tf.reshape(self.likelihood(f), [DRAWS_PER_BLOCK, -1, self.likelihood.num_parameters])

    def drawn(self, seed: tf.Tensor, block: tf.Tensor) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Variables that differ from draw to draw, each with its values in the draws of a block.

        Args:
            seed: int32 [2].
            block: int32 scalar; its draws are number block * DRAWS_PER_BLOCK ... + DRAWS_PER_BLOCK - 1.

        Returns:
            Pairs of a variable and [DRAWS_PER_BLOCK, *its shape]; none where the layers draw their weights themselves.
        """
        return []

    def _blocks(self, x: Any, seed: tf.Tensor, coupling: str) -> Blocks:
        """What makes the draws of blocks; what all share is done once."""
        plan = Plan.of(self._forward, x, sublayers(self.network), coupling)
        plan.refuse_too_large_for(self.sequence)
        drawn = [variable for variable, _ in self.drawn(seed, tf.constant(0))]
        head = ConvolutionalHead.of(self.network, drawn)
        seeds = plan.seeds(seed)
        if head is not None:
            x = head.before(x)
        elif not drawn and draws_stack_in_rows(self.network, plan):
            return self._blocks_in_rows(x, plan, seeds)
        return Blocks(
            lambda block, _: self._block(x, plan, head, seed, block, plan.draw_block(seeds, block, self.sequence))
        )

    def _blocks_in_rows(self, x: Any, plan: Plan, seeds: Mapping[Any, tf.Tensor]) -> Blocks:
        """The draws one after another in the axis of the rows: large products, and nothing is moved."""

        def make(first, count):
            with noise_scope(plan.stacked_tape(plan.draw_blocks(seeds, first, count, self.sequence))):
                parameters = self._forward(x)
            return tf.reshape(parameters, [count * DRAWS_PER_BLOCK, -1, *parameters.shape[1:]])

        return Blocks(make, blocks_at_once(tf.shape(keras.tree.flatten(x)[0])[0]))

    def _block(
        self,
        x: Any,
        plan: Plan,
        head: ConvolutionalHead | None,
        seed: tf.Tensor,
        block: tf.Tensor,
        noise: dict[Any, Any],
    ) -> tf.Tensor:
        """Draws block * DRAWS_PER_BLOCK ..., all through the network at once: [DRAWS_PER_BLOCK, B, P']."""
        drawn = self.drawn(seed, block)
        variables = [variable for variable, _ in drawn]
        numbers = block * DRAWS_PER_BLOCK + tf.range(DRAWS_PER_BLOCK)
        draws = (numbers, [values for _, values in drawn], noise)

        def in_draw(compute):
            """`compute` of what follows a draw's number, values and noise, with these."""

            def one_draw(numbered):
                number, values, noise, *given = numbered
                if not variables:
                    with noise_scope(plan.tape(noise)):
                        return compute(*given)
                own = plan.tape_of_own_weights(noise, fold_in(seed, number))
                with keras.StatelessScope(list(zip(variables, values, strict=True))), noise_scope(own):
                    return compute(*given)

            return one_draw

        if head is None:
            loops = draws_loop(sublayers(self.network), variables) or PADS_WITH_A_VALUE in plan.operations
            return mapped(in_draw(lambda: self._forward(x)), draws, loops)
        behind = head(x, tf.vectorized_map(in_draw(head.weights), draws))
        if not variables and rest_stacks_in_rows(head, self.network, plan):
            with noise_scope(plan.stacked_tape(noise, behind_noise=True)):
                parameters = self._complete(head.after(tf.reshape(behind, [-1, *behind.shape[2:]])))
            return tf.reshape(parameters, [DRAWS_PER_BLOCK, -1, *parameters.shape[1:]])
        rest = in_draw(lambda behind: self._complete(head.after(behind)))
        return mapped(rest, (*draws, behind), draws_loop(head.rest, variables) or PADS_WITH_A_VALUE in plan.operations)

    def _assert_enough(self, end: tf.Tensor) -> list[tf.Operation]:
        if self.num_draws is None:
            return []
        told = f"num_samples must be at most {self.num_draws}, the draws there are"
        return [tf.debugging.assert_less_equal(end, self.num_draws, told)]

    def get_config(self):
        """The constructor's arguments."""
        return {
            "name": self.name,
            "network": keras.saving.serialize_keras_object(self.network),
            "likelihood": keras.saving.serialize_keras_object(self.likelihood),
            "seed": self.seed,
            **({} if self.sequence == "independent" else {"sequence": self.sequence}),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The draws that `get_config` described."""
        parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("network", "likelihood")}
        return cls(**{**config, **parts})


def _assert_positive(count: tf.Tensor) -> tf.Operation:
    return tf.debugging.assert_positive(count, "num_samples, the draws to average over, must be 1 or more")


def _assert_error(max_error: tf.Tensor) -> tf.Operation:
    return tf.debugging.assert_positive(max_error, "max_error, the standard error to reach, must be a number above 0")


def moments_with(count: Any, mean: Any, squares: Any, values: tf.Tensor) -> tuple[Any, Any, Any]:
    """Number, mean and sum of squares about the mean, with `values` [n, ...] more (Chan, Golub & LeVeque 1979)."""
    n = tf.cast(tf.shape(values)[0], tf.float32)
    own = tf.reduce_mean(values, axis=0)
    own_squares = tf.reduce_sum(tf.square(values - own), axis=0)
    total = count + n
    return total, mean + (own - mean) * n / total, squares + own_squares + tf.square(own - mean) * count * n / total


def predict_distribution(
    draws: Draws,
    x: Any,
    num_samples: int | str | None = None,
    seed: int | None = None,
    coupling: str = "marginal",
    max_error: float | None = None,
) -> Prediction:
    """The predictive distribution p(y|x) = (1/S) sum_s p(y|x, w_s) of rows x.

    Args:
        draws: of any inference method.
        x: [B, ...] array or tensor (or a structure of such).
        num_samples: S; None: 100, or all of a finite set that has fewer; "auto": until the standard error of the mean
            (`Prediction.mc_error`) is `max_error` or less for every row, 20 draws at least and 10,000 at most.
        seed: whole number; None: the draws' own stored seed. Asking twice gives the same answer.
        coupling: "marginal" (default): right for each row alone, and cheap. "coherent": in each draw one network
            for all rows, for whatever joins rows (function plots, totals).
        max_error: of "auto", in units of y or of probability.

    Returns:
        The `Prediction`, which holds parameters [S, B, P'].

    Raises:
        InvalidInput: for arguments out of range, or more draws than a finite set has.
    """
    check_auto(num_samples, max_error)
    if num_samples == "auto":
        _refuse_few_draws(draws)
        count = None
    else:
        count = _number_of_draws(draws, num_samples)
    seed = draws.seed if seed is None else check_seed("seed", seed)
    one_of("coupling", coupling, COUPLINGS)
    x = keras.tree.map_structure(_as_tensor, x)
    num_rows = int(keras.tree.flatten(x)[0].shape[0])
    if num_rows == 0:
        raise invalid("x", "one row or more", "0 rows")
    _check_shapes(draws, x)
    seed = tf.constant(seed)
    if count is None:
        parts = [_rows(x, i, ROWS_PER_CALL) for i in range(0, num_rows, ROWS_PER_CALL)]
        until, limits = _compiled_until(draws, x, coupling), (tf.constant(max_error), tf.constant(MOST_SAMPLES))
        chunks = _of_as_many_draws(draws, seed, coupling, parts, [until(x, seed, *limits) for x in parts])
        parameters = np.concatenate(chunks, axis=1) if len(chunks) > 1 else chunks[0]
    else:
        parameters = _in_parts(draws, x, seed, coupling, count, num_rows)
    told = {"sequence": draws.sequence} if getattr(draws, "sequence", "independent") != "independent" else {}
    return Prediction(parameters, draws.likelihood, getattr(draws, "metadata", {}) | told)


PADS_WITH_A_VALUE = "PadV2"  # which tf.vectorized_map does with 0, whatever the value
_LOOPED = (
    keras.layers.RNN, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose, keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D, keras.layers.SeparableConv1D, keras.layers.SeparableConv2D,
)  # fmt: skip


def mapped(one_draw: Callable[[Any], tf.Tensor], draws: Any, loops: bool) -> tf.Tensor:
    """`one_draw` of each draw: stacked in one operation, or, where that `loops`, several at a time on the cores."""
    return tf.map_fn(one_draw, draws, fn_output_signature=tf.float32) if loops else tf.vectorized_map(one_draw, draws)


def draws_loop(layers: Sequence[keras.layers.Layer], drawn: Sequence[keras.Variable] = ()) -> bool:
    """Whether draws go through the layers one by one, several at a time on the cores, not stacked in one operation.

    `tf.vectorized_map` has no convolution of many kernels and no loop over time steps of many: it would run those draw
    by draw, and move the stacked activations through memory between all other operations.

    Args:
        layers: of a network.
        drawn: variables that differ from draw to draw, beside what the layers draw themselves.
    """
    own = {id(variable) for variable in drawn}
    return any(_loops(layer, own) for layer in layers)


def _loops(layer: keras.layers.Layer, drawn: set[int]) -> bool:
    if isinstance(layer, Variational):
        return any(isinstance(inner, _LOOPED) for inner in sublayers(layer.layer))
    if isinstance(layer, Convolution):
        return not all(q.is_point for q in layer.weight_posteriors)
    return isinstance(layer, _LOOPED) and any(id(variable) in drawn for variable in layer.variables)


def _number_of_draws(draws: Draws, num_samples: Any) -> int:
    if num_samples is None:
        return draws.at_most(DEFAULT_SAMPLES)
    count = positive_integer("num_samples", num_samples)
    if count > draws.at_most(count):
        raise invalid("num_samples", f"at most {draws.num_draws}, the draws there are", num_samples)
    return count


def check_auto(num_samples: Any, max_error: Any) -> None:
    """Raises unless there is an error to reach where the number of draws is "auto", and there alone."""
    if (num_samples == "auto") != (max_error is not None):
        raise invalid("max_error", "a number with num_samples='auto', and none else", max_error)
    if max_error is not None:
        positive_number("max_error", max_error)


def knows_when_to_end(draws: Draws) -> bool:
    """Whether `num_samples="auto"` can be asked: of draws in a loop of their own, of which there is no end."""
    return isinstance(draws, NetworkDraws) and draws.num_draws is None


def _refuse_few_draws(draws: Draws) -> None:
    if not knows_when_to_end(draws):
        raise invalid("num_samples", f"a number, for draws of which there are {draws.num_draws}", "auto")


def _of_as_many_draws(
    draws: Draws, seed: tf.Tensor, coupling: str, parts: Sequence[Any], chunks: Sequence[tf.Tensor]
) -> list[np.ndarray]:
    """Chunks of draws of parts of the rows, each with the draws more that another part needed."""
    S = max(len(chunk) for chunk in chunks)

    def with_more(x, chunk):
        more = _compiled(draws, x, coupling)(x, seed, tf.constant(len(chunk)), tf.constant(S - len(chunk)))
        return np.concatenate([chunk, more])

    pairs = zip(parts, chunks, strict=True)
    return [chunk.numpy() if len(chunk) == S else with_more(x, chunk) for x, chunk in pairs]


def _check_shapes(draws: Draws, x: Any) -> None:
    """Raises where the one input of a network has another shape than x, where the network tells it."""
    parts = keras.tree.flatten(x)
    inputs = getattr(getattr(draws, "network", None), "inputs", None) or []
    if len(parts) == len(inputs) == 1 and not parts[0].shape[1:].is_compatible_with(inputs[0].shape[1:]):
        raise invalid("x", f"rows of shape {list(inputs[0].shape[1:])}, as the network takes", list(parts[0].shape))


def _as_tensor(value: Any) -> tf.Tensor:
    tensor = tf.convert_to_tensor(value)
    return tf.cast(tensor, keras.config.floatx()) if tensor.dtype == tf.float64 else tensor


def _in_parts(draws: Draws, x: Any, seed: tf.Tensor, coupling: str, count: int, num_rows: int) -> np.ndarray:
    """Parameters [count, B, P'], asked for in parts of the rows, so that little is in memory beside the result.

    Products of parts of other sizes round otherwise.
    """
    apply, P = _compiled(draws, x, coupling), draws.likelihood.num_parameters
    size = max(FEWEST_ROWS_PER_CALL, min(ROWS_PER_CALL, NUMBERS_PER_CALL // (count * P)))
    limits = seed, tf.constant(0), tf.constant(count)
    if num_rows <= size:
        return apply(x, *limits).numpy()
    parameters = np.empty([count, num_rows, P], np.float32)
    for i in range(0, num_rows, size):
        parameters[:, i : i + size] = apply(_rows(x, i, size), *limits)
    return parameters


def _rows(x: Any, start: int, size: int) -> Any:
    return keras.tree.map_structure(lambda part: part[start : start + size], x)


_INT, _FLOAT = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)


def _compiled(draws: Draws, x: Any, coupling: str) -> Any:
    """`draws.apply`, (x, seed, start, count), as a graph."""
    return _kept(draws, "apply", x, (_INT, _INT, _INT), coupling)


def _compiled_until(draws: NetworkDraws, x: Any, coupling: str) -> Any:
    """`draws.apply_until`, (x, seed, max_error, at_most), as a graph."""
    return _kept(draws, "apply_until", x, (_INT, _FLOAT, _INT), coupling)


def _kept(draws: Draws, method: str, x: Any, scalars: Sequence[tf.TensorSpec], coupling: str) -> Any:
    """A method of the draws as a graph for any number of rows, made once for each kind of input and kept on them."""
    cache = draws.__dict__.setdefault("_compiled_methods", {})
    specs = keras.tree.map_structure(lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), x)
    key = (method, coupling, str(specs))
    if key not in cache:

        @tf.function(input_signature=[specs, *scalars], autograph=False, jit_compile=False)
        def compiled(x, *scalars):
            return getattr(draws, method)(x, *scalars, coupling)

        cache[key] = compiled.get_concrete_function()  # called as it is, it never warns of retracing across models
    return cache[key]
