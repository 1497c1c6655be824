"""Schedules of beta, the weight of the KL in the loss: step -> beta."""

from __future__ import annotations

import abc
import numbers
from typing import Any

import tensorflow as tf

from tfbnn.core.checks import finite_number, invalid, positive_integer, positive_number
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


@register
class Cyclical(Schedule):
    """Ramps that begin anew: in each of `cycles` equal parts of `steps`, beta rises linearly, then stays at `end`.

    beta(step) = start + (end - start) min(tau / ramp, 1), where tau = (step mod (steps / cycles)) / (steps / cycles)
    is the share of the present cycle that is over; from `steps` on beta(step) = end.

    Args:
        steps: length of all cycles together, in optimizer steps.
        cycles: how many there are, `steps` at most.
        ramp: share of a cycle in which beta rises, above 0 and at most 1.
        start: beta where a cycle begins.
        end: beta after the ramp.

    Reference: Fu et al. 2019, "Cyclical Annealing Schedule", eq. 6 and 7.
    """

    def __init__(self, steps: int, cycles: int = 4, ramp: float = 0.5, start: float = 0.0, end: float = 1.0):
        self.steps = positive_integer("steps", steps)
        self.cycles = positive_integer("cycles", cycles)
        if self.cycles > self.steps:
            raise invalid("cycles", f"as many as there are steps ({self.steps}), or fewer", cycles)
        self.ramp = positive_number("ramp", ramp)
        if self.ramp > 1:
            raise invalid("ramp", "a share of a cycle, above 0 and at most 1", ramp)
        self.start = finite_number("start", start, smallest=0.0)
        self.end = finite_number("end", end, smallest=0.0)

    def __call__(self, step):
        step = tf.cast(step, tf.int64)
        within = tf.cast(step * self.cycles % self.steps, tf.float32) / float(self.steps)
        share = tf.where(step < self.steps, tf.minimum(within / self.ramp, 1.0), 1.0)
        return self.start + (self.end - self.start) * share


@register
class Sigmoid(Schedule):
    """beta(step) = start + (end - start) (g(u) - g(0)) / (g(1) - g(0)), u = min(step / steps, 1).

    g(u) = 1 / (1 + exp(-slope (u - midpoint))) is the logistic curve, rescaled so that beta is `start` at step 0 and
    `end` from step `steps` on.

    Args:
        steps: length of the rise, in optimizer steps.
        midpoint: share of `steps` at which the logistic curve is steepest, between 0 and 1.
        slope: how steep it is there, 1e-6 or more; the smaller, the more like Linear.
        start: beta at step 0.
        end: beta from step `steps` on.

    Reference: Bowman et al. 2016, "Generating Sentences from a Continuous Space", KL annealing.
    """

    def __init__(self, steps: int, midpoint: float = 0.5, slope: float = 10.0, start: float = 0.0, end: float = 1.0):
        self.steps = positive_integer("steps", steps)
        self.midpoint = finite_number("midpoint", midpoint)
        if not 0 <= self.midpoint <= 1:
            raise invalid("midpoint", "a share of the steps, between 0 and 1", midpoint)
        self.slope = finite_number("slope", slope, smallest=1e-6)
        self.start = finite_number("start", start, smallest=0.0)
        self.end = finite_number("end", end, smallest=0.0)

    def __call__(self, step):
        # In float64, because g(1) - g(0) is the small difference of two numbers near 1/2 where the slope is small.
        u = tf.minimum(tf.cast(step, tf.float64) / self.steps, 1.0)
        first, now, last = tf.unstack(tf.sigmoid(self.slope * (tf.stack([0.0, u, 1.0]) - self.midpoint)))
        share = tf.cast((now - first) / (last - first), tf.float32)
        return self.start + (self.end - self.start) * share


@register
class Blundell(Schedule):
    """The early batches of an epoch feel the prior, the late ones the data: batch i = 1 ... M has the share
    pi_i = 2^(M-i) / (2^M - 1) of the KL.

    beta(step) = M pi_i = M 2^-i / (1 - 2^-M), i = 1 + step mod M: our loss divides the KL by N and scales each batch's
    log likelihood to N rows, so that M pi_i, whose mean over an epoch is 1, gives the epoch the paper's sum.

    Args:
        num_batches: M, optimizer steps an epoch: ceil(N / batch size). Another number puts the epochs' beginnings
            at the wrong batches.

    Reference: Blundell et al. 2015, "Weight Uncertainty in Neural Networks", section 3.4.
    """

    def __init__(self, num_batches: int):
        self.num_batches = positive_integer("num_batches", num_batches)

    def __call__(self, step):
        place = 1 + tf.cast(step, tf.int64) % self.num_batches
        scale = self.num_batches / (1 - 0.5**self.num_batches)
        return tf.cast(scale * 0.5 ** tf.cast(place, tf.float64), tf.float32)


_FAMILY = Family(
    "beta",
    {"Blundell": Blundell, "Constant": Constant, "Cyclical": Cyclical, "Linear": Linear, "Sigmoid": Sigmoid},
    base=Schedule,
)

serialize = _FAMILY.serialize
deserialize = _FAMILY.deserialize


def get(identifier: Any) -> Schedule:
    """The schedule that a number, a name, a mapping with `class`, or an object means."""
    if isinstance(identifier, numbers.Real):
        return Constant(identifier)  # type: ignore[arg-type]
    return _FAMILY.get(identifier)
