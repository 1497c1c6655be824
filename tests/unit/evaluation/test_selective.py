"""Risk-coverage by hand and in the limits; detection against its definitions; intervals against theory."""

import numpy as np
import pytest
from scipy import stats

from tfbnn import calibration, decision, likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import (
    UNCERTAINTIES,
    aurc,
    brier_decomposition,
    certainty,
    detection,
    excess_aurc,
    losses,
    risk_at,
    risk_coverage,
    score,
    score_detection,
    score_intervals,
    uncertainty,
    with_interval,
)  # fmt: skip
from tfbnn.prediction import Prediction

RNG = np.random.default_rng(0)
LOSS = (RNG.random(200) < 0.3).astype(float)
SURE = RNG.random(200)


# --- selective prediction ---------------------------------------------------------------------------------------------


def test_by_hand():
    curve = risk_coverage([0.0, 1.0, 0.0, 1.0], [0.9, 0.2, 0.8, 0.7])
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(curve.risk, [0.0, 0.0, 1 / 3, 0.5])
    assert aurc([0.0, 1.0, 0.0, 1.0], [0.9, 0.2, 0.8, 0.7]) == pytest.approx((1 / 3 + 0.5) / 4)


def test_the_best_order_has_no_excess_and_the_worst_the_most():
    assert excess_aurc(LOSS, -LOSS) == 0.0
    assert excess_aurc(LOSS, LOSS) > excess_aurc(LOSS, SURE) > 0.05


def test_rows_equally_certain_share_their_mean_whatever_their_order():
    """The exact mean over random orders, to 4 standard errors."""
    tied = np.round(SURE, 1)
    orders = [np.random.default_rng(i).permutation(200) for i in range(400)]
    broken = [aurc(LOSS[i], np.round(SURE[i], 1) + 1e-9 * np.arange(200)) for i in orders]
    assert abs(np.mean(broken) - aurc(LOSS, tied)) < 4 * np.std(broken) / np.sqrt(400)
    assert aurc(LOSS[orders[0]], tied[orders[0]]) == pytest.approx(aurc(LOSS, tied), rel=1e-12)
    np.testing.assert_allclose(risk_coverage(LOSS, np.ones(200)).risk, LOSS.mean())


def test_risk_at_a_share_of_referrals_is_that_of_the_rows_kept():
    kept = np.argsort(-SURE)[:160]
    assert risk_at(LOSS, SURE, 0.2) == pytest.approx(LOSS[kept].mean())
    assert risk_at(LOSS, SURE, 0.0) == pytest.approx(LOSS.mean())
    assert risk_at(LOSS[:3], SURE[:3], 0.99) == LOSS[:3][np.argmax(SURE[:3])]


def test_losses_and_certainty_of_a_prediction():
    two = Prediction(np.array([[[2.0], [-1.0], [0.5]]]), likelihoods.Bernoulli())
    np.testing.assert_array_equal(losses(two, [1, 1, 0]), [0.0, 1.0, 1.0])
    np.testing.assert_allclose(certainty(two), 1 / (1 + np.exp([-2.0, -1.0, -0.5])), rtol=1e-6)
    numbers = Prediction(np.array([[[1.0, 2.0], [3.0, 0.5]]]), likelihoods.Normal())
    np.testing.assert_allclose(losses(numbers, [2.0, 3.0]), [1.0, 0.0])
    np.testing.assert_allclose(certainty(numbers), [-4.0, -0.25], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [((LOSS, SURE[1:]), "certainty"), ((LOSS, SURE * np.nan), "certainty"), ((LOSS[:0], SURE[:0]), "loss"),
     ((LOSS, SURE, 1.0), "referred"), ((LOSS, SURE, -0.1), "referred")],
)  # fmt: skip
def test_what_cannot_be_ordered_is_refused(arguments, where):
    with pytest.raises(InvalidInput, match=f"`{where}`"):
        risk_at(*arguments)


# --- out of distribution ----------------------------------------------------------------------------------------------


def test_detection_by_its_definitions():
    inside, outside = RNG.normal(0, 1, 300), RNG.normal(1, 1, 200)
    found = detection(inside, outside)
    assert found.auroc == pytest.approx(np.mean(outside[:, None] > inside[None]))
    threshold = np.sort(inside)[int(np.ceil(0.95 * 300)) - 1]
    assert found.fpr95 == pytest.approx(np.mean(outside <= threshold))
    swapped = detection(-outside, -inside)
    assert (swapped.aupr_in, swapped.auroc) == pytest.approx((found.aupr_out, found.auroc))


def test_detection_in_the_limits():
    apart = detection([0.0, 0.1], [1.0, 2.0, 3.0])
    assert (apart.auroc, apart.aupr_in, apart.aupr_out, apart.fpr95) == (1.0, 1.0, 1.0, 0.0)
    blind = detection(np.zeros(30), np.zeros(10))
    assert (blind.auroc, blind.aupr_out, blind.aupr_in, blind.fpr95) == pytest.approx((0.5, 0.25, 0.75, 1.0))
    with pytest.raises(InvalidInput, match="`scores_out`"):
        detection([0.0], [np.nan])


# --- bootstrap --------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_that_of_theory():
    values = RNG.normal(3.0, 2.0, 500)
    found = with_interval(np.mean, values, level=0.9, replicates=2000)
    half = stats.norm.ppf(0.95) * values.std() / np.sqrt(500)
    assert found.value == values.mean()
    assert (found.lower, found.upper) == pytest.approx((found.value - half, found.value + half), abs=0.12 * half)
    assert found == with_interval(np.mean, values, level=0.9, replicates=2000)
    assert found != with_interval(np.mean, values, level=0.9, replicates=2000, seed=1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of 200 samples of 60; 0.9 +- 4 sqrt(0.09 / 200), less 0.02 that percentiles of 60 rows fall short by."""
    held = 0
    for i in range(200):
        found = with_interval(np.mean, np.random.default_rng(i).normal(1.0, 1.0, 60), level=0.9, replicates=200)
        held += found.lower <= 1.0 <= found.upper
    assert 0.9 - 0.02 - 4 * np.sqrt(0.09 / 200) < held / 200 < 0.9 + 4 * np.sqrt(0.09 / 200)


def test_rows_of_all_arrays_are_drawn_together_unless_told():
    x = RNG.normal(size=50)
    together = with_interval(lambda a, b: float(np.mean(a - b)), x, x, replicates=50)
    assert (together.lower, together.upper) == (0.0, 0.0)
    apart = with_interval(lambda a, b: float(np.mean(a - b)), x, x, replicates=50, separately=True)
    assert apart.lower < 0.0 < apart.upper
    two = with_interval(lambda a, b: len(a) + len(b), x, x[:20], replicates=2, separately=True)
    assert two.value == 70
    with pytest.raises(InvalidInput, match="`arrays`"):
        with_interval(lambda a, b: 0.0, x, x[:20])


def test_centred_takes_off_what_drawing_again_adds():
    """|mean| of noise: replicates are larger than the value by what a second noise adds."""
    noise = RNG.normal(0.0, 1.0, 400)
    noise -= noise.mean()
    plain, centred = (with_interval(lambda a: abs(a.mean()), noise, centred=c) for c in (False, True))
    assert plain.lower > plain.value
    assert centred.lower < centred.value < centred.upper


def test_scores_have_their_own_values_within_their_intervals():
    numbers = Prediction(np.stack([RNG.normal(5, 1, [20, 80]), np.full([20, 80], 1.5)], axis=-1), likelihoods.Normal())
    classes = Prediction(RNG.normal(0, 2, [20, 80, 3]), likelihoods.Categorical(3))
    for prediction, y in ((numbers, RNG.normal(5, 2, 80)), (classes, RNG.integers(0, 3, 80))):
        plain = score(prediction, y, detail=True)
        found = score_intervals(prediction, y, detail=True, replicates=100)
        assert [*found] == [name for name in plain if name != "rows"]
        for name, estimate in found.items():
            assert estimate.value == plain[name]
            assert estimate.lower < estimate.value < estimate.upper, name
        assert score(prediction, y).items() < plain.items()


def test_what_decisions_cost_has_an_interval_too():
    p = np.linspace(0.05, 0.95, 60)
    two = Prediction(np.log(p / (1 - p))[np.newaxis, :, np.newaxis], likelihoods.Bernoulli())
    y = (RNG.random(60) < p).astype(int)
    costs = decision.CostMatrix({"act": [0, 5], "leave": [1, 0]}, refer=0.4)
    found = score_intervals(two, y, conformal=calibration.LAC(0.9, 0.7), decision=costs)
    for name in ("conformal_coverage", "set_size", "referred", "kept_accuracy", "cost", "cost_of_act"):
        assert found[name].lower < found[name].value < found[name].upper, name
    never = (1 - p <= 5 * p).astype(int)  # what is cheaper to leave
    cost = np.where(np.minimum(1 - p, 5 * p) > 0.4, 0.4, np.where(never, (1 - y) * 1.0, y * 5.0))
    assert found["cost"].value == pytest.approx(cost.mean())
    assert (found["cost"].upper - found["cost"].lower) / (2 * 1.96) == pytest.approx(cost.std() / np.sqrt(60), rel=0.15)


def test_a_share_of_rows_that_are_all_alike_has_an_exact_interval():
    """36 rows without a miss: the rate of misses may be 1 - (0.025)^(1/36); a bootstrap would tell 0."""
    lowest = 0.025 ** (1 / 36)
    wide = Prediction(np.tile([0.0, 9.0], [1, 36, 1]), likelihoods.Normal())
    sure = Prediction(np.tile([0.0, 9.0], [1, 36, 1]), likelihoods.Categorical(2))
    for prediction, y, name in ((wide, np.zeros(36), "coverage"), (sure, np.ones(36, int), "accuracy")):
        found = score_intervals(prediction, y, replicates=10)[name]
        assert (found.value, found.upper) == (1.0, 1.0)
        assert found.lower == pytest.approx(lowest)
    one = Prediction(np.tile([0.0, 9.0], [1, 1, 1]), likelihoods.Normal())
    assert score_intervals(one, [1.0])["rmse"].ends == []


def test_the_parts_of_the_brier_score_are_those_of_its_decomposition():
    classes = Prediction(RNG.normal(0, 2, [20, 80, 3]), likelihoods.Categorical(3))
    y = RNG.integers(0, 3, 80)
    found, parts = score(classes, y, detail=True), brier_decomposition(classes.probabilities, y)
    for name in ("uncertainty", "resolution", "reliability"):
        assert found[f"brier_{name}"] == getattr(parts, name)


def test_pit_is_far_from_uniform_where_the_model_is_too_sure():
    y = RNG.normal(0, 1, 500)
    sure, right = (
        score(Prediction(np.tile([0.0, scale], [1, 500, 1]), likelihoods.Normal()), y, detail=True)
        for scale in (0.3, 1.0)
    )
    assert right["pit_distance"] < 1.95 / np.sqrt(500) < 0.1 < sure["pit_distance"]  # 0.1 % of samples are above


def test_detection_has_an_interval_of_both_kinds_of_rows():
    inside = Prediction(RNG.normal([4, 0, 0], 0.1, [20, 80, 3]), likelihoods.Categorical(3))
    outside = Prediction(RNG.normal(0, 1.0, [20, 50, 3]), likelihoods.Categorical(3))
    found = score_detection(inside, outside)
    assert [*found] == list(UNCERTAINTIES)
    for by, told in found.items():
        alone = detection(uncertainty(inside, by), uncertainty(outside, by))
        for name, estimate in told.items():
            assert estimate.value == getattr(alone, name)
            assert estimate.lower <= estimate.value <= estimate.upper
    alike = Prediction(RNG.normal([4, 0, 0], 0.1, [20, 50, 3]), likelihoods.Categorical(3))
    noise = score_detection(inside, alike)["mutual_information"]["auroc"]
    assert abs(noise.value - 0.5) < noise.upper - noise.lower < 0.5  # four standard errors
    assert score_detection(inside, outside)["mutual_information"]["auroc"].lower > 0.9
    with pytest.raises(InvalidInput, match="the same model"):
        score_detection(inside, Prediction(RNG.normal(0, 1, [20, 50, 2]), likelihoods.Normal()))
