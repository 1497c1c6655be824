"""The curvature of -log p(y|X, w) at the weights of a network, and what a Gaussian with it is made of.

G = sum over rows of J^T Lambda J, the generalised Gauss-Newton matrix: J = df/dw of a row, Lambda the curvature of
-log p(y|f) by the outputs f. H = G + diag(d), d the precision of each weight's prior, is that of -log p(y, w|X).

Reference: Schraudolph 2002; Martens & Grosse 2015 and Ritter, Botev & Barber 2018 for the Kronecker factors.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import InvalidInput, invalid
from tfbnn.likelihoods import Likelihood, StudentT
from tfbnn.prediction.jacobians import (
    NUMBERS_AT_ONCE,
    DensePass,
    LayerWeights,
    flat,
    outputs_of,
    row_jacobians,
    size_of,
)

ROWS_AT_ONCE = 1024
PASSES_AGREE = 1e-3  # share of a gradient by which two ways to compute it may differ in float32
HALVES_AGREE = 0.1  # the same, in the 16 bits of mixed precision


@dataclasses.dataclass(frozen=True)
class Data:
    """Training rows: x [N, ...], y [N, T], and how many rows each counts as, [N]."""

    x: Any
    y: tf.Tensor
    counts: np.ndarray

    def parts(self, size: int = ROWS_AT_ONCE) -> Iterator[Data]:
        """The rows, at most so many at once."""
        for i in range(0, len(self.y), size):
            x = keras.tree.map_structure(lambda part, i=i: part[i : i + size], self.x)
            yield Data(x, self.y[i : i + size], self.counts[i : i + size])


def log_likelihood(network: keras.Model, likelihood: Likelihood, data: Data) -> float:
    """log p(y|X, w), nats."""
    each = (likelihood.log_prob(likelihood(outputs_of(network, part.x)), part.y) for part in data.parts())
    return float(np.concatenate([rows.numpy().astype(np.float64) for rows in each]) @ data.counts)


# --- the outputs' curvature -------------------------------------------------------------------------------------------


def output_curvature(likelihood: Likelihood, f: tf.Tensor, y: tf.Tensor) -> np.ndarray:
    """Lambda of each row, by the network's outputs f [B, P]: float64 [B, P, P].

    The Fisher information, E[-d^2 log p(y|f) / df^2] over y given f, for StudentT and where TFP knows KL(p_f || p_f'),
    whose curvature at f' = f it is; for Bernoulli, Categorical and Normal of one scale that is the Hessian itself.
    Else the Hessian at the y that was seen (which is both for Poisson), its eigenvalues below 0 replaced by 0.
    """
    divergence = _student_t_to if isinstance(likelihood, StudentT) else _kl_to
    try:
        return _hessians(f, lambda free: divergence(likelihood, f, free))
    except NotImplementedError:
        observed = _hessians(f, lambda free: -likelihood.log_prob(likelihood(free), y))
    values, vectors = np.linalg.eigh(observed)
    return np.einsum("bpk,bk,bqk->bpq", vectors, np.maximum(values, 0.0), vectors)


def _kl_to(likelihood: Likelihood, f: tf.Tensor, free: tf.Tensor) -> tf.Tensor:
    """KL(p(y|f) || p(y|free)) of each row, [B]."""
    at, moving = (likelihood.distribution(likelihood(outputs)) for outputs in (tf.stop_gradient(f), free))
    return tf.reduce_sum(tfp.distributions.kl_divergence(at, moving), axis=-1)


def _student_t_to(likelihood: StudentT, f: tf.Tensor, free: tf.Tensor) -> tf.Tensor:
    """As KL(p(y|f) || p(y|free)) to second order: (df + 1) / (df + 3) times the square of (loc' - loc) / scale, / 2.

    Reference: Lange, Little & Taylor 1989, appendix B.
    """
    loc, scale, df = likelihood.parts(likelihood(tf.stop_gradient(f)))
    moved = likelihood.parts(likelihood(free))[0]
    return 0.5 * tf.reduce_sum((df + 1.0) / (df + 3.0) * tf.square((moved - loc) / scale), axis=-1)


def _slopes(likelihood: Likelihood, f: tf.Tensor, y: tf.Tensor) -> np.ndarray:
    """d log p(y|f) / df of each row, float64 [B, P]."""
    with tf.GradientTape() as tape:
        tape.watch(f)
        total = tf.reduce_sum(likelihood.log_prob(likelihood(f), y))
    return tape.gradient(total, f).numpy().astype(np.float64)


def _hessians(f: tf.Tensor, of_rows: Callable[[tf.Tensor], tf.Tensor]) -> np.ndarray:
    """d^2 of_rows(f)_b / df_b^2, float64 [B, P, P]."""
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(f)
        with tf.GradientTape() as inner:
            inner.watch(f)
            total = tf.reduce_sum(of_rows(f))
        each = tf.unstack(inner.gradient(total, f), axis=-1)
    rows = [outer.gradient(by_p, f, unconnected_gradients="zero") for by_p in each]
    found = tf.stack(rows, axis=1).numpy().astype(np.float64)
    return 0.5 * (found + found.transpose(0, 2, 1))


def roots(curvature: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """C [B, P, P] with C C^T = counts Lambda."""
    values, vectors = np.linalg.eigh(curvature)
    return vectors * np.sqrt(np.maximum(values, 0.0) * counts[:, np.newaxis])[:, np.newaxis, :]


# --- structures -------------------------------------------------------------------------------------------------------


class Curvature(abc.ABC):
    """G in some structure; each question is of H = G + diag(d), d [W] the prior precision of each weight."""

    @classmethod
    @abc.abstractmethod
    def of(cls, network: keras.Model, likelihood: Likelihood, parts: Sequence[LayerWeights], data: Data) -> Curvature:
        """That of log p(y|X, w) at the present weights of `parts`."""

    def prepared(self) -> Curvature:
        """Itself, after what makes many questions of one precision for all weights cheap has been done once."""
        return self

    @abc.abstractmethod
    def log_det(self, d: np.ndarray) -> float:
        """log det H."""

    def newton_gain(self, d: np.ndarray, slope_of_prior: np.ndarray) -> float:
        """What the linearised model's joint density gains, in nats, from w* to its mode; 0 where it is not counted.

        Args:
            d: [W].
            slope_of_prior: d log p(w) / dw at w*, [W].
        """
        return 0.0

    @abc.abstractmethod
    def factors(self, d: np.ndarray) -> list[np.ndarray]:
        """F with F F^T = H^-1, as `GaussianDraws` takes it."""


class FullCurvature(Curvature):
    """All of G.

    Args:
        G: [W, W].
        slope: d log p(y|X, w) / dw, [W], of the same Jacobians: rounded otherwise, it would leave the range of G.
    """

    def __init__(self, G: np.ndarray, slope: np.ndarray):
        self.G = G
        self.slope = slope
        self._spectrum: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(cls, network: keras.Model, likelihood: Likelihood, parts: Sequence[LayerWeights], data: Data):
        """sum over rows of (C^T J)^T C^T J."""
        W = _num_weights(parts)
        G, slope = np.zeros([W, W]), np.zeros(W)
        for part, f, J in _with_jacobians(network, likelihood, parts, data):
            CJ = _times_root(likelihood, part, f, J)
            G += CJ.T @ CJ
            slope += np.einsum("b,bp,bpw->w", part.counts, _slopes(likelihood, f, part.y), J)
        return cls(G, slope)

    def prepared(self):
        """G = V diag(l) V^T, after which det H = prod(l + d)."""
        values, vectors = np.linalg.eigh(self.G)
        self._spectrum = values, vectors
        return self

    def log_det(self, d):
        if self._spectrum is not None and np.ptp(d) == 0.0:
            return float(np.log(np.maximum(self._spectrum[0], 0.0) + d).sum())
        return 2.0 * float(np.log(np.diag(self._cholesky(d))).sum())

    def newton_gain(self, d, slope_of_prior):
        """g^T H^-1 g / 2."""
        gradient = self.slope + slope_of_prior
        if self._spectrum is not None and np.ptp(d) == 0.0:
            values, vectors = self._spectrum
            return 0.5 * float(((gradient @ vectors) ** 2 / (np.maximum(values, 0.0) + d)).sum())
        return 0.5 * float(gradient @ np.linalg.solve(self.G + np.diag(d), gradient))

    def factors(self, d):
        """[L^-T], H = L L^T."""
        return [np.linalg.inv(self._cholesky(d)).T]

    def _cholesky(self, d: np.ndarray) -> np.ndarray:
        H = self.G + np.diag(d)
        try:
            return np.linalg.cholesky(H)
        except np.linalg.LinAlgError:
            raise not_at_a_mode(np.linalg.eigvalsh(H)[0]) from None


class DiagonalCurvature(Curvature):
    """The diagonal of G.

    Args:
        G: [W].
    """

    def __init__(self, G: np.ndarray):
        self.G = G

    @classmethod
    def of(cls, network: keras.Model, likelihood: Likelihood, parts: Sequence[LayerWeights], data: Data):
        """sum over rows and outputs of (C^T J)^2."""
        G = np.zeros(_num_weights(parts))
        for part, f, J in _with_jacobians(network, likelihood, parts, data):
            G += np.square(_times_root(likelihood, part, f, J)).sum(axis=0)
        return cls(G)

    def log_det(self, d):
        return float(np.log(self._positive(d)).sum())

    def factors(self, d):
        """[1 / sqrt(H_ii)]."""
        return [1.0 / np.sqrt(self._positive(d))]

    def _positive(self, d: np.ndarray) -> np.ndarray:
        H = self.G + d
        if H.min() <= 0.0:
            raise not_at_a_mode(H.min())
        return H


def _num_weights(parts: Sequence[LayerWeights]) -> int:
    return sum(size_of(part.variables) for part in parts)


def _with_jacobians(
    network: keras.Model, likelihood: Likelihood, parts: Sequence[LayerWeights], data: Data
) -> Iterator[tuple[Data, tf.Tensor, np.ndarray]]:
    """Some rows at once, with f [B, P] and J [B, P, W], float64."""
    variables = [variable for part in parts for variable in part.variables]
    specs = keras.tree.map_structure(lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), data.x)
    jacobians = tf.function(lambda x: row_jacobians(network, variables, x), autograph=False)
    jacobians = jacobians.get_concrete_function(specs)
    size = max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // (size_of(variables) * likelihood.num_outputs)))
    for part in data.parts(size):
        yield part, outputs_of(network, part.x), jacobians(part.x).numpy().astype(np.float64)


def _times_root(likelihood: Likelihood, rows: Data, f: tf.Tensor, J: np.ndarray) -> np.ndarray:
    """C^T J of all rows, [B P, W], whose product with itself sums to G."""
    C = roots(output_curvature(likelihood, f, rows.y), rows.counts)
    return np.matmul(C.transpose(0, 2, 1), J).reshape(-1, J.shape[-1])


@dataclasses.dataclass(frozen=True)
class DenseFactors:
    """G of a dense layer, nearly: A kron B, A = mean of a a^T [R, R], B = sum of g Lambda g^T [U, U].

    It is exact for one row. D^-1/2 A D^-1/2 = V diag(alpha) V^T, B = Q diag(beta) Q^T turn H = A kron B + D kron I,
    D the prior precision of each of the R inputs, into (D^1/2 V kron Q) diag(alpha beta + 1) (V^T D^1/2 kron Q^T).
    """

    name: str
    A: np.ndarray
    B: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """R, U."""
        return len(self.A), len(self.B)

    def spectrum(self, d: np.ndarray) -> tuple[np.ndarray, ...]:
        """D [R], alpha [R], V, beta [U], Q for the prior precision d [R U]."""
        D = self._of_inputs(d.reshape(self.shape))
        alpha, V = self._equal_spectrum if np.ptp(D) == 0.0 else np.linalg.eigh(self.A / np.sqrt(np.outer(D, D)))
        alpha = np.maximum(alpha / D[0] if np.ptp(D) == 0.0 else alpha, 0.0)
        beta, Q = self._output_spectrum
        return D, alpha, V, np.maximum(beta, 0.0), Q

    def _of_inputs(self, d: np.ndarray) -> np.ndarray:
        if d.min() <= 0.0:
            raise not_at_a_mode(d.min())
        if np.ptp(d, axis=1).max() > 1e-6 * d.max():
            expected = f"'full' or 'diagonal', because the priors of layer {self.name} differ from unit to unit"
            mend = "Or give a number as prior_precision, or layers with priors.Normal."
            raise invalid("structure", expected, "kronecker", mend)
        return d[:, 0]

    @functools.cached_property
    def _equal_spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = np.linalg.eigh(self.A)
        return values, vectors

    @functools.cached_property
    def _output_spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = np.linalg.eigh(self.B)
        return values, vectors


class KroneckerCurvature(Curvature):
    """G of dense layers alone, each two factors; no curvature between layers.

    Args:
        layers: in the order of the weights.
    """

    def __init__(self, layers: Sequence[DenseFactors]):
        self.layers = list(layers)

    @classmethod
    def of(cls, network: keras.Model, likelihood: Likelihood, parts: Sequence[LayerWeights], data: Data):
        """Means and sums over rows."""
        one_pass = DensePass(network, parts)
        A, B = [np.zeros([1, 1])] * len(parts), [np.zeros([1, 1])] * len(parts)
        for i, rows in enumerate(data.parts()):
            f, layers = one_pass(rows.x)
            if i == 0:
                _check_pass(network, parts, rows.x, layers)
            C = roots(output_curvature(likelihood, f, rows.y), rows.counts)
            for number, (a, g) in enumerate(layers):
                a, g = a.numpy().astype(np.float64), g.numpy().astype(np.float64)
                Cg = np.matmul(C.transpose(0, 2, 1), g).reshape(-1, g.shape[-1])
                A[number] = A[number] + (a * rows.counts[:, np.newaxis]).T @ a / data.counts.sum()
                B[number] = B[number] + Cg.T @ Cg
        return cls([DenseFactors(part.layer.name, *both) for part, *both in zip(parts, A, B, strict=True)])

    def log_det(self, d):
        total = 0.0
        for layer, part in self._parts(d):
            D, alpha, _, beta, _ = layer.spectrum(part)
            total += np.log1p(np.outer(alpha, beta)).sum() + layer.shape[1] * np.log(D).sum()
        return float(total)

    def factors(self, d):
        """R_a = D^-1/2 V, s = (alpha beta + 1)^-1/2, R_g = Q of each layer."""
        found = []
        for layer, part in self._parts(d):
            D, alpha, V, beta, Q = layer.spectrum(part)
            found += [V / np.sqrt(D)[:, np.newaxis], 1.0 / np.sqrt(np.outer(alpha, beta) + 1.0), Q]
        return found

    def _parts(self, d: np.ndarray) -> Iterator[tuple[DenseFactors, np.ndarray]]:
        ends = np.cumsum([R * U for R, U in (layer.shape for layer in self.layers)])[:-1]
        return zip(self.layers, np.split(d, ends), strict=True)


def _check_pass(network: keras.Model, parts: Sequence[LayerWeights], x: Any, layers: Sequence[Any]) -> None:
    """Raises where sum_b a_b g_b is not the gradient: a user's own kind of dense layer."""
    variables = [[variable.value for variable in part.variables] for part in parts]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(outputs_of(network, x))
    expected = tape.gradient(total, variables, unconnected_gradients="zero")
    for part, values, (a, g) in zip(parts, expected, layers, strict=True):
        true, found = flat(values).numpy(), np.einsum("br,bpu->ru", a, g).reshape(-1)
        rounding = PASSES_AGREE if part.layer.compute_dtype == "float32" else HALVES_AGREE
        if np.abs(found - true).max() > rounding * max(np.abs(true).max(), np.abs(found).max()):
            told = f"one whose layer {part.layer.name}, a {type(part.layer).__name__}, computes something else"
            raise invalid("network", "dense layers that compute activation(x kernel + bias)", told,
                          "Take structure 'full' or 'diagonal'.")  # fmt: skip


def not_at_a_mode(smallest: float) -> InvalidInput:
    """The error for an H that is no precision."""
    return invalid(
        "network",
        "weights at a mode, where the precision of the posterior is positive definite",
        f"one whose smallest eigenvalue is {smallest:.3g}",
        "Train longer (more epochs); or give a prior that is curved upwards everywhere, as priors.Normal; or a number, "
        "larger than now, as prior_precision.",
    )


CURVATURES: dict[str, type[Curvature]] = {
    "full": FullCurvature,
    "kronecker": KroneckerCurvature,
    "diagonal": DiagonalCurvature,
}
