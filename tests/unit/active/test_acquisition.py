"""Acquisition functions: identities, brute force, and what tells one from another."""

import itertools

import numpy as np
import pytest
from scipy.stats import entropy

from tfbnn import active, likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.prediction import Prediction

S, B, K = 7, 5, 3
RNG = np.random.default_rng(0)


def of_classes(p):
    """The prediction of probabilities [S, B, K]."""
    return Prediction(np.log(p), likelihoods.Categorical(p.shape[-1]))


def of_numbers(loc, scale=0.1):
    loc = np.asarray(loc, np.float32)[..., np.newaxis]
    return Prediction(np.concatenate([loc, np.full_like(loc, scale)], axis=-1), likelihoods.Normal())


P = RNG.dirichlet(np.full(K, 0.5), [S, B])
PREDICTION = of_classes(P)


def brute_force(p):
    """I[y_1 ... y_n; w] of p [S, n, K] by its definition: every configuration of labels, one after another."""
    configurations = itertools.product(range(p.shape[2]), repeat=p.shape[1])
    joint = [np.mean([np.prod([p[s, i, y] for i, y in enumerate(labels)]) for s in range(len(p))])
             for labels in configurations]  # fmt: skip
    return entropy(joint) - entropy(p, axis=-1).sum(axis=1).mean()


# --- scores -----------------------------------------------------------------------------------------------------------


def test_bald_is_the_mutual_information_of_label_and_draw():
    """By its other form, the mean KL from the mixture to a draw."""
    expected = entropy(P, P.mean(axis=0, keepdims=True), axis=-1).mean(axis=0)
    np.testing.assert_allclose(active.bald(PREDICTION), expected, rtol=1e-5)


def test_entropy_is_bald_and_the_expected_entropy():
    total = active.bald(PREDICTION) + entropy(P, axis=-1).mean(axis=0)
    np.testing.assert_allclose(active.predictive_entropy(PREDICTION), total, rtol=1e-5)


def test_bald_leaves_noise_alone_that_entropy_asks_for():
    """Row 0 is noise that all draws agree on; of row 1 each draw is sure, and they disagree."""
    p = np.array([[[0.5, 0.5], [0.9, 0.1]], [[0.5, 0.5], [0.1, 0.9]], [[0.5, 0.5], [0.9, 0.1]]])
    assert active.bald(of_classes(p)).argmax() == 1
    assert active.predictive_entropy(of_classes(p)).argmax() == 0


def test_variance_is_that_of_the_draws_means():
    loc = RNG.normal(size=[S, B])
    np.testing.assert_allclose(active.epistemic_variance(of_numbers(loc)), loc.var(axis=0), rtol=1e-5)


def test_noise_is_no_part_of_the_variance():
    np.testing.assert_array_equal(active.epistemic_variance(of_numbers(np.ones([S, B]), scale=9.0)), np.zeros(B))


def test_variance_of_several_targets_does_not_depend_on_their_units():
    loc = RNG.normal(size=[S, B, 2])

    def scores(units):
        parameters = np.concatenate([loc * units, 0.1 * np.ones_like(loc) * units], axis=-1)
        return active.epistemic_variance(Prediction(parameters, likelihoods.Normal(num_targets=2)))

    np.testing.assert_allclose(scores([1.0, 1000.0]), scores([1.0, 1.0]), rtol=1e-5)
    assert scores([1.0, 1.0]).argmax() == (loc.var(axis=0) / (loc.var(axis=0).mean(axis=0) + 0.01)).sum(axis=1).argmax()


def test_random_is_uniform_and_told_by_its_seed():
    many = Prediction(np.zeros([1, 4000, 1]), likelihoods.Bernoulli())
    scores = active.random(many, seed=-3)
    np.testing.assert_array_equal(scores, active.random(many, seed=-3))
    assert (scores != active.random(many, seed=4)).any()
    assert abs(scores.mean() - 0.5) < 4 / np.sqrt(12 * 4000)


# --- BatchBALD --------------------------------------------------------------------------------------------------------


def test_the_joint_is_that_of_brute_force():
    assert active.joint_mutual_information(PREDICTION) == pytest.approx(brute_force(P), rel=1e-6)


def test_twin_the_joint_of_dependent_rows_is_no_sum():
    """What adding the rows' own BALD would give."""
    assert active.bald(PREDICTION).sum() > brute_force(P) + 0.05


def test_certain_draws_have_a_joint_of_their_number():
    """Each draw sure of another configuration: the labels tell which draw it is, log 4 nats."""
    p = np.eye(2)[np.array([[0, 0], [0, 1], [1, 0], [1, 1]])]
    with np.errstate(divide="ignore"):
        prediction = Prediction(np.maximum(np.log(p), -80.0), likelihoods.Categorical(2))
    assert active.joint_mutual_information(prediction) == pytest.approx(np.log(4), rel=1e-6)


def test_batch_bald_of_one_is_bald():
    assert active.batch_bald(PREDICTION, 1) == [active.bald(PREDICTION).argmax()]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_batch_bald_is_greedy_in_the_joint(count):
    chosen = []
    for _ in range(count):
        rest = [row for row in range(B) if row not in chosen]
        chosen.append(max(rest, key=lambda row: brute_force(P[:, [*chosen, row]])))
    np.testing.assert_array_equal(active.batch_bald(PREDICTION, count), chosen)


def test_few_rows_at_a_time_choose_the_same(monkeypatch):
    p = RNG.dirichlet(np.full(K, 0.5), [S, 60])
    expected = active.batch_bald(of_classes(p), 6)
    monkeypatch.setitem(active.batch_bald.__globals__, "MOST_NUMBERS", 1)
    np.testing.assert_array_equal(active.batch_bald(of_classes(p), 6), expected)


def copies():
    """Rows 0 to 2 are the same, of the highest BALD; rows 3 and 4 tell of other draws."""
    p = RNG.dirichlet(np.full(2, 8.0), [8, 5])
    bits = np.array(list(itertools.product([0, 1], repeat=3)))
    p[:, 0] = p[:, 1] = p[:, 2] = np.where(bits[:, [0]], [0.99, 0.01], [0.01, 0.99])
    p[:, 3] = np.where(bits[:, [1]], [0.97, 0.03], [0.03, 0.97])
    p[:, 4] = np.where(bits[:, [2]], [0.96, 0.04], [0.04, 0.96])
    return of_classes(p)


def test_batch_bald_asks_for_no_row_twice_in_two_copies():
    chosen = active.batch_bald(copies(), 3)
    assert set(chosen[1:]) == {3, 4}
    assert chosen[0] in (0, 1, 2)


def test_twin_bald_asks_for_all_copies():
    assert set(active.get("bald").choose(copies(), 3, 0)) == {0, 1, 2}


def test_drawn_configurations_choose_nearly_as_well_as_all():
    """Of 3^7 = 2,187 configurations 300 are drawn; a batch at random tells far less."""
    p = RNG.dirichlet(np.full(K, 0.5), [20, 30])
    joint = {n: brute_force_of(p, active.batch_bald(of_classes(p), 8, num_configurations=n)) for n in (300, 10_000)}
    at_random = np.mean([brute_force_of(p, RNG.choice(30, 8, replace=False)) for _ in range(20)])
    assert joint[300] > 0.98 * joint[10_000]
    assert joint[10_000] > at_random + 0.2


def brute_force_of(p, rows):
    return active.joint_mutual_information(of_classes(p[:, rows]))


def gains_of_drawn(draw, runs=4000):
    """Gain of a row after five, exact, and of runs with 8 of the 243 configurations."""
    made = active.batch_bald.__globals__
    p = np.random.default_rng(2).dirichlet(np.full(K, 0.3), [S, 6])
    exact, rng = made["_no_labels"](S), np.random.default_rng(1)
    for b in range(5):
        exact = made["_extended"](exact, p[:, b])
    noise = entropy(p[:, 5], axis=-1).mean()
    gains = [made["_conditional_entropy"](p[:, [5]], draw(exact, 8, rng))[0] - noise for _ in range(runs)]
    return made["_conditional_entropy"](p[:, [5]], exact)[0] - noise, np.mean(gains), np.std(gains) / np.sqrt(runs)


def test_drawn_configurations_tell_the_gain_without_bias():
    """Within 4 standard errors, exceeded by chance once in 16,000; a bias of an eighth of the gain is seen."""
    expected, mean, error = gains_of_drawn(active.batch_bald.__globals__["_thinned"])
    assert abs(mean - expected) < 4 * error
    assert 4 * error < expected / 8


def test_twin_configurations_drawn_without_their_weights_are_biased():
    def evenly(labels, most, rng):
        kept = rng.choice(len(labels.weight), most)
        return type(labels)(np.full(most, 1 / most), labels.posterior[kept])

    expected, mean, error = gains_of_drawn(evenly)
    assert abs(mean - expected) > 4 * error


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", sorted(active.ACQUISITIONS))
def test_rows_are_chosen_once_each_and_the_same_for_a_seed(by):
    chosen = active.get(by).choose(PREDICTION, 4, 2)
    assert len(set(chosen.tolist())) == 4
    np.testing.assert_array_equal(chosen, active.get(by).choose(PREDICTION, 4, 2))


@pytest.mark.parametrize("by", ["bald", "batchbald", "variance", "entropy"])
def test_equal_rows_are_chosen_at_random_not_from_the_top(by):
    equal = of_classes(np.full([3, 200, 2], 0.5))
    assert sorted(active.get(by).choose(equal, 5, 0)) != list(range(5))
    assert set(active.get(by).choose(equal, 5, 0)) != set(active.get(by).choose(equal, 5, 1))


def test_a_score_of_ones_own_is_taken():
    margin = active.get(lambda prediction: -np.ptp(np.sort(prediction.probabilities)[:, -2:], axis=1))
    top = np.sort(P.mean(axis=0))
    assert margin.choose(PREDICTION, 1, 0) == [(top[:, -1] - top[:, -2]).argmin()]


@pytest.mark.parametrize("score", [lambda p: np.zeros([2, 2]), lambda p: np.full(B, np.nan)])
def test_a_score_of_another_shape_or_no_number_is_refused(score):
    with pytest.raises(InvalidInput, match="one number a row"):
        active.get(score).choose(PREDICTION, 1, 0)


def test_unknown_names_are_refused():
    with pytest.raises(InvalidInput, match="Did you mean 'bald'"):
        active.get("bold")
    with pytest.raises(InvalidInput, match="a function prediction"):
        active.get(3)


@pytest.mark.parametrize("count", [0, -1, 1.5, B + 1])
@pytest.mark.parametrize("by", sorted(active.ACQUISITIONS))
def test_counts_that_cannot_be_are_refused(by, count):
    with pytest.raises(InvalidInput, match="`count`"):
        active.get(by).choose(PREDICTION, count, 0)
