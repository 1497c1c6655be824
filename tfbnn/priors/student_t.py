"""Student's t as a prior."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import finite_number, positive_number
from tfbnn.core.serialization import register
from tfbnn.priors.base import Prior, WeightPrior

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class _StudentTWeightPrior(WeightPrior):
    df: float
    loc: float
    scale: float
    shape: tuple[int, ...]

    def distribution(self) -> Any:
        base = tfd.StudentT(self.df, tf.fill(self.shape, self.loc), self.scale)
        return tfd.Independent(base, reinterpreted_batch_ndims=len(self.shape))


@register
class StudentT(Prior):
    """p(w) ~ (1 + ((w - loc) / scale)^2 / df)^(-(df + 1) / 2), each weight alone: polynomial tails.

    A weight that the data want large costs little, however large. The KL is Monte Carlo, one draw a step.

    When: weights of which a few are large.
    Cost: no numbers; a Monte Carlo KL.

    Args:
        df: degrees of freedom, above 0; 1 is Cauchy's, large ones are Gaussian.
        loc: where the peak is.
        scale: its width, above 0.

    Raises:
        InvalidInput: where `df` or `scale` is not above 0, or `loc` is not finite.

    Example:
        >>> tfbnn.layers.DenseFlipout(10, kernel_prior_fn=tfbnn.priors.StudentT(df=3.0, scale=0.3))

    Reference: Fortuin et al. 2022, "Bayesian Neural Network Priors Revisited", section 4.
    """

    def __init__(self, df: float = 3.0, loc: float = 0.0, scale: float = 1.0):
        self.df = positive_number("df", df)
        self.loc = finite_number("loc", loc)
        self.scale = positive_number("scale", scale)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of one tensor; it has no variables."""
        return _StudentTWeightPrior(self.df, self.loc, self.scale, tuple(shape))
