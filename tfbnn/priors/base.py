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
            -log p(w) has no lower bound then.
    """

    has_learned_scale = False

    @abc.abstractmethod
    def build(self, layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> WeightPrior:
        """The prior of tensor `name` of `shape`; variables, where it has any, become weights of `layer`."""
