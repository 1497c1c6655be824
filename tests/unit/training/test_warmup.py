"""Dual averaging, running variances, and when they begin anew."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.training.warmup import RunningVariance, StepSize, windows


def acceptance_after(target, steps=400):
    """What dual averaging ends at where steps of size eps are accepted with probability exp(-eps)."""
    state = StepSize.begin(0.01)
    for _ in range(steps):
        state = state.next(tf.exp(-tf.exp(state.log_step)), target)
    return float(np.exp(-np.exp(state.log_average)))


@pytest.mark.parametrize("target", [0.6, 0.9])
def test_the_step_size_is_that_of_the_target(target):
    assert acceptance_after(target) == pytest.approx(target, abs=0.01)


def test_the_first_step_is_as_in_the_paper():
    state = StepSize.begin(0.1).next(tf.constant(0.3), 0.8)
    error = 0.5 / 11.0  # (delta - alpha) / (1 + t_0)
    assert float(state.log_step) == pytest.approx(np.log(1.0) - error / 0.05, rel=1e-5)
    assert float(state.log_average) == pytest.approx(float(state.log_step))


def test_the_scale_is_the_spread_within_chains():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(60, 3, 2)) * [1.0, 20.0] + 100.0 * np.arange(3)[:, np.newaxis]
    parts = RunningVariance.begin(3, 2)
    for part in np.split(draws, [7, 31]):
        parts = parts.next(part)
    variance = draws.var(axis=0, ddof=1).mean(axis=0)
    np.testing.assert_allclose(parts.scale(), np.sqrt((180 * variance + 5e-3) / 185), rtol=1e-6)


@pytest.mark.parametrize(
    ("warmup", "ends"),
    [(0, []), (19, []), (100, [15, 40, 90]), (500, [75, 100, 150, 250, 450]), (1000, [75, 100, 150, 250, 450, 950])],
)
def test_windows_double(warmup, ends):
    assert windows(warmup) == ends


def test_windows_rise_and_leave_an_end():
    for warmup in range(20, 400):
        ends = windows(warmup)
        assert ends == sorted(set(ends))
        assert 0 < ends[0] < ends[-1] < warmup
