"""Where two descriptions of a training differ, and which files are kept."""

import json

import numpy as np
import pytest

from tfbnn.training.checkpoint import KEPT, Checkpoint, Checkpoints, _difference


@pytest.mark.parametrize(
    ("value", "other", "expected"),
    [
        (1, 2, ("of", 1, 2)),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ("of.b", 2, 3)),
        ({"a": 1}, {"a": 1, "b": 3}, ("of.b", None, 3)),
        ({"a": [{"c": 1}, {"c": 2}]}, {"a": [{"c": 1}, {"c": 5}]}, ("of.a[1].c", 2, 5)),
        ([[3, 4], "float32"], [[3, 5], "float32"], ("of[0]", [3, 4], [3, 5])),
        ([1, 2], [1], ("number of of", 2, 1)),
    ],
)
def test_the_first_place_that_differs_is_told(value, other, expected):
    assert _difference("of", value, other) == expected


def test_the_last_two_are_kept_and_read_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "kept", {"seed": 3})
    assert checkpoints.newest() is None
    for epoch in range(1, 6):
        about = {"history": {"loss": [np.float32(0.5)] * epoch}, "best": [-np.inf, -1]}
        checkpoints.save(Checkpoint(epoch, [np.full(3, epoch)], about, [np.zeros(2)]))
    assert [path.name for path in checkpoints.files()] == ["epoch-000005.npz", "epoch-000004.npz"]
    assert len(list(checkpoints.folder.iterdir())) == KEPT
    found = checkpoints.newest()
    assert found.epoch == 5
    np.testing.assert_array_equal(found.values[0], [5, 5, 5])
    np.testing.assert_array_equal(found.best[0], [0, 0])
    assert found.about["history"] == {"loss": [0.5] * 5}
    assert found.about["best"] == [-np.inf, -1]
    assert json.dumps(found.about)
    checkpoints.remove()
    assert checkpoints.files() == []
