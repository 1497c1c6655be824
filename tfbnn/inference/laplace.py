"""Laplace's approximation: a Gaussian about the weights that training found, of the posterior's own curvature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid, one_of, positive_number, whole_number
from tfbnn.core.draws import Draws
from tfbnn.inference.base import Inference, has_posteriors, own_likelihood, refuse_datasets
from tfbnn.layers.base import VariationalLayer, WeightTerm
from tfbnn.prediction import GaussianDraws
from tfbnn.prediction.gaussian_draws import KRONECKER_FACTORS, PREDICTIVES, STRUCTURES, WHICH, gaussian_weights
from tfbnn.prediction.jacobians import DensePass, LayerWeights, flat, size_of
from tfbnn.training import BayesianModel
from tfbnn.training.curvature import CURVATURES, Curvature, Data, log_likelihood
from tfbnn.training.loop import rows_of

FULL_AT_MOST = 5000  # weights: the matrix then takes 200 MB in float64, its decomposition some seconds
BY_EVIDENCE = "marginal_likelihood"
LOG_PRECISIONS = np.linspace(np.log(1e-6), np.log(1e8), 65)  # where the search begins
GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)
LOG_TWO_PI = float(np.log(2.0 * np.pi))


class Laplace(Inference):
    """p(w|X, y) ~ Normal(w*, T H^-1), w* = argmax_w log p(y, w|X) found by training, T the temperature.

    H = sum over rows of J^T Lambda J + diag(d): the generalised Gauss-Newton matrix of -log p(y|X, w) at w* (J = df/dw,
    Lambda the curvature of -log p(y|f) by f, which is Fisher's where that is known) and the prior's precision d. The
    evidence is log p(y|X) ~ log p(y, w*|X) - log det(H) / 2 + W log(2 pi) / 2. With structure "full" it counts also
    g^T H^-1 g / 2, g the slope of log p(y, w|X) at w*: that of the linearised model at its own mode, where w* is not
    quite one, or one for another precision (Antoran et al. 2022). For a linear network and a Normal likelihood all
    this is exact.

    A learned noise scale of the likelihood is a point estimate (type-II maximum likelihood), as in training. A network
    without priors is trained without, and w* is kept whatever precision is found: give layers priors, where that
    matters.

    Args:
        network, likelihood, optimizer, seed, **kwargs: of `Inference`.
        structure: "full": all of H, at most 5000 weights; "kronecker": of each dense layer alone the product of two
            factors (Ritter 2018); "diagonal": H's diagonal.
        weights: "all", or "last": of the last layer that has some; the others stay points.
        prior_precision: d. None: that of the layers' priors, and where layers have none, one number of the highest
            evidence. A number, or "marginal_likelihood", the one of highest evidence: d of all weights, in place of
            the layers' priors Normal(0, 1 / d); training keeps the layers' own.
        predictive: "linearised": f_s(x) = f(x, w*) + J(x) (w_s - w*); "sampled": f_s(x) = f(x, w_s), which fits
            worse where w_s leaves the region in which H tells the posterior.
        temperature: T, above 0; below 1 the posterior is narrower than H tells. The evidence is that of T = 1.

    Attributes:
        log_marginal_likelihood: the evidence of the last `fit`, nats.
        prior_precision_found: the precision of highest evidence, where it was asked for; else None.

    Example:
        >>> method = tfbnn.inference.Laplace(network, tfbnn.likelihoods.Normal().adapt(y), seed=0)
        >>> draws = method.fit(x, y, epochs=300)
        >>> method.log_marginal_likelihood

    Reference: MacKay 1992; Ritter, Botev & Barber 2018; Immer, Korzepa & Bauer 2021; Daxberger et al. 2021, "Laplace
        Redux"; Antoran et al. 2022, "Adapting the linearised Laplace model evidence for modern deep learning".
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any = "adam",
        structure: str = "kronecker",
        weights: str = "all",
        prior_precision: float | str | None = None,
        predictive: str = "linearised",
        temperature: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, seed, **kwargs)
        self.structure = one_of("structure", structure, STRUCTURES)
        self.weights = one_of("weights", weights, WHICH)
        self.prior_precision = _check_precision(prior_precision)
        self.predictive = one_of("predictive", predictive, PREDICTIVES)
        self.temperature = positive_number("temperature", temperature)
        self.log_marginal_likelihood: float | None = None
        self.prior_precision_found: float | None = None

    def fit(self, x, y=None, epochs=1, batch_size=32, **training) -> Draws:
        """Trains, then measures the curvature; `training` holds further arguments of `tfbnn.train`.

        Args:
            x, y, batch_size, **training: of `tfbnn.train`; rows that have a `sample_weight` count by it here too.
            epochs: of training; 0: the network, of points, is trained already, and is used as it is.

        Returns:
            `GaussianDraws`, whose metadata tell the evidence and the prior precision.
        """
        refuse_datasets(x, "Laplace")
        model = self._untrained(epochs)
        rows = rows_of(model, x, y, training.get("sample_weight"))
        model.build_for(rows["x"])
        parts = self._parts(model.network)
        if epochs:
            self.train(model, x, y, epochs=epochs, batch_size=batch_size, **training)
        data = _data(rows, model.choose_num_data(training.get("num_data"), len(rows["y"])))
        curvature = CURVATURES[self.structure].of(model.network, model.likelihood, parts, data)
        evidence = Evidence.of(model, parts, data, curvature, self.prior_precision is None)
        self.model = model
        return self._draws(evidence, parts)

    def _untrained(self, epochs: int) -> BayesianModel:
        number = whole_number(epochs)
        if number is None or number < 0:
            raise invalid("epochs", "a whole number, 0 or more", epochs)
        if number == 0 and has_posteriors(self.network):
            mend = "Train first: epochs=100; or give a trained network of Deterministic posteriors or Keras layers."
            raise invalid("epochs", "1 or more, because the network is no trained network of points", 0, mend)
        return self.compiled(self.points(takes_dropout=False), own_likelihood(self.likelihood))

    def _parts(self, network: keras.Model) -> list[LayerWeights]:
        parts = gaussian_weights(network, self.weights, self.structure)
        W = _num_weights(parts)
        if self.structure == "full" and W > FULL_AT_MOST:
            expected = f"'kronecker' or 'diagonal' for more than {FULL_AT_MOST} weights"
            raise invalid("structure", expected, f"'full' with {W} weights", "Or weights='last'.")
        if self.structure == "kronecker":
            DensePass(network, parts)  # tells before training whether it will be possible after it
        return parts

    def _draws(self, evidence: Evidence, parts: Sequence[LayerWeights]) -> GaussianDraws:
        precision = self._precision(evidence)
        self.log_marginal_likelihood = evidence.at(precision)
        factors = self._widened(evidence.curvature.factors(evidence.precisions(precision)))
        metadata = {
            "method": "Laplace",
            "structure": self.structure,
            "weights": self.weights,
            "prior_precision": precision,
            "log_marginal_likelihood": self.log_marginal_likelihood,
            "num_weights": _num_weights(parts),
            "temperature": self.temperature,
        }
        return GaussianDraws(self.model.network, self.model.likelihood, self.structure, self.weights, self.predictive,
                             factors, self.model.seed, metadata)  # fmt: skip

    def _precision(self, evidence: Evidence) -> float | None:
        """The number d; None where the layers' priors tell it for every weight."""
        self.prior_precision_found = None
        if evidence.known.all():
            return None
        if self.prior_precision not in (None, BY_EVIDENCE):
            return float(self.prior_precision)
        evidence.curvature.prepared()
        self.prior_precision_found = float(np.exp(highest(lambda log: evidence.at(float(np.exp(log))))))
        return self.prior_precision_found

    def _widened(self, factors: list[np.ndarray]) -> list[np.ndarray]:
        """sqrt(T) F; of the three of each dense layer, R_a, s, R_g, the middle one carries it."""
        width = np.sqrt(self.temperature)
        if self.structure != "kronecker":
            return [width * factor for factor in factors]
        return [width * factor if i % KRONECKER_FACTORS == 1 else factor for i, factor in enumerate(factors)]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """log p(y|X) as a function of the precision of those weights whose prior is Normal(0, 1 / precision).

    Attributes:
        log_likelihood: log p(y|X, w*), nats.
        w: w*, [W].
        curvature: G.
        known: which weights have a prior of their own, [W].
        log_prior: log p(w*) of those.
        prior_slope: d log p(w) / dw of those at w*, [W]; 0 for the others.
        prior_curvature: -d^2 log p(w) / dw^2 of those, [W]; 0 for the others.
    """

    log_likelihood: float
    w: np.ndarray
    curvature: Curvature
    known: np.ndarray
    log_prior: float
    prior_slope: np.ndarray
    prior_curvature: np.ndarray

    @classmethod
    def of(
        cls, model: BayesianModel, parts: Sequence[LayerWeights], data: Data, curvature: Curvature, with_priors: bool
    ) -> Evidence:
        """At the model's weights; `with_priors`: by the priors of its layers."""
        variables = [variable for part in parts for variable in part.variables]
        value = log_likelihood(model.network, model.likelihood, data)
        priors = [_prior_of(part, variable, with_priors) for part in parts for variable in part.variables]
        log_prior = sum(prior.log_prob for prior in priors)
        slope, bend = (np.concatenate([getattr(p, name) for p in priors]) for name in ("gradient", "curvature"))
        known = np.concatenate([np.full(len(prior.gradient), prior.known) for prior in priors])
        w = flat([variable.value for variable in variables]).numpy().astype(np.float64)
        return cls(value, w, curvature, known, log_prior, slope, bend)

    def precisions(self, precision: float | None) -> np.ndarray:
        """d, [W]."""
        return np.where(self.known, self.prior_curvature, 0.0 if precision is None else precision)

    def at(self, precision: float | None) -> float:
        """log p(y|X), nats."""
        d, free = self.precisions(precision), ~self.known
        w, of_free = self.w[free], d[free]
        log_prior = self.log_prior + 0.5 * float((np.log(of_free) - LOG_TWO_PI - of_free * w**2).sum())
        log_volume = 0.5 * len(d) * LOG_TWO_PI - 0.5 * self.curvature.log_det(d)
        gain = self.curvature.newton_gain(d, np.where(self.known, self.prior_slope, -d * self.w))
        return self.log_likelihood + log_prior + log_volume + gain


@dataclasses.dataclass(frozen=True)
class _PriorAt:
    """log p(w*), its derivatives by each number of a tensor, [W_i]; zeros where no prior is known."""

    known: bool
    log_prob: float
    gradient: np.ndarray
    curvature: np.ndarray


def _prior_of(part: LayerWeights, variable: keras.Variable, with_priors: bool) -> _PriorAt:
    term = _term_of(part.layer, variable) if with_priors else None
    if term is None or term.p is None:
        zeros = np.zeros(size_of([variable]))
        return _PriorAt(False, 0.0, zeros, zeros)
    penalty, by_w, bends = _derivatives(term, variable, [tf.ones(variable.shape), _uneven(variable)])
    if not np.allclose(bends[1], bends[0] * flat([_uneven(variable)]).numpy(), rtol=1e-3, atol=1e-6):
        raise invalid("network", "priors of each weight alone", f"another one in layer {part.layer.name}",
                      "Give a number as prior_precision, or layers with priors.Normal.")  # fmt: skip
    return _PriorAt(True, -penalty, -by_w, bends[0])


def _derivatives(
    term: WeightTerm, variable: keras.Variable, directions: Sequence[tf.Tensor]
) -> tuple[float, np.ndarray, list[np.ndarray]]:
    """-log p(w), its slope, and its Hessian times each direction, which for ones is the diagonal, if that is all."""
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            inner.watch(variable.value)
            penalty = term.penalty()
        by_w = tf.convert_to_tensor(inner.gradient(penalty, variable.value))
        along = [tf.reduce_sum(by_w * direction) for direction in directions]
    bends = [outer.gradient(each, variable.value, unconnected_gradients="zero") for each in along]
    return float(penalty), _float64(by_w), [_float64(bend) for bend in bends]


def _float64(tensor: tf.Tensor) -> np.ndarray:
    return flat([tensor]).numpy().astype(np.float64)


def _uneven(variable: keras.Variable) -> tf.Tensor:
    """Another number for each weight."""
    return tf.reshape(tf.linspace(0.5, 1.5, size_of([variable])), variable.shape)


def _term_of(layer: keras.layers.Layer, variable: keras.Variable) -> WeightTerm | None:
    terms = layer.weight_terms if isinstance(layer, VariationalLayer) else ()
    return next((term for term in terms if getattr(term.q, "loc", None) is variable), None)


def highest(fn: Callable[[float], float]) -> float:
    """Where fn is highest within `LOG_PRECISIONS`: about the best of them, by golden section."""
    best = int(np.argmax([fn(at) for at in LOG_PRECISIONS]))
    low, high = LOG_PRECISIONS[max(best - 1, 0)], LOG_PRECISIONS[min(best + 1, len(LOG_PRECISIONS) - 1)]
    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_a, at_b = fn(a), fn(b)
    while high - low > 1e-5:
        if at_a > at_b:
            high, b, at_b = b, a, at_a
            a = high - GOLDEN * (high - low)
            at_a = fn(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + GOLDEN * (high - low)
            at_b = fn(b)
    return float(0.5 * (low + high))


def _data(rows: dict[str, Any], num_data: int) -> Data:
    """Rows that together count as N, by their weights, as in training."""
    weights = np.ones(len(rows["y"])) if "w" not in rows else rows["w"].numpy().astype(np.float64)
    return Data(rows["x"], rows["y"], num_data * weights / weights.sum())


def _num_weights(parts: Sequence[LayerWeights]) -> int:
    return sum(size_of(part.variables) for part in parts)


def _check_precision(value: Any) -> float | str | None:
    if isinstance(value, str):
        return one_of("prior_precision", value, [BY_EVIDENCE])
    return None if value is None else positive_number("prior_precision", value)
