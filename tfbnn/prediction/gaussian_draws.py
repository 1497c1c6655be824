"""Draws of Gaussian weights about those of a network of points: what Laplace's approximation returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import invalid, one_of
from tfbnn.core.noise import DRAWS_PER_BLOCK, fold_in, normal_from_bits, seed_of_tensor
from tfbnn.core.serialization import register
from tfbnn.prediction.jacobians import (
    NUMBERS_AT_ONCE,
    DensePass,
    LayerWeights,
    in_parts,
    jacobian_products,
    outputs_of,
    row_jacobians,
    size_of,
    trained_weights,
    unflat,
)
from tfbnn.prediction.monte_carlo import Blocks, NetworkDraws

STRUCTURES = ("full", "kronecker", "diagonal")
WHICH = ("all", "last")
PREDICTIVES = ("linearised", "sampled")
KRONECKER_FACTORS = 3  # a layer: R_a, s, R_g
OWN_NOISE = -3  # in place of a layer's index, which the layers' own noise has


def gaussian_weights(network: keras.Model, weights: str, structure: str) -> list[LayerWeights]:
    """The weights that have a posterior: of all layers, or of the last that has some.

    Raises:
        InvalidInput: where there are none, or a layer has none that Kronecker factors are known for.
    """
    found = trained_weights(network)
    if not found:
        raise invalid("network", "a built network with weights that are trained", network.name)
    found = found[-1:] if one_of("weights", weights, WHICH) == "last" else found
    if one_of("structure", structure, STRUCTURES) == "kronecker":
        for part in found:
            _check_dense(part)
    return found


def _check_dense(part: LayerWeights) -> None:
    if not part.is_dense:
        expected = "'full' or 'diagonal', because Kronecker factors are known for dense layers alone"
        mend = (
            f"Layer {part.layer.name}, a {type(part.layer).__name__}, is none; where the last layer is dense, "
            "weights='last' leaves it a point."
        )
        raise invalid("structure", expected, "kronecker", mend)


@register
class GaussianDraws(NetworkDraws):
    """Endless draws w = w* + F eps, eps ~ Normal(0, I): w ~ Normal(w*, F F^T), w* the network's own weights.

    Sampled: draw s is the network with weights w_s. Linearised: f_s(x) = f(x, w*) + J(x) (w_s - w*), J = df / dw at
    w*; each row's f alone is Normal(f(x, w*), J F F^T J^T), which is drawn from directly where rows need no common w.

    Args:
        network: of points, built; sequential or functional for Kronecker factors.
        likelihood: turns its outputs into parameters.
        structure: "full": F [W, W]; "diagonal": F [W]; "kronecker": R_a [R, R], s [R, U], R_g [U, U] for each dense
            layer, F eps = R_a (s * eps) R_g^T, whose last of R rows is the bias.
        weights: "all", or "last": the last layer that has some.
        predictive: "linearised" or "sampled".
        factors: the arrays of F, in the order of the layers.
        seed: used where none is given.
        metadata: JSON-able: what the method has to tell.
        shapes: of Keras, when it loads a file; `factors` then is None.

    Example:
        >>> draws = GaussianDraws(network, likelihood, "diagonal", factors=[0.1 * np.ones(num_weights)])

    Reference: Immer, Korzepa & Bauer 2021, "Improving predictions of Bayesian neural nets via local linearization".
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: keras.layers.Layer,
        structure: str = "kronecker",
        weights: str = "all",
        predictive: str = "linearised",
        factors: Sequence[Any] | None = None,
        seed: int = 0,
        metadata: dict[str, Any] | None = None,
        shapes: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, seed, **kwargs)
        self.structure, self.weights_kind = structure, weights
        self.predictive = one_of("predictive", predictive, PREDICTIVES)
        self.metadata = dict(metadata or {})
        parts = gaussian_weights(network, weights, structure)
        variables = [variable for part in parts for variable in part.variables]
        self.shapes = [list(shape) for shape in (shapes or [tf.TensorShape(f.shape) for f in factors or []])]
        _check_shapes(self.shapes, structure, parts)
        # Past Keras' tracking, which would save the network's weights twice.
        self.__dict__["_variables"] = variables
        self.__dict__["_pass"] = DensePass(network, parts) if structure == "kronecker" else None
        self.factors = [self.add_weight(name=f"factor_{i}", shape=shape, initializer="zeros", trainable=False,
                                        dtype="float32", autocast=False)
                        for i, shape in enumerate(self.shapes)]  # fmt: skip
        for variable, values in zip(self.factors, factors or [], strict=factors is not None):
            variable.assign(values)

    # --- weights -----------------------------------------------------------------------------------------------------

    def drawn(self, seed, block):
        """w* + F eps of a block's draws."""
        changes = self._changes(seed, block)
        return [(v, tf.cast(v.value, dw.dtype) + dw) for v, dw in zip(self._variables, changes, strict=True)]

    def _changes(self, seed: tf.Tensor, block: tf.Tensor) -> list[tf.Tensor]:
        """F eps: [DRAWS_PER_BLOCK, *shape] of each variable."""
        return unflat(self._times_noise(seed, block), self._variables)

    def _times_noise(self, seed: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
        """F eps, [DRAWS_PER_BLOCK, W]."""
        if self.structure == "full":
            return tf.matmul(self._noise(seed, block, 0, [self.shapes[0][0]]), self.factors[0].value, transpose_b=True)
        if self.structure == "diagonal":
            return self._noise(seed, block, 0, self.shapes[0]) * self.factors[0].value
        each = []
        for i, (left, s, right) in enumerate(self._kronecker_factors()):
            eps = self._noise(seed, block, i, s.shape)
            dw = tf.einsum("ri,sij,uj->sru", left, s * eps, right)
            each.append(tf.reshape(dw, [DRAWS_PER_BLOCK, -1]))
        return tf.concat(each, axis=1)

    def _noise(self, seed: tf.Tensor, block: tf.Tensor, number: int, shape: Sequence[int]) -> tf.Tensor:
        """eps [DRAWS_PER_BLOCK, *shape]: a function of the seed, the block and the number of the tensor."""
        own = fold_in(seed_of_tensor(seed, OWN_NOISE, f"gaussian_{number}"), block)
        return normal_from_bits([DRAWS_PER_BLOCK, *shape], own)

    def _kronecker_factors(self) -> list[list[tf.Tensor]]:
        values = [variable.value for variable in self.factors]
        return [values[i : i + KRONECKER_FACTORS] for i in range(0, len(values), KRONECKER_FACTORS)]

    # --- outputs -----------------------------------------------------------------------------------------------------

    def _blocks(self, x, seed, coupling):
        if self.predictive == "sampled":
            return super()._blocks(x, seed, coupling)
        if coupling == "coherent":
            return Blocks(lambda block, _: self._linearised_block(x, seed, block))
        mean, root = self.output_moments(x)

        def of_rows_alone(block, _):
            eps = self._noise(seed, block, -1, [self.likelihood.num_outputs])
            return self._complete_draws(mean + tf.einsum("bpq,sq->sbp", root, eps))

        return Blocks(of_rows_alone)

    def _linearised_block(self, x: Any, seed: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
        """The parameters of f(x, w*) + J dw: [DRAWS_PER_BLOCK, B, P']."""
        P, changes = self.likelihood.num_outputs, self._changes(seed, block)
        f, along = jacobian_products(self.network, self._variables, x, P, changes)
        return self._complete_draws(f + along)

    def output_moments(self, x: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """f(x, w*) [B, P], and the symmetric root [B, P, P] of each row's covariance J F F^T J^T."""
        f = self.likelihood.check_outputs(outputs_of(self.network, x))
        return f, symmetric_root(self._output_covariance(x))

    def _output_covariance(self, x: Any) -> tf.Tensor:
        if self._pass is not None:
            return self._kronecker_covariance(x)

        def of_rows(rows):
            J = row_jacobians(self.network, self._variables, rows)
            F = self.factors[0].value
            JF = tf.einsum("bpw,wv->bpv", J, F) if self.structure == "full" else J * F
            return tf.matmul(JF, JF, transpose_b=True)

        numbers = self.likelihood.num_outputs * size_of(self._variables)
        return in_parts(of_rows, x, max(1, NUMBERS_AT_ONCE // numbers))

    def _kronecker_covariance(self, x: Any) -> tf.Tensor:
        """sum over layers of g^T R_g diag(sum_i (R_a^T a)_i^2 s_ij^2) R_g^T g: J is a g^T in each layer."""
        layers = self._pass(x)[1]
        each = []
        for (a, g), (left, s, right) in zip(layers, self._kronecker_factors(), strict=True):
            variance = tf.matmul(tf.square(tf.matmul(a, left)), tf.square(s))
            g = tf.einsum("bpu,uj->bpj", g, right) * tf.sqrt(variance)[:, tf.newaxis]
            each.append(tf.matmul(g, g, transpose_b=True))
        return tf.add_n(each)

    def get_config(self):
        """The constructor's arguments, but for the factors, which are weights."""
        return {
            **super().get_config(),
            "structure": self.structure,
            "weights": self.weights_kind,
            "predictive": self.predictive,
            "metadata": self.metadata,
            "shapes": [list(shape) for shape in self.shapes],
        }


def symmetric_root(covariance: tf.Tensor) -> tf.Tensor:
    """R = R^T with R R = covariance, [B, P, P]; rounding below 0 counts as 0."""
    if covariance.shape[-1] == 1:
        return tf.sqrt(tf.maximum(covariance, 0.0))
    values, vectors = tf.linalg.eigh(covariance)
    scaled = vectors * tf.sqrt(tf.maximum(values, 0.0))[..., tf.newaxis, :]
    return tf.matmul(scaled, vectors, transpose_b=True)


def _check_shapes(shapes: Sequence[Sequence[int]], structure: str, parts: Sequence[LayerWeights]) -> None:
    expected = factor_shapes(structure, parts)
    if [list(shape) for shape in shapes] != expected:
        raise invalid("factors", f"arrays of shapes {expected}", [list(shape) for shape in shapes])


def factor_shapes(structure: str, parts: Sequence[LayerWeights]) -> list[list[int]]:
    """The shapes of the arrays of F."""
    W = sum(size_of(part.variables) for part in parts)
    if structure != "kronecker":
        return [[W, W]] if structure == "full" else [[W]]
    found: list[list[int]] = []
    for part in parts:
        U = int(part.variables[0].shape[-1])
        R = size_of(part.variables) // U
        found += [[R, R], [R, U], [U, U]]
    return found
