"""The spike and slab: a weight is exactly 0, or Gaussian."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn.core.checks import check_share, positive_number
from tfbnn.core.serialization import register
from tfbnn.core.spike_and_slab import SpikeAndSlabNormal
from tfbnn.priors.base import Prior, WeightPrior


@dataclasses.dataclass(frozen=True)
class _SpikeAndSlabWeightPrior(WeightPrior):
    probability: float
    scale: float
    shape: tuple[int, ...]

    def distribution(self) -> Any:
        log_odds = tf.constant(math.log(self.probability) - math.log1p(-self.probability))
        return SpikeAndSlabNormal(log_odds, tf.zeros(self.shape), tf.fill(self.shape, self.scale))


@register
class SpikeAndSlab(Prior):
    """p(w) = (1 - probability) delta(w) + probability Normal(w; 0, scale^2): a weight is exactly 0, or it is not.

    It represents that most inputs or weights do not matter at all; it has no variables and costs nothing. It goes with
    `posteriors.HardConcrete`, whose draws have such zeros; the KL, which that class explains, needs no draw. Others are
    refused: under a posterior with a density no weight is ever 0, and the KL is that to Normal(0, scale^2) with
    -n log(probability) added, n the number of weights, whatever is learned.

    When: with HardConcrete: the share of weights that are thought to matter.
    Cost: no numbers; KL in closed form.

    Args:
        probability: that a gate is open, between 0 and 1; of all weights, or of whole groups of them where the
            posterior has a gate a group.
        scale: standard deviation of a weight whose gate is open, above 0.

    Raises:
        InvalidInput: for numbers out of range; from the layer, where the posterior is no HardConcrete.

    Example:
        >>> tfbnn.layers.DenseReparameterization(
        ...     10, kernel_posterior_fn="HardConcrete", kernel_prior_fn=tfbnn.priors.SpikeAndSlab(probability=0.1)
        ... )

    Reference: Mitchell & Beauchamp 1988, "Bayesian Variable Selection in Linear Regression"; Louizos, Welling & Kingma
    2018, "Learning Sparse Neural Networks through L0 Regularization", appendix A.
    """

    has_spike = True

    def __init__(self, probability: float = 0.5, scale: float = 1.0):
        self.probability = check_share("probability", probability)
        self.scale = positive_number("scale", scale)

    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of one tensor; it has no variables."""
        return _SpikeAndSlabWeightPrior(self.probability, self.scale, tuple(shape))
