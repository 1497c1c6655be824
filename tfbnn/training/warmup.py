"""What a Markov chain learns before its draws count: its step size, and the scale of each coordinate."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

GAMMA, DELAY, KAPPA = 0.05, 10.0, 0.75  # gamma, t_0 and kappa of the paper
FIRST, WINDOW, LAST = 75, 25, 50  # steps, as in Stan
SMALLEST_WARMUP = 20  # below, scales are not learned


class StepSize(NamedTuple):
    """Dual averaging: the step size eps at which the mean acceptance probability is delta.

        H_t = (1 - 1 / (t + t_0)) H_{t-1} + (delta - alpha_t) / (t + t_0)
        log eps_t = mu - sqrt(t) / gamma H_t,    mu = log(10 eps_0)
        log mean eps_t = t^-kappa log eps_t + (1 - t^-kappa) log mean eps_{t-1}

    Reference: Hoffman & Gelman 2014, "The No-U-Turn Sampler", equation 6 and algorithm 5.
    """

    count: Any
    error: Any
    log_step: Any
    log_average: Any
    centre: Any

    @classmethod
    def begin(cls, step_size: float) -> StepSize:
        """Before the first step."""
        log_step = math.log(step_size)
        return cls(*(np.float32(value) for value in (0.0, 0.0, log_step, log_step, math.log(10.0) + log_step)))

    def next(self, acceptance: tf.Tensor, target: float) -> StepSize:
        """After a step that was accepted with probability `acceptance`."""
        t = self.count + 1.0
        error = (1.0 - 1.0 / (t + DELAY)) * self.error + (target - acceptance) / (t + DELAY)
        log_step = self.centre - tf.sqrt(t) / GAMMA * error
        weight = t**-KAPPA
        return StepSize(t, error, log_step, weight * log_step + (1.0 - weight) * self.log_average, self.centre)


class RunningVariance(NamedTuple):
    """Variance of each coordinate within the chains, in float64.

    Attributes:
        draws: how many a chain.
        mean, squares: means, and sums of squares about them, [C, D].
    """

    draws: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def begin(cls, chains: int, size: int) -> RunningVariance:
        """Of no draws."""
        return cls(np.zeros(()), np.zeros((chains, size)), np.zeros((chains, size)))

    def next(self, more: np.ndarray) -> RunningVariance:
        """With [T, C, D] more (Chan, Golub & LeVeque 1979, equation 2.1)."""
        n, T = self.draws, len(more)
        mean = more.mean(axis=0, dtype=np.float64)
        shift = mean - self.mean
        squares = self.squares + np.square(more - mean).sum(axis=0) + np.square(shift) * n * T / (n + T)
        return RunningVariance(np.asarray(n + T), self.mean + shift * T / (n + T), squares)

    def scale(self) -> np.ndarray:
        """Standard deviations [D], float32, drawn a little to 1e-3 where draws are few, as in Stan.

        variance = (n s^2 + 5 * 1e-3) / (n + 5), s^2 the mean over chains of the variance in each.
        """
        chains = len(self.mean)
        n = float(self.draws) * chains
        variance = self.squares.sum(axis=0) / (n - chains)
        return np.sqrt((n * variance + 5e-3) / (n + 5.0)).astype(np.float32)


def windows(warmup: int) -> list[int]:
    """Steps after which the scales are set anew from the draws since the last time, from the second number on.

    First the chains find the bulk (until the first number), then windows double, then the step size settles.

    Reference: Carpenter et al. 2017, "Stan"; Stan Reference Manual, "HMC algorithm parameters", automatic tuning.
    """
    if warmup < SMALLEST_WARMUP:
        return []
    short = warmup < FIRST + WINDOW + LAST
    begin, end = (round(0.15 * warmup), warmup - round(0.1 * warmup)) if short else (FIRST, warmup - LAST)
    ends, size = [begin], min(WINDOW, end - begin)
    while ends[-1] < end:
        until = ends[-1] + size
        ends.append(end if until + 2 * size > end else until)
        size *= 2
    return ends
