"""Conformal sets and intervals: scores by hand, the rank of the threshold, and coverage that is what theory says."""

import numpy as np
import pytest

import tfbnn
from tfbnn.calibration import APS, LAC, ConformalizedQuantiles, StandardisedResidual, fewest_rows
from tfbnn.core.checks import InvalidInput

RNG = np.random.default_rng(0)
P = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])


def of_classes(p):
    return tfbnn.Prediction(np.log(p)[np.newaxis], tfbnn.likelihoods.Categorical(num_classes=p.shape[1]))


def of_numbers(loc, scale):
    parameters = np.stack([loc, np.broadcast_to(scale, loc.shape)], axis=-1)
    return tfbnn.Prediction(parameters[np.newaxis], tfbnn.likelihoods.Normal())


def test_scores_of_sets_by_hand():
    y = np.array([1, 0, 1])
    np.testing.assert_allclose(LAC().scores(of_classes(P), y), [0.7, 0.9, 0.75], rtol=1e-5)
    np.testing.assert_allclose(APS().scores(of_classes(P), y), [0.5, 0.8, 0.5], rtol=1e-5)


def test_sets_hold_what_fits_no_worse_than_the_threshold():
    assert LAC(0.9, 0.71)(of_classes(P))["prediction_set"].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert APS(0.9, 0.51)(of_classes(P))["prediction_set"].tolist() == [[1, 1, 0], [0, 1, 0], [1, 1, 1]]
    assert LAC(0.9, 0.1)(of_classes(P))["prediction_set"].sum() == 0


def test_aps_tells_the_likeliest_class_of_every_row_however_sure():
    """Of nets that are surer than float32 tells, too: where a class's own probability counts, all or none are told."""
    logits = RNG.normal(0.0, 30.0, size=(400, 10))
    y = np.where(RNG.uniform(size=400) < 0.99, logits.argmax(axis=1), RNG.integers(0, 10, 400))
    prediction = tfbnn.Prediction(logits[np.newaxis], tfbnn.likelihoods.Categorical(num_classes=10))
    sets = APS(0.9).fit(prediction, y)(prediction)["prediction_set"]
    assert sets[np.arange(400), logits.argmax(axis=1)].all()
    assert sets.sum(axis=1).mean() < 1.5


def test_an_interval_narrowed_by_more_than_its_width_is_its_midpoint():
    prediction = of_numbers(np.array([2.0, 0.0]), np.array([0.1, 5.0]))
    told = ConformalizedQuantiles(0.9, -1.0)(prediction)
    np.testing.assert_allclose([told["conformal_lower"][0], told["conformal_upper"][0]], 2.0, rtol=1e-5)
    lower, _ = prediction.interval(0.9)
    np.testing.assert_allclose(told["conformal_lower"][1], lower[1] + 1.0, rtol=1e-5)


@pytest.mark.parametrize("y", [np.zeros(29, int), np.zeros(1, int), 0])
def test_another_number_of_labels_is_told(y):
    p = RNG.dirichlet([1.0, 1.0, 1.0], 30)
    with pytest.raises(InvalidInput, match="30 rows, as were predicted"):
        LAC().fit(of_classes(p), y)
    with pytest.raises(InvalidInput, match="30 rows, as were predicted"):
        StandardisedResidual().fit(of_numbers(np.zeros(30), 1.0), y)


def test_intervals_by_hand():
    prediction = of_numbers(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    told = StandardisedResidual(0.9, 2.0)(prediction)
    np.testing.assert_allclose(told["conformal_lower"], [[-2.0], [-3.0]], rtol=1e-6)
    np.testing.assert_allclose(told["conformal_upper"], [[2.0], [5.0]], rtol=1e-6)
    lower, upper = prediction.interval(0.9)
    told = ConformalizedQuantiles(0.9, 0.5)(prediction)
    np.testing.assert_allclose(told["conformal_lower"], lower - 0.5, rtol=1e-5)
    np.testing.assert_allclose(told["conformal_upper"], upper + 0.5, rtol=1e-5)
    y = np.array([3.0, 1.0])
    expected = np.maximum(lower[:, 0] - y, y - upper[:, 0])
    np.testing.assert_allclose(ConformalizedQuantiles(0.9).scores(prediction, y)[:, 0], expected, rtol=1e-6)


def test_the_rows_that_a_level_needs():
    assert [fewest_rows(level) for level in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    n = fewest_rows(0.95)
    with pytest.raises(InvalidInput, match=r"19 rows or more to calibrate level 0\.95 on.*18 rows"):
        StandardisedResidual(0.95).fit(of_numbers(np.zeros(n - 1), 1.0), RNG.normal(size=n - 1))
    StandardisedResidual(0.95).fit(of_numbers(np.zeros(n), 1.0), RNG.normal(size=n))


def test_coverage_over_calibration_rows_is_that_of_the_rank():
    n, splits, level = 20, 2000, 0.9
    scores = np.abs(RNG.normal(size=(splits, n + 1)))
    zeros, covered, by_n_level = of_numbers(np.zeros(n), 1.0), 0, 0
    for row in scores[:300]:
        threshold = StandardisedResidual(level).fit(zeros, row[:n]).threshold[0]
        assert threshold == pytest.approx(np.sort(row[:n])[18], rel=1e-6)  # ceil(21 0.9) = 19
    thresholds, naive = np.sort(scores[:, :n], axis=1)[:, [18, 17]].T
    covered, by_n_level = np.mean(scores[:, n] <= thresholds), np.mean(scores[:, n] <= naive)
    standard_error = np.sqrt(0.09 / splits)
    assert abs(covered - 19 / 21) < 4 * standard_error
    assert abs(by_n_level - 19 / 21) > 4 * standard_error  # the quantile at `level` itself covers less


@pytest.mark.parametrize("kind", [LAC, APS])
def test_sets_cover_new_rows_even_of_a_confused_model(kind):
    p = RNG.dirichlet([1.0, 1.0, 1.0, 1.0], 6000)
    y = (p.cumsum(axis=1) < RNG.random((6000, 1))).sum(axis=1)
    for predicted in (p, p[:, ::-1]):
        fitted = kind(0.9).fit(of_classes(predicted[:3000]), y[:3000])
        sets = fitted(of_classes(predicted[3000:]))["prediction_set"]
        covered = np.mean(sets[np.arange(3000), y[3000:]])
        tolerance = 4 * np.sqrt(2 * 0.09 / 3000)
        assert 0.9 - tolerance < covered < 0.9 + tolerance


def test_mistakes():
    with pytest.raises(InvalidInput, match="likelihood of classes for LAC"):
        LAC().fit(of_numbers(np.zeros(30), 1.0), np.zeros(30))
    with pytest.raises(InvalidInput, match="likelihood of numbers for ConformalizedQuantiles"):
        ConformalizedQuantiles().check_kind(tfbnn.likelihoods.Bernoulli())
    with pytest.raises(InvalidInput, match="Call fit first"):
        LAC()(of_classes(P))
    with pytest.raises(InvalidInput, match="level"):
        LAC(1.0)


def test_it_is_read_back_from_its_description():
    fitted = APS(0.8, 0.75)
    assert tfbnn.calibration.deserialize(tfbnn.calibration.serialize(fitted)) == fitted
