"""Inner splits, and the best of given curves."""

import numpy as np
import pytest

from tfbnn.training.select import _best, _inner_splits


def test_inner_splits_part_all_rows_and_differ():
    parts = _inner_splits(20, 3, 0.25, 0, "log_likelihood")
    assert [(len(kept), len(held)) for kept, held in parts] == [(15, 5)] * 3
    for kept, held in parts:
        assert sorted([*kept, *held]) == list(range(20))
    assert len({tuple(sorted(held)) for _, held in parts}) == 3
    again = _inner_splits(20, 3, 0.25, 0, "log_likelihood")
    assert all((held == other).all() for (_, held), (_, other) in zip(parts, again, strict=True))


def test_by_the_elbo_nothing_is_held_out():
    assert [(len(kept), len(held)) for kept, held in _inner_splits(20, 2, 0.25, 0, "elbo")] == [(20, 0)] * 2


def test_held_out_scores_choose_the_epoch_at_which_their_mean_is_highest():
    curves = np.array([[[0.0, 2.0, 1.0], [0.0, 4.0, 1.0]], [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]])
    found = _best([{"a": 1}, {"a": 2}], curves, held_out=True)
    assert (found.best, found.epochs) == ({"a": 1}, 2)
    assert [row["score"] for row in found.table] == [3.0, 2.0]
    assert found.table[0]["standard_error"] == pytest.approx(1.0)  # sd sqrt(2) of two splits


def test_the_elbo_is_the_mean_of_the_last_tenth():
    curve = np.concatenate([np.full(18, 9.0), [1.0, 3.0]])
    found = _best([{"a": 1}], curve[None, None], held_out=False)
    assert (found.table[0]["score"], found.epochs) == (2.0, 20)
    assert np.isnan(found.table[0]["standard_error"])
