"""Schedules of beta, the weight of the KL in the loss: step -> beta."""

from __future__ import annotations

import abc
import numbers
from typing import Any

import tensorflow as tf

from tfbnn.core.checks import finite_number, positive_integer
from tfbnn.core.serialization import Configurable, Family, register


class Schedule(Configurable, abc.ABC):
    """A function of the optimizer's step, counted from 0."""

    @abc.abstractmethod
    def __call__(self, step: Any) -> tf.Tensor:
        """beta at `step` (int scalar): float32 scalar."""


@register
class Constant(Schedule):
    """beta(step) = value. 1 is the ELBO; below 1 a cold posterior.

    Args:
        value: 0 or more.
    """

    def __init__(self, value: float = 1.0):
        self.value = finite_number("value", value, smallest=0.0)

    def __call__(self, step):
        return tf.constant(self.value)


@register
class Linear(Schedule):
    """beta(step) = start + (end - start) min(step / steps, 1): lets the fit come before the prior.

    Args:
        steps: length of the ramp, in optimizer steps.
        start: beta at step 0.
        end: beta from step `steps` on.

    Reference: Bowman et al. 2016, KL annealing.
    """

    def __init__(self, steps: int, start: float = 0.0, end: float = 1.0):
        self.steps = positive_integer("steps", steps)
        self.start = finite_number("start", start, smallest=0.0)
        self.end = finite_number("end", end, smallest=0.0)

    def __call__(self, step):
        share = tf.minimum(tf.cast(step, tf.float32) / float(self.steps), 1.0)
        return self.start + (self.end - self.start) * share


_FAMILY = Family("beta", {"Constant": Constant, "Linear": Linear}, base=Schedule)

serialize = _FAMILY.serialize
deserialize = _FAMILY.deserialize


def get(identifier: Any) -> Schedule:
    """The schedule that a number, a name, a mapping with `class`, or an object means."""
    if isinstance(identifier, numbers.Real):
        return Constant(identifier)  # type: ignore[arg-type]
    return _FAMILY.get(identifier)
