"""The protocol of likelihoods p(y|f), and what those of numbers share."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import InvalidInput, invalid, positive_integer

SMALLEST_SCALE = 1e-4  # in standardised units: keeps a density finite where a net fits its rows exactly
SMALLEST_SPREAD = 100  # steps of float32 at the mean of y: rounding then adds 0.3 % of y's spread as noise


class Likelihood(keras.layers.Layer):
    """A Keras layer that turns the network's P outputs into P' complete parameters of a distribution of y.

    The network, its prior and its KL live in standardised units; parameters, densities and moments in the units of y.

    Attributes:
        num_outputs: P, what the network must put out for a row.
        num_targets: T, length of a row of y, [B, T].
        is_classifier: whether y is a class.
        is_discrete: whether y is a whole number, 0, 1, 2, ... (and no class): quantiles then are whole numbers too.
    """

    num_outputs: int
    num_targets: int
    is_classifier = False
    is_discrete = False

    def __init__(self, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})  # densities in float32 under mixed precision too
        self.built = type(self).build is keras.layers.Layer.build  # without a `build`, weights are made in __init__

    @abc.abstractmethod
    def distribution(self, parameters: tf.Tensor) -> Any:
        """`tfd` distribution of y with batch shape [..., T] for parameters [..., P']."""

    @abc.abstractmethod
    def log_prob(self, parameters: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """log p(y | parameters), nats a row: [..., B, P'], [B, T] -> [..., B]."""

    def expected_log_prob(self, mean: tf.Tensor, variance: tf.Tensor, y: tf.Tensor) -> tf.Tensor | None:
        """E[log p(y|f)] of outputs f_p ~ Normal(mean_p, variance_p), or a bound from below; None where unknown.

        Args:
            mean, variance: of the network's outputs, float32 [B, P].
            y: [B, T].

        Returns:
            float32 [B], nats a row; None: draw f.
        """
        return None

    @abc.abstractmethod
    def mean(self, parameters: tf.Tensor) -> tf.Tensor:
        """E[y]: [..., T] in the units of y; P(y = 1) [..., 1] for two classes; [..., K] of the one-hot y for K."""

    @abc.abstractmethod
    def variance(self, parameters: tf.Tensor) -> tf.Tensor:
        """Var[y] given the parameters, the aleatoric part, of the shape of `mean`."""

    @abc.abstractmethod
    def null_parameters(self, y: np.ndarray) -> np.ndarray:
        """The parameters [P'] of the null model, one answer for all rows, by shares or moments of targets y [N, T]."""

    def cdf(self, parameters: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """P(Y <= y | parameters) of each target alone: [..., P'], [..., T] -> [..., T]."""
        return self.distribution(parameters).cdf(y)

    def quantile_bracket(self, parameters: tf.Tensor, q: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Two values [..., T], perhaps the same, between which the quantile at q (of a shape that fits) lies.

        Cantelli's inequality: mean - stddev sqrt((1 - q) / q) <= quantile <= mean + stddev sqrt(q / (1 - q)).
        """
        mean, stddev = self.mean(parameters), tf.sqrt(self.variance(parameters))
        return mean - stddev * tf.sqrt((1.0 - q) / q), mean + stddev * tf.sqrt(q / (1.0 - q))

    def adapt(self, y: Any) -> Likelihood:
        """Fits what is fixed before training (the standardisation of y) on the training targets; returns itself."""
        self.check_target("y", np.asarray(y))
        return self

    def match_target(self, y: Any) -> tf.Tensor:
        """y as a tensor [B, T]; [B] gains its axis where T is 1.

        Raises:
            InvalidInput: for every other mismatch of shapes.
        """
        y = tf.convert_to_tensor(y)
        T = self.num_targets
        if y.shape.rank is None:  # a graph that has seen both [B] and [B, T]
            y = tf.reshape(y, [-1, 1]) if T == 1 else tf.ensure_shape(y, [None, T])
        self.check_target_shape("y", y.shape)
        return self._cast_target(y[:, tf.newaxis] if len(y.shape) == 1 else y)

    def check_target_shape(self, where: str, shape: Sequence[int | None]) -> None:
        """Raises unless targets of this shape, that of all rows, fit: [N, T], or [N] where T is 1."""
        T, sizes = self.num_targets, list(shape)
        if sizes[1:] == [T] or (len(sizes) == 1 and T == 1):
            return
        expected = f"shape [N, {T}]" + (" or [N]" if T == 1 else "")
        raise invalid(where, f"{expected} for {type(self).__name__}", sizes, self._mend_shape(sizes))

    def check_numbers(self, where: str, y: Any) -> np.ndarray:
        """Returns y as float64; raises, with the mend for labels, where it is text."""
        try:
            return np.asarray(y, np.float64)
        except (TypeError, ValueError):
            raise invalid(where, "numbers", y, self._mend_text) from None

    def check_outputs(self, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the network's `outputs`; raises unless they are [B, P]."""
        P = self.num_outputs
        if len(outputs.shape) != 2 or outputs.shape[-1] != P:
            raise invalid(
                "network",
                f"a network that puts out [B, {P}] for {type(self).__name__}",
                f"outputs of shape {list(outputs.shape)}",
                f"Give its last layer {P} unit{'s' if P > 1 else ''}.",
            )
        return outputs

    def check_target(self, where: str, y: np.ndarray) -> None:
        """Raises where values of y are impossible under this likelihood; `y` is NumPy [N] or [N, T]."""

    def _cast_target(self, y: tf.Tensor) -> tf.Tensor:
        return tf.cast(y, tf.float32)

    _mend_text = "Text names classes: use Bernoulli or Categorical, or give numbers."

    def _mend_shape(self, shape: list[int | None]) -> str:
        return ""

    def compute_output_shape(self, input_shape):
        """[B, P] -> [B, P']."""
        return (*input_shape[:-1], self.num_parameters)

    @property
    def num_parameters(self) -> int:
        """P', length of a row of complete parameters."""
        return self.num_outputs


class RegressionLikelihood(Likelihood):
    """A likelihood of T numbers a row, independent given the parameters.

    Args:
        num_targets: T, targets a row.
    """

    def __init__(self, num_targets: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_targets = positive_integer("num_targets", num_targets)

    def add_target_weight(self, name: str, begin: float, trainable: bool = False) -> Any:
        """A weight [T], a number a target, which is `begin` at first."""
        initializer = keras.initializers.Constant(begin)
        return self.add_weight(name=name, shape=(self.num_targets,), initializer=initializer, trainable=trainable)

    def parts(self, parameters: tf.Tensor) -> list[tf.Tensor]:
        """Parameters [..., k T] as k parts [..., T]."""
        return tf.split(parameters, self.num_parameters // self.num_targets, axis=-1)

    def log_prob(self, parameters, y):
        return tf.reduce_sum(self.distribution(parameters).log_prob(y), axis=-1)

    def check_target(self, where, y):
        if not np.issubdtype(y.dtype, np.number) or not _fits_float32(y):
            raise invalid(where, "finite numbers", y, "Drop or mend the rows whose target is missing or infinite.")

    def _checked(self, y: Any) -> np.ndarray:
        """Training targets as float64 [N, T]; raises where they do not fit."""
        y = self.check_numbers("y", y)
        self.check_target_shape("y", y.shape)
        self.check_target("y", y)
        return y.reshape(-1, self.num_targets)

    def _mend_shape(self, shape):
        width = shape[1] if len(shape) == 2 else len(shape)  # [N] is one target a row
        if len(shape) not in (1, 2) or not width:
            return ""
        return f"For {width} target{'s' if width > 1 else ''} a row: {type(self).__name__}(num_targets={width})."

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_targets": self.num_targets}


class StandardisedLikelihood(RegressionLikelihood):
    """A location-scale family: the target is target_loc + target_scale * (what the network's parameters are of)."""

    def __init__(self, num_targets: int = 1, **kwargs: Any):
        super().__init__(num_targets, **kwargs)
        self.target_loc = self.add_target_weight("target_loc", 0.0)
        self.target_scale = self.add_target_weight("target_scale", 1.0)

    def adapt(self, y: Any) -> Likelihood:
        """Takes mean and standard deviation of the training targets, [N] or [N, T], for the standardisation.

        Raises:
            InvalidInput: where y is impossible, does not fit T, or does not vary by more than float32 can tell.
        """
        y = self._checked(y)
        _check_spread(y)
        y = self._on_real_line(y)
        self.target_loc.assign(y.mean(axis=0))
        self.target_scale.assign(y.std(axis=0))
        return self

    def _on_real_line(self, y: np.ndarray) -> np.ndarray:
        return y

    def in_units_of_y(self, loc: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Standardised loc [..., T] and scale (of a shape that fits) in units of y, both [..., T]."""
        target_scale = self.target_scale.value
        loc = self.target_loc.value + target_scale * loc
        return loc, tf.broadcast_to(target_scale * scale, tf.shape(loc))


def refused_rows(where: str, y: np.ndarray, bad: np.ndarray, expected: str, mend: str) -> InvalidInput:
    """The error for the targets y, [N] or [N, T], at `bad` (bool of its shape): the first of them, and its row."""
    y, bad = np.atleast_1d(y, bad)
    rows = np.flatnonzero(bad.reshape(len(y), -1).any(axis=1))
    told = "1 row has" if len(rows) == 1 else f"{len(rows)} rows have"
    told = f"{told} such a value, first row {rows[0]} (rows count from 0)."
    return invalid(where, expected, float(y[bad][0]), f"{told} {mend}")


def _fits_float32(y: np.ndarray) -> bool:
    return bool((np.abs(np.asarray(y, np.float64)) <= np.finfo(np.float32).max).all())  # false for NaN too


def _check_spread(y: np.ndarray) -> None:
    """Raises where a column of y, float64 [N, T], does not vary, or so little that float32 would round it away."""
    if len(y) == 0:
        raise invalid("y", "training targets that vary", "0 rows")
    if not (np.ptp(y, axis=0) > 0).all():
        raise invalid("y", "training targets that vary", f"{len(y)} rows, all {y[0].tolist()}")
    for mean, stddev in zip(y.mean(axis=0), y.std(axis=0), strict=True):
        step = np.spacing(np.float32(abs(mean)))
        if stddev < SMALLEST_SPREAD * step:
            raise invalid(
                "y",
                f"a standard deviation of {SMALLEST_SPREAD} steps of float32 or more",
                f"standard deviation {stddev:.3g} about mean {mean:.6g}, where float32 has steps of {step:.2g}",
                f"Subtract the offset first, in float64: y {'-' if mean > 0 else '+'} {abs(mean):.6g}.",
            )
