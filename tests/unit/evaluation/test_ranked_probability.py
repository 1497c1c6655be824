"""CRPS against its definition, and the exact formula against samples."""

import numpy as np
import pytest
from scipy import stats

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import crps
from tfbnn.prediction import Prediction

RNG = np.random.default_rng(0)
LOC, SCALE = RNG.normal(5.0, 2.0, [7, 4, 1]), RNG.uniform(0.5, 2.0, [7, 4, 1])
Y = np.array([3.0, 5.0, 9.0, -4.0])


def mixture():
    return Prediction(np.concatenate([LOC, SCALE], axis=-1), likelihoods.Normal())


def test_of_a_normal_mixture_is_the_integral_of_the_squared_distance():
    z = np.linspace(-30.0, 40.0, 200_001)
    F = stats.norm(LOC[..., 0, None], SCALE[..., 0, None]).cdf(z).mean(axis=0)
    expected = np.trapezoid((F - (Y[:, None] <= z)) ** 2, z)
    np.testing.assert_allclose(crps(mixture(), Y)[:, 0], expected, rtol=1e-4)


def test_of_one_normal_is_the_closed_form():
    one = Prediction(np.array([[[0.0, 1.0]]]), likelihoods.Normal())
    expected = 2 * stats.norm.pdf(0.3) + 0.3 * (2 * stats.norm.cdf(0.3) - 1) - 1 / np.sqrt(np.pi)
    assert crps(one, [0.3])[0, 0] == pytest.approx(expected, rel=1e-6)


def test_many_rows_are_done_in_parts(monkeypatch):
    expected = crps(mixture(), Y)
    monkeypatch.setattr("tfbnn.evaluation.ranked_probability.MOST_PAIRS", 60)
    np.testing.assert_allclose(crps(mixture(), Y), expected, rtol=1e-12)


def test_samples_err_by_their_number():
    """E|z - y| and E|z - z'| of 1,000 samples err by less than 4 stddev / sqrt(1000)."""
    student = Prediction(np.concatenate([LOC, SCALE, np.full_like(LOC, 1e6)], axis=-1), likelihoods.StudentT())
    error = np.abs(crps(student, Y) - crps(mixture(), Y))[:, 0]
    assert (error < 4 * mixture().stddev[:, 0] / np.sqrt(1000)).all()
    assert error.max() > 1e-6


def test_a_forecast_that_is_shifted_scores_worse():
    assert crps(mixture(), LOC.mean(axis=0) + 5).mean() > crps(mixture(), LOC.mean(axis=0)).mean() + 1


def test_classes_have_none():
    with pytest.raises(InvalidInput, match="Brier"):
        crps(Prediction(np.zeros([2, 3, 1]), likelihoods.Bernoulli()), [0, 1, 1])
