"""What is told of chains that have met, and of those that have not."""

import json
import sys

import numpy as np
import pytest

from tfbnn.core.checks import InvalidInput
from tfbnn.training.convergence import convergence, judged, needed_arviz

RNG = np.random.default_rng(0)
MET = RNG.normal(size=(4, 200, 3))
APART = MET + np.array([0, 0, 0, 3.0])[:, np.newaxis, np.newaxis]


def test_chains_that_have_met():
    found = judged(MET, MET[..., 0])
    assert found["converged"] is True
    assert found["rhat_max"] < 1.02
    assert 400 < found["ess_bulk_min"] < 1200


def test_twin_a_chain_in_a_mode_of_its_own_is_told():
    found = judged(APART, MET[..., 0])
    assert found["converged"] is False
    assert "R-hat of predictions is" in found["message"]
    assert found["rhat_max"] > 1.3
    assert "log joint density" in judged(MET, APART[..., 0])["message"]


def test_few_draws_are_told():
    walk = np.cumsum(RNG.normal(size=(4, 40, 1)), axis=1)
    assert not judged(walk, MET[..., 0])["converged"]
    found = judged(MET[:, :15], MET[:, :15, 0])
    assert "independent ones" in found["message"] or "R-hat" in found["message"]


@pytest.mark.parametrize("values", [MET[:, :3], np.ones((4, 20, 2)), np.full((4, 20, 2), np.nan)])
def test_what_cannot_be_judged_is_told(values):
    found = judged(values, MET[..., 0])
    assert not found["converged"]
    assert "cannot be judged" in found["message"]
    assert found["rhat_max"] is None
    json.dumps(found)


def test_numbers_that_never_change_are_left_out():
    with_constant = np.concatenate([MET, np.ones((4, 200, 1))], axis=-1)
    assert convergence(with_constant) == convergence(MET)


def test_one_chain_is_no_proof():
    found = judged(MET[:1], MET[:1, :, 0])
    assert not found["converged"]
    assert "2 chains or more" in found["message"]


def test_without_arviz_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    found = judged(MET, MET[..., 0])
    assert not found["converged"]
    assert "ArviZ, which is missing" in found["message"]
    with pytest.raises(InvalidInput, match="Install it"):
        needed_arviz("to_inference_data")


def test_chains_that_do_not_move_have_not_converged():
    values = np.zeros([2, 20, 1])
    values[1] = 1.0
    found = convergence(values)
    assert found.rhat > 1e3
    assert not judged(values, values[..., 0])["converged"]
