"""Gaussian likelihoods: one noise scale for all rows, or a scale that the network predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import invalid, positive_integer, positive_number
from tfbnn.core.serialization import register
from tfbnn.likelihoods.base import Likelihood

tfd = tfp.distributions

SMALLEST_SCALE = 1e-4  # in standardised units: keeps a density finite where a net fits its rows exactly
SMALLEST_SPREAD = 100  # steps of float32 at the mean of y: rounding then adds 0.3 % of y's spread as noise


class _Gaussian(Likelihood):
    """What both share: y = target_loc + target_scale * (standardised y), parameters [..., 2 T] = loc, scale."""

    def __init__(self, num_targets: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_targets = positive_integer("num_targets", num_targets)
        self.target_loc = self._fixed("target_loc", "zeros")
        self.target_scale = self._fixed("target_scale", "ones")

    def _fixed(self, name: str, initializer: str) -> Any:
        return self.add_weight(name=name, shape=(self.num_targets,), initializer=initializer, trainable=False)

    def adapt(self, y: Any) -> Likelihood:
        """Takes mean and standard deviation of the training targets, [N] or [N, T], for the standardisation.

        Raises:
            InvalidInput: where y is not finite, does not fit T, or does not vary by more than float32 can tell.
        """
        y = self.check_numbers("y", y)
        self.check_target_shape("y", y.shape)
        self.check_target("y", y)
        y = y.reshape(-1, self.num_targets)
        _check_spread(y)
        self.target_loc.assign(y.mean(axis=0))
        self.target_scale.assign(y.std(axis=0))
        return self

    def check_target(self, where, y):
        if not np.issubdtype(y.dtype, np.number) or not _fits_float32(y):
            raise invalid(where, "finite numbers", y, "Drop or mend the rows whose target is missing or infinite.")

    def _in_units_of_y(self, loc: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        target_scale = self.target_scale.value
        loc = self.target_loc.value + target_scale * loc
        return tf.concat([loc, tf.broadcast_to(target_scale * scale, tf.shape(loc))], axis=-1)

    def distribution(self, parameters):
        return tfd.Normal(parameters[..., : self.num_targets], parameters[..., self.num_targets :])

    def log_prob(self, parameters, y):
        return tf.reduce_sum(self.distribution(parameters).log_prob(y), axis=-1)

    def mean(self, parameters):
        return parameters[..., : self.num_targets]

    def variance(self, parameters):
        return tf.square(parameters[..., self.num_targets :])

    @property
    def num_parameters(self):
        """2 T: loc and scale."""
        return 2 * self.num_targets

    def _mend_shape(self, shape):
        width = shape[1] if len(shape) == 2 else len(shape)  # [N] is one target a row
        if len(shape) not in (1, 2) or not width:
            return ""
        return f"For {width} target{'s' if width > 1 else ''} a row: {type(self).__name__}(num_targets={width})."

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_targets": self.num_targets}


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


@register
class Normal(_Gaussian):
    """y ~ Normal(f, scale^2), one noise scale for all rows.

    The learned scale is a point estimate (type-II maximum likelihood): it has no prior and no KL.

    Args:
        scale: None: learned; a number: the known standard deviation of the noise, in units of y.
        num_targets: T, targets a row; each has its own scale.

    Example:
        >>> likelihood = tfbnn.likelihoods.Normal().adapt(y_train)
    """

    def __init__(self, scale: float | None = None, num_targets: int = 1, **kwargs: Any):
        super().__init__(num_targets, **kwargs)
        self.scale = None if scale is None else positive_number("scale", scale)
        self.num_outputs = self.num_targets
        self.rho = self.add_weight(
            name="rho", shape=(num_targets,), initializer=_begin_at_one, trainable=self.scale is None
        )

    def call(self, outputs):
        """[B, T] standardised means -> [B, 2 T] loc and scale in units of y."""
        return self._in_units_of_y(outputs, self._standardised_scale())

    def _standardised_scale(self) -> tf.Tensor:
        if self.scale is not None:
            return self.scale / self.target_scale.value
        return tf.math.softplus(self.rho.value) + SMALLEST_SCALE

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale}


def _begin_at_one(shape: Any, dtype: Any = None) -> tf.Tensor:
    return tf.fill(shape, float(np.log(np.expm1(1.0))))  # softplus of it is 1: all of y is noise at first


@register
class HeteroscedasticNormal(_Gaussian):
    """y ~ Normal(f_1, softplus(f_2)^2): the network predicts each row's noise scale too.

    Args:
        num_targets: T, targets a row; the network puts out T means, then T free scales.

    Reference: Nix & Weigend 1994; Kendall & Gal 2017, equation 5.
    """

    def __init__(self, num_targets: int = 1, **kwargs: Any):
        super().__init__(num_targets, **kwargs)
        self.num_outputs = 2 * self.num_targets

    def call(self, outputs):
        """[B, 2 T] standardised means and free scales -> [B, 2 T] loc and scale in units of y."""
        loc, free = outputs[..., : self.num_targets], outputs[..., self.num_targets :]
        return self._in_units_of_y(loc, tf.math.softplus(free) + SMALLEST_SCALE)
