"""The protocol of priors p(w)."""

from __future__ import annotations

import abc
from typing import Any

import keras

from tfbnn.core.serialization import Configurable


class WeightPrior(abc.ABC):
    """The prior of one tensor of one layer."""

    @abc.abstractmethod
    def distribution(self) -> Any:
        """The `tfd` distribution over tensors of the weight's shape, made anew so that it follows its variables."""


class Prior(Configurable, abc.ABC):
    """A factory: its constructor's arguments say what the prior is, `build` makes it for one tensor.

    Attributes:
        has_learned_scale: whether training may narrow the prior without end; layers refuse it for points, whose
            -log p(w) has no lower bound then, or one far below anything that data say.
        has_spike: whether a weight is exactly 0 with a probability above 0; layers refuse it for posteriors that
            have no such zeros.
    """

    has_learned_scale = False
    has_spike = False

    @abc.abstractmethod
    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of tensor `name` of `shape`; variables, where it has any, become weights of `layer`."""
