"""Scores against numpy and scikit-learn, from parameters that are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import score
from tfbnn.prediction import Prediction

S, B = 30, 50
RNG = np.random.default_rng(0)
LOC, SCALE = RNG.normal(5.0, 2.0, [S, B, 1]), RNG.uniform(0.5, 2.0, [S, B, 1])
Y = RNG.normal(5.0, 3.0, B)
LOGITS = RNG.normal(0.0, 2.0, [S, B, 3])
CLASSES = RNG.integers(0, 3, B)


def regression() -> Prediction:
    return Prediction(np.concatenate([LOC, SCALE], axis=-1), likelihoods.Normal())


def three_classes() -> Prediction:
    return Prediction(LOGITS, likelihoods.Categorical(3))


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def test_the_log_likelihood_is_that_of_the_mixture():
    density = stats.norm(LOC[..., 0], SCALE[..., 0]).pdf(Y).mean(axis=0)
    assert score(regression(), Y)["log_likelihood"] == pytest.approx(np.log(density).mean(), rel=1e-5)


def test_the_log_likelihood_of_classes_is_the_log_of_the_averaged_probability():
    expected = -metrics.log_loss(CLASSES, softmax(LOGITS).mean(axis=0), labels=[0, 1, 2])
    assert score(three_classes(), CLASSES)["log_likelihood"] == pytest.approx(expected, rel=1e-5)


def test_errors_of_the_mean():
    mean = LOC.mean(axis=0)[:, 0]
    scores = score(regression(), Y)
    assert scores["rmse"] == pytest.approx(metrics.root_mean_squared_error(Y, mean), rel=1e-5)
    assert scores["mae"] == pytest.approx(metrics.mean_absolute_error(Y, mean), rel=1e-5)
    assert scores["rows"] == B


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_coverage_and_width_are_those_of_the_interval(level):
    grid = np.linspace(-20.0, 30.0, 4001)
    cdf = stats.norm(LOC[..., 0], SCALE[..., 0]).cdf(grid[:, None, None]).mean(axis=1)  # [grid, B]
    lower, upper = (
        np.array([np.interp(q, cdf[:, b], grid) for b in range(B)]) for q in (0.5 - level / 2, 0.5 + level / 2)
    )
    scores = score(regression(), Y, level)
    assert scores["interval_width"] == pytest.approx((upper - lower).mean(), rel=1e-4)
    assert scores["coverage"] == np.mean((lower <= Y) & (upper >= Y))
    assert 0.0 < scores["coverage"] < 1.0


def test_coverage_counts_targets_inside_alone():
    for y, share in ((LOC.mean(axis=0)[:, 0], 1.0), (np.full(B, 1e3), 0.0)):
        assert score(regression(), y)["coverage"] == share


def test_accuracy_and_brier():
    probabilities = softmax(LOGITS).mean(axis=0)
    scores = score(three_classes(), CLASSES)
    assert scores["accuracy"] == metrics.accuracy_score(CLASSES, probabilities.argmax(axis=1))
    expected = ((probabilities - np.eye(3)[CLASSES]) ** 2).sum(axis=1).mean()
    assert scores["brier"] == pytest.approx(expected, rel=1e-5)


def test_brier_of_two_classes_is_twice_that_of_scikit_learn():
    """Summed over both classes, as for K; scikit-learn counts the second alone."""
    prediction = Prediction(LOGITS[..., :1], likelihoods.Bernoulli())
    y = (CLASSES > 0).astype(int)
    p = (1.0 / (1.0 + np.exp(-LOGITS[..., 0]))).mean(axis=0)
    scores = score(prediction, y)
    assert scores["brier"] == pytest.approx(2.0 * metrics.brier_score_loss(y, p), rel=1e-5)
    assert scores["accuracy"] == metrics.accuracy_score(y, (p > 0.5).astype(int))
    assert scores["log_likelihood"] == pytest.approx(-metrics.log_loss(y, p), rel=1e-5)


def test_both_shapes_of_y_score_alike():
    assert score(regression(), Y) == score(regression(), Y[:, None])
    assert score(three_classes(), CLASSES) == score(three_classes(), CLASSES[:, None])


def test_several_targets_are_scored_together():
    loc, scale = np.repeat(LOC, 2, axis=-1), np.repeat(SCALE, 2, axis=-1)
    prediction = Prediction(np.concatenate([loc, scale], axis=-1), likelihoods.Normal(num_targets=2))
    y = np.stack([Y, Y + 1.0], axis=1)
    expected = np.sqrt(np.mean((LOC.mean(axis=0) - y) ** 2))
    assert score(prediction, y)["rmse"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("y", [Y[:-1], np.where(Y > 4, np.nan, Y), np.where(Y > 5, np.inf, Y), np.stack([Y, Y], 1)])
def test_targets_that_cannot_be_scored_are_refused(y):
    with pytest.raises(InvalidInput, match="`y`"):
        score(regression(), y)


@pytest.mark.parametrize("y", [CLASSES - 1, CLASSES + 1, CLASSES + 0.5, CLASSES[1:]])
def test_indices_of_no_class_are_refused(y):
    """Index -1 would be read as the last class."""
    with pytest.raises(InvalidInput, match="`y`"):
        score(three_classes(), y)


def test_a_level_is_a_share():
    with pytest.raises(InvalidInput, match="`level`"):
        score(regression(), Y, level=90)


def test_scores_of_counts_are_those_of_the_table_of_probabilities():
    """The interval of counts holds its edges: without them (the twin) its coverage is another."""
    rate, y = RNG.gamma(2.0, 3.0, [S, B, 1]), RNG.integers(0, 18, B)
    table = stats.poisson(rate).pmf(np.arange(200)).mean(axis=0)  # [B, 200]
    lower, upper = ((table.cumsum(axis=1) < q).sum(axis=1) for q in (0.05, 0.95))
    scores = score(Prediction(np.log(rate), likelihoods.Poisson()), y)
    assert scores["log_likelihood"] == pytest.approx(np.log(table[np.arange(B), y]).mean(), rel=1e-5)
    assert scores["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, rate.mean(axis=0)[:, 0]), rel=1e-5)
    assert scores["coverage"] == pytest.approx(np.mean((lower <= y) & (y <= upper)))
    assert scores["coverage"] != pytest.approx(np.mean((lower < y) & (y < upper)))
    assert scores["interval_width"] == pytest.approx(np.mean(upper - lower))
    with pytest.raises(InvalidInput, match="counts 0, 1, 2"):
        score(Prediction(np.log(rate), likelihoods.Poisson()), y + 0.5)
