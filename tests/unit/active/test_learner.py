"""Asking and telling in memory: what is kept, what is refused, and a loop with a known answer."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfbnn import active, likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.core.draws import Draws
from tfbnn.prediction import Prediction

POOL = np.linspace(-1.0, 1.0, 41, dtype=np.float32)[:, np.newaxis]
THRESHOLD = 0.33
ORACLE = (POOL[:, 0] > THRESHOLD).astype(np.int32)
START = np.array([[-1.0], [1.0]], np.float32), np.array([0, 1])


class Threshold(Draws):
    """The exact posterior of a step at an unknown place, uniform between what the labels leave: 50 steps in it."""

    num_draws = 50

    def __init__(self, x, y):
        super().__init__()
        self.likelihood = likelihoods.Bernoulli()
        self.low, self.high = x[np.asarray(y) == 0].max(), x[np.asarray(y) == 1].min()
        self.couplings = []

    def apply(self, x, seed, start, count, coupling="marginal"):
        self.couplings.append(coupling)
        places = self.low + (self.high - self.low) * (tf.range(self.num_draws, dtype=tf.float32) + 0.5) / self.num_draws
        steps = places[start : start + count]
        return 50.0 * tf.sign(x[tf.newaxis] - steps[:, tf.newaxis, tf.newaxis])


def left(draws):
    return {"left": float(draws.high - draws.low)}


# --- acquire ----------------------------------------------------------------------------------------------------------


def test_bald_bisects():
    """The draws of a step disagree most in the middle of what is left."""
    assert POOL[active.acquire(Threshold(*START), POOL, 1)] == pytest.approx(0.0, abs=0.026)


def test_batch_bald_is_asked_coherently_and_spreads_where_bald_does_not():
    draws = Threshold(*START)
    spread = np.ptp(POOL[active.acquire(draws, POOL, 3, by="batchbald")])
    assert set(draws.couplings) == {"coherent"}
    assert spread > 0.8
    assert np.ptp(POOL[active.acquire(Threshold(*START), POOL, 3, by="bald")]) < 0.2


def test_rows_at_random_do_without_many_draws(monkeypatch):
    wanted = []

    def told(draws, x, num_samples, seed, coupling):
        wanted.append(num_samples)
        return Prediction(np.zeros([num_samples, len(x), 1]), draws.likelihood)

    monkeypatch.setitem(active.acquire.__globals__, "predict_distribution", told)
    active.acquire(Threshold(*START), POOL, 3, by="random", num_samples=30)
    active.acquire(Threshold(*START), POOL, 3, by="bald", num_samples=30)
    assert wanted == [1, 30]


def test_candidates_are_some_of_the_rows():
    chosen = {int(active.acquire(Threshold(*START), POOL, 1, candidates=4, seed=seed)[0]) for seed in range(6)}
    assert len(chosen) > 1
    assert active.acquire(Threshold(*START), POOL, 1, candidates=400) == active.acquire(Threshold(*START), POOL, 1)


def test_a_frame_of_numbers_is_a_pool():
    frame = pd.DataFrame(POOL, columns=["x"], index=range(100, 141))
    np.testing.assert_array_equal(
        active.acquire(Threshold(*START), frame, 3, seed=5), active.acquire(Threshold(*START), POOL, 3, seed=5)
    )


@pytest.mark.parametrize(
    ("pool", "arguments", "told"),
    [
        (POOL[:0], {}, "`pool`. Expected one row"),
        (POOL, {"count": 42}, "at most 41"),
        (POOL, {"count": 5, "candidates": 4}, "at most 4"),
        (POOL, {"count": 0}, "`count`"),
        (POOL, {"candidates": 0}, "`candidates`"),
        (POOL, {"num_samples": 0}, "`num_samples`"),
        (pd.DataFrame({"ward": ["north"]}), {}, "schema"),
        ([POOL, POOL[:3]], {}, "one number of rows"),
    ],
)
def test_pools_and_counts_that_cannot_be_are_refused(pool, arguments, told):
    with pytest.raises(InvalidInput, match=told):
        active.acquire(Threshold(*START), pool, **{"count": 1, **arguments})


def test_classes_are_not_asked_of_numbers():
    draws = Threshold(*START)
    draws.likelihood = likelihoods.Normal()
    for by in ("bald", "batchbald", "entropy"):
        with pytest.raises(InvalidInput, match="'variance' or 'random'"):
            active.acquire(draws, POOL, 1, by=by)


# --- the learner ------------------------------------------------------------------------------------------------------


def test_it_trains_on_what_was_known_and_told_and_only_when_labels_came():
    seen = []

    def fit(x, y):
        seen.append((x.copy(), y.copy()))
        return Threshold(x, y)

    learner = active.ActiveLearner(fit, POOL, START)
    rows = learner.ask(2)
    learner.ask(2)
    assert len(seen) == 1
    learner.tell(rows, ORACLE[rows])
    assert learner.num_labels == 4
    assert learner.draws is learner.draws
    assert len(seen) == 2
    np.testing.assert_array_equal(seen[1][0], np.concatenate([START[0], POOL[rows]]))
    np.testing.assert_array_equal(seen[1][1], [0, 1, *ORACLE[rows]])


def test_labelled_rows_are_not_asked_for_again():
    learner = active.ActiveLearner(Threshold, POOL, START)
    told = []
    for _ in range(5):
        rows = learner.ask(8)
        learner.tell(rows, ORACLE[rows])
        told.extend(rows.tolist())
    assert len(set(told)) == 40
    with pytest.raises(InvalidInput, match="at most 1, the rows of the pool that are not labelled"):
        learner.ask(2)
    learner.tell(last := learner.ask(1), ORACLE[last])
    with pytest.raises(InvalidInput, match=r"`pool`.*none"):
        learner.ask(1)


def test_the_first_rows_are_at_random_where_nothing_is_known():
    learner = active.ActiveLearner(Threshold, POOL, seed=3)
    with pytest.raises(InvalidInput, match="labels to learn from"):
        _ = learner.draws
    rows = learner.ask(6)
    learner.tell(rows, ORACLE[rows])
    assert learner.draws.low <= THRESHOLD <= learner.draws.high
    np.testing.assert_array_equal(rows, active.ActiveLearner(Threshold, POOL, seed=3).ask(6))


@pytest.mark.parametrize(
    ("positions", "labels", "told"),
    [
        ("not asked", [1], "asked for"),
        ("asked", [1], "2, one a row"),
        ("twice", [1, 1], "each once"),
        ("again", [1], "without a label"),
        ("asked", [1, np.nan], "a label of each row"),
        ("asked", [None, 1], "a label of each row"),
        ("asked", 1, "2, one a row"),
    ],
)
def test_answers_that_cannot_be_are_refused(positions, labels, told):
    learner = active.ActiveLearner(Threshold, POOL, START)
    rows = learner.ask(3)
    learner.tell(rows[2:], [1])
    never = np.setdiff1d(np.arange(41), rows)[:1]
    given = {"not asked": never, "asked": rows[:2], "twice": rows[[0, 0]], "again": rows[2:]}[positions]
    with pytest.raises(InvalidInput, match=told):
        learner.tell(given, labels)
    assert learner.num_labels == 3


def test_a_label_that_was_wrong_is_replaced_where_that_is_said():
    learner = active.ActiveLearner(Threshold, POOL, START)
    [row] = learner.ask(1)
    learner.tell([row], [0])
    learner.tell([row], [1], correct=True)
    assert learner.answers == {row: 1}


def test_labels_at_the_start_must_fit_their_rows():
    with pytest.raises(InvalidInput, match="as many labels as rows"):
        active.ActiveLearner(Threshold, POOL, (START[0], [0]))


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_bald_halves_what_is_left_and_random_rows_do_not():
    found = {by: active.simulate(Threshold, POOL, ORACLE, left, 1, 5, by, START) for by in ("bald", "random")}
    for i, width in enumerate(found["bald"].history["left"]):
        assert width <= 2.0 / 2**i + 0.06  # a step of the grid more, at most
    assert found["random"].history["left"].iloc[-1] > 2 * found["bald"].history["left"].iloc[-1]


def test_the_history_is_of_labels_and_scores_round_by_round():
    told = []
    found = active.simulate(Threshold, POOL, lambda rows: ORACLE[rows], left, 2, 3, labelled=START, told=told.append)
    assert found.history.columns.tolist() == ["round", "labels", "left"]
    assert found.history["labels"].tolist() == [2, 4, 6, 8]
    assert found.asked.shape == (3, 2)
    assert told == found.history.to_dict("records")
    assert found.learner.num_labels == 8


def test_a_loop_that_the_pool_cannot_feed_is_refused_before_training():
    with pytest.raises(InvalidInput, match="at most 41"):
        active.simulate(lambda x, y: pytest.fail("it trained"), POOL, ORACLE, left, 21, 2, labelled=START)
    with pytest.raises(InvalidInput, match="41 labels"):
        active.simulate(Threshold, POOL, ORACLE[:4], left, 2, 2, labelled=START)
