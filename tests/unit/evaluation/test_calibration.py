"""Calibration errors against TFP and by hand; the Brier score's parts sum to it."""

import numpy as np
import pytest
import tensorflow_probability as tfp
from scipy import stats
from sklearn import calibration, metrics

from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import brier_decomposition, expected_calibration_error, reliability
from tfbnn.evaluation.base import expected_distance

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0.0, 2.0, [400, 3])
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
Y = RNG.integers(0, 3, 400)


def rows_of(p, seed=1):
    """Classes 0 and 1, the second with probability p: what p tells is right."""
    return (np.random.default_rng(seed).random(len(p)) < p).astype(int)


def test_equal_width_is_that_of_tfp():
    expected = tfp.stats.expected_calibration_error(
        15, logits=np.log(P).astype("float32"), labels_true=Y.astype("int32")
    )
    assert expected_calibration_error(P, Y) == pytest.approx(float(expected), rel=1e-4)


def test_bins_are_those_of_scikit_learn():
    found = reliability(P[:, 1], Y == 1, bins=10)
    frequency, confidence = calibration.calibration_curve(Y == 1, P[:, 1], n_bins=10)
    np.testing.assert_allclose(found.frequency, frequency)
    np.testing.assert_allclose(found.confidence, confidence)
    assert found.count.sum() == 400
    assert found.share.sum() == pytest.approx(1.0)


def test_by_hand():
    """Two bins: conf 0.9 right in 1 of 2, conf 0.6 right in 2 of 2."""
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    y = [0, 1, 0, 0]
    assert expected_calibration_error(p, y) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    v = 0.5 * 0.5 / 2
    noisy = stats.foldnorm(0.4 / np.sqrt(v), scale=np.sqrt(v)).mean()
    assert expected_calibration_error(p, y, debiased=True) == pytest.approx(0.5 * (0.8 - noisy) + 0.5 * 0.4)


def test_adaptive_bins_hold_equally_many_rows_and_equal_values_together():
    assert set(reliability(P, Y, bins=8, scheme="adaptive").count) == {50}
    tied = np.repeat([0.2, 0.7], 50)
    order = RNG.permutation(100)
    y = rows_of(tied)
    errors = {expected_calibration_error(tied[i], y[i], scheme="adaptive") for i in (np.arange(100), order)}
    assert len(errors) == 1
    assert list(reliability(tied, y, scheme="adaptive").count) == [50, 50]


def test_classwise_is_the_mean_over_the_classes():
    each = [expected_calibration_error(P[:, k], np.equal(Y, k)) for k in range(3)]
    assert expected_calibration_error(P, Y, scheme="classwise") == pytest.approx(np.mean(each))


def test_debiasing_takes_off_what_noise_adds_and_leaves_what_is_wrong():
    """A right model's error is below that of the plain estimate by half or more; a wrong model's stays."""
    z = np.random.default_rng(2).normal(0.0, 2.5, [40, 500])
    right = 1.0 / (1.0 + np.exp(-z))
    wrong = 1.0 / (1.0 + np.exp(-3.0 * z))

    def mean_error(told, debiased):
        pairs = enumerate(zip(told, right, strict=True))
        return np.mean([expected_calibration_error(p, rows_of(q, i), debiased=debiased) for i, (p, q) in pairs])

    mean = {
        (name, debiased): mean_error(told, debiased)
        for name, told in (("right", right), ("wrong", wrong))
        for debiased in (False, True)
    }
    assert mean["right", True] < 0.65 * mean["right", False]
    assert mean["wrong", True] > 0.85 * mean["wrong", False]
    assert mean["wrong", True] > 3 * mean["right", True]


def test_expected_distance_is_the_folded_normal():
    mean, stddev = np.array([-0.3, 0.0, 2.0]), np.array([0.5, 1.0, 0.1])
    expected = stats.foldnorm(np.abs(mean) / stddev, scale=stddev).mean()
    np.testing.assert_allclose(expected_distance(mean, stddev**2), expected)
    assert expected_distance(np.array(-0.7), np.array(0.0)) == pytest.approx(0.7)


@pytest.mark.parametrize("scheme", ["equal_width", "adaptive"])
@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_parts_of_the_brier_score_sum_to_it(scheme, bins):
    parts = brier_decomposition(P, Y, bins, scheme)
    assert parts.brier == pytest.approx(np.mean(np.sum((P - np.eye(3)[Y]) ** 2, axis=1)), rel=1e-12)
    total = parts.uncertainty - parts.resolution + parts.reliability + parts.within_bins
    assert total == pytest.approx(parts.brier, rel=1e-12)
    assert abs(parts.within_bins) > 1e-4  # the twin: Murphy's three parts alone do not


def test_murphys_three_parts_are_all_where_bins_hold_one_probability():
    p = np.repeat([0.1, 0.5, 0.9], 40)
    y = rows_of(p)
    parts = brier_decomposition(p, y, bins=10)
    assert parts.within_bins == pytest.approx(0.0, abs=1e-12)
    assert parts.brier == pytest.approx(2.0 * metrics.brier_score_loss(y, p))
    assert parts.uncertainty == pytest.approx(2.0 * y.mean() * (1 - y.mean()))


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ((P, Y[:-1]), "`y`"),
        ((P, Y + 1), "`y`"),
        ((P[:, 0], Y), "`y`"),
        ((P * 2, Y), "`probabilities`"),
        ((np.where(P > 0.9, np.nan, P), Y), "`probabilities`"),
        ((P[:0], Y[:0]), "`probabilities`"),
        ((P[None], Y), "`probabilities`"),
        ((P, Y, 0), "`bins`"),
        ((P, Y, 15, "equal"), "`scheme`"),
    ],
)
def test_what_cannot_be_binned_is_refused(arguments, where):
    with pytest.raises(InvalidInput, match=where):
        expected_calibration_error(*arguments)
