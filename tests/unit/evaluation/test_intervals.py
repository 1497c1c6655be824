"""Interval scores by hand and by what they are proper for; PIT values of right and of wrong models."""

import numpy as np
import pytest
from scipy import stats

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import interval_quality, interval_score, pit
from tfbnn.prediction import Prediction

RNG = np.random.default_rng(0)
B = 2000
LOC = RNG.normal(0.0, 3.0, B)
Y = RNG.normal(LOC, 2.0)


def normal(scale):
    return Prediction(np.stack([LOC, np.full(B, scale)], axis=-1)[None], likelihoods.Normal())


def test_interval_score_by_hand():
    """Width 2; a = 0.2, so that 1 outside costs 10."""
    np.testing.assert_allclose(interval_score([0.0] * 3, [2.0] * 3, [1.0, -1.0, 2.5], 0.8), [2.0, 12.0, 7.0])


def test_the_true_distributions_interval_has_the_lowest_score():
    scores = {scale: interval_quality(normal(scale), Y, [0.9])[0].score for scale in (1.0, 2.0, 4.0)}
    assert min(scores, key=scores.get) == 2.0


def test_quality_at_several_levels():
    """Of B rows, coverage errs by more than 4 sqrt(p (1 - p) / B) in 6 of 100,000 cases."""
    found = interval_quality(normal(2.0), Y, [0.5, 0.9])
    for quality in found:
        assert abs(quality.coverage - quality.level) < 4 * np.sqrt(quality.level * (1 - quality.level) / B)
        assert quality.width == pytest.approx(4.0 * stats.norm.ppf(0.5 + quality.level / 2), rel=1e-4)
    too_sure = interval_quality(normal(1.0), Y, [0.9])[0]
    assert abs(too_sure.coverage - 0.9) > 4 * np.sqrt(0.09 / B)


def test_pit_of_a_right_model_is_uniform_and_of_a_wrong_one_is_not():
    """Kolmogorov-Smirnov at 1 in 1,000: with 2,000 rows it sees a difference of 0.044."""
    assert stats.kstest(pit(normal(2.0), Y)[:, 0], "uniform").pvalue > 1e-3
    for scale in (1.0, 4.0):
        assert stats.kstest(pit(normal(scale), Y)[:, 0], "uniform").pvalue < 1e-3


def test_pit_of_counts_is_uniform_only_because_it_is_random_within_a_count():
    rate = RNG.gamma(2.0, 1.0, B)
    y = RNG.poisson(rate)
    counts = Prediction(np.log(rate)[None, :, None], likelihoods.Poisson())
    u = pit(counts, y)
    assert stats.kstest(u[:, 0], "uniform").pvalue > 1e-3
    assert stats.kstest(counts.cdf(y)[:, 0], "uniform").pvalue < 1e-3  # the twin
    np.testing.assert_array_equal(u, pit(counts, y))
    assert (u != pit(counts, y, seed=1)).any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidInput, match="`y`"):
        interval_score([0.0], [1.0], [[0.5]])
    with pytest.raises(InvalidInput, match="`level`"):
        interval_score([0.0], [1.0], [0.5], 90)
    with pytest.raises(InvalidInput, match="`y`"):
        interval_quality(normal(1.0), Y[:-1])
    with pytest.raises(InvalidInput, match="regression"):
        pit(Prediction(np.zeros([2, 3, 1]), likelihoods.Bernoulli()), [0, 1, 1])
