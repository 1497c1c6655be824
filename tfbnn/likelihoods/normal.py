"""Gaussian likelihoods: one noise scale for all rows, or a scale that the network predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import positive_number
from tfbnn.core.positive import inverse_positive, positive
from tfbnn.core.serialization import register
from tfbnn.likelihoods.base import SMALLEST_SCALE, StandardisedLikelihood

tfd = tfp.distributions


class _Gaussian(StandardisedLikelihood):
    """What both share: parameters [..., 2 T] = loc, scale."""

    def distribution(self, parameters):
        return tfd.Normal(*self.parts(parameters))

    def quantile_bracket(self, parameters, q):
        """The quantile itself, twice."""
        quantile = self.distribution(parameters).quantile(q)
        return quantile, quantile

    def mean(self, parameters):
        return self.parts(parameters)[0]

    def variance(self, parameters):
        return tf.square(self.parts(parameters)[1])

    def null_parameters(self, y):
        return np.concatenate([y.mean(axis=0), y.std(axis=0)])

    @property
    def num_parameters(self):
        """2 T: loc and scale."""
        return 2 * self.num_targets


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
        self.rho = self.add_target_weight("rho", inverse_positive(1.0), trainable=self.scale is None)  # all is noise

    def call(self, outputs):
        """[B, T] standardised means -> [B, 2 T] loc and scale in units of y."""
        return tf.concat(self.in_units_of_y(outputs, self._standardised_scale()), axis=-1)

    def expected_log_prob(self, mean, variance, y):
        """log Normal(y; mean, scale^2) - variance / (2 scale^2), exact (Harrison 2024, section 3.1)."""
        spread = tf.reduce_sum(variance / tf.square(self._standardised_scale()), axis=-1)
        return self.log_prob(self(mean), y) - 0.5 * spread

    def _standardised_scale(self) -> tf.Tensor:
        if self.scale is not None:
            return self.scale / self.target_scale.value
        return positive(self.rho.value) + SMALLEST_SCALE

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale}


@register
class HeteroscedasticNormal(_Gaussian):
    """y ~ Normal(f_1, softplus(f_2)^2): the network predicts each row's noise scale too.

    Args:
        num_targets: T, targets a row; the network puts out T means, then T free scales.
        smallest_scale: added to each scale, in standard deviations of the training targets: how sure the net may be
            of a row that it fits exactly.

    Reference: Nix & Weigend 1994; Kendall & Gal 2017, equation 5.
    """

    def __init__(self, num_targets: int = 1, smallest_scale: float = SMALLEST_SCALE, **kwargs: Any):
        super().__init__(num_targets, **kwargs)
        self.smallest_scale = positive_number("smallest_scale", smallest_scale)
        self.num_outputs = 2 * self.num_targets

    def call(self, outputs):
        """[B, 2 T] standardised means and free scales -> [B, 2 T] loc and scale in units of y."""
        loc, free = outputs[..., : self.num_targets], outputs[..., self.num_targets :]
        return tf.concat(self.in_units_of_y(loc, positive(free) + self.smallest_scale), axis=-1)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "smallest_scale": self.smallest_scale}
