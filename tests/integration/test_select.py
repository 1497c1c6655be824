"""`tfbnn.select`: the right candidate, from the given rows alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.core.checks import InvalidInput

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2)).astype("float32")
Y = (3.0 * X[:, 0] - 2.0 * X[:, 1] + 0.1 * RNG.normal(size=60)).astype("float32")
QUICK = {"epochs": 20, "batch_size": 60, "splits": 2}  # a step an epoch, which XLA is not asked to compile


class Maker:
    """Linear models; remembers the rows that it was shown."""

    def __init__(self):
        self.shown = []

    def __call__(self, x, y, seed, prior_scale=1.0, learning_rate=0.3, width=None):
        self.shown.append((x, y))
        keras.utils.set_random_seed(seed)
        layer = tfbnn.layers.DenseFlipout
        prior = {"kernel_prior_fn": tfbnn.priors.Normal(scale=prior_scale)}
        hidden = [layer(width, activation="tanh", **prior)] if width else []
        net = keras.Sequential([keras.Input((2,)), *hidden, layer(1, **prior)])
        model = tfbnn.BayesianModel(net, tfbnn.likelihoods.Normal(), seed=seed)
        model.compile(keras.optimizers.Adam(learning_rate))
        return model


@pytest.fixture(scope="module")
def by_held_out_rows():
    """(maker, selection) among learning rates, of which one is far too small."""
    make = Maker()
    return make, tfbnn.select(make, X, Y, {"learning_rate": [1e-6, 0.3]}, **QUICK)


def test_the_learning_rate_that_learns_is_chosen_by_held_out_rows(by_held_out_rows):
    _, found = by_held_out_rows
    assert found.best == {"learning_rate": 0.3}
    assert [row["learning_rate"] for row in found.table] == [0.3, 1e-6]
    assert found.table[0]["score"] > found.table[1]["score"] + 0.5
    assert 1 < found.epochs <= 20
    assert found.epochs == found.table[0]["epochs"]
    assert list(found.to_frame()["score"]) == [row["score"] for row in found.table]


def test_the_same_call_chooses_the_same(by_held_out_rows):
    _, found = by_held_out_rows
    assert tfbnn.select(Maker(), X, Y, {"learning_rate": [1e-6, 0.3]}, **QUICK).table == found.table


def test_each_model_is_shown_its_training_rows_only(by_held_out_rows):
    """48 of the 60 rows, the same for the candidates of a split, others for another split."""
    make, _ = by_held_out_rows
    rows = {tuple(x) for x in X.tolist()}
    assert [x.shape for x, _ in make.shown] == [(48, 2)] * 4
    for x, _ in make.shown:
        assert {tuple(row) for row in x.tolist()} < rows
    np.testing.assert_array_equal(make.shown[0][0], make.shown[2][0])
    assert not np.array_equal(make.shown[0][0], make.shown[1][0])


def test_the_prior_scale_is_chosen_by_the_elbo():
    """The KL of weights 3 and -2 to a prior of scale 0.01 is tens of thousands of nats."""
    make = Maker()
    found = tfbnn.select(make, X, Y, {"prior_scale": [0.01, 2.0]}, by="elbo", **QUICK)
    assert found.best == {"prior_scale": 2.0}
    assert found.epochs == 20
    assert all(x.shape == (60, 2) for x, _ in make.shown)


def test_widths_are_compared_though_they_share_no_graph():
    found = tfbnn.select(Maker(), X, Y, {"width": [1, 3], "learning_rate": [0.3]}, **{**QUICK, "epochs": 2})
    assert sorted(row["width"] for row in found.table) == [1, 3]
    assert set(found.best) == {"width", "learning_rate"}


@pytest.mark.parametrize(
    ("candidates", "arguments", "told"),
    [
        ({"prior_scale": []}, {}, "candidates"),
        ({"prior_scale": 0.1}, {}, "candidates"),
        ([0.1], {}, "candidates"),
        ({"epochs": [1, 2]}, {}, "epochs"),
        ({"width": [1]}, {"by": "rmse"}, "log_likelihood"),
        ({"width": [1]}, {"splits": 0}, "splits"),
        ({"width": [1]}, {"epochs": 0}, "epochs"),
        ({"width": [1]}, {"validation_fraction": 0.001}, "validation_fraction"),
        ({"width": [1]}, {"validation_fraction": 1.5}, "validation_fraction"),
    ],
)
def test_refuses(candidates, arguments, told):
    with pytest.raises(InvalidInput) as refused:
        tfbnn.select(Maker(), X, Y, candidates, **arguments)
    assert told in str(refused.value)


def test_refuses_makers_of_something_else_and_rows_that_do_not_fit():
    with pytest.raises(InvalidInput, match="compiled BayesianModel"):
        tfbnn.select(lambda x, y, seed, width: None, X, Y, {"width": [1]})
    with pytest.raises(InvalidInput, match=r"\[60, 2\].*\[59\]"):
        tfbnn.select(Maker(), X, Y[:-1], {"width": [1]})


def test_a_candidate_that_diverges_is_last_and_the_others_are_compared():
    found = tfbnn.select(Maker(), X, Y, {"learning_rate": [1e30, 0.3]}, **QUICK)
    assert found.best == {"learning_rate": 0.3}
    assert found.table[1]["score"] == -np.inf
    with pytest.raises(FloatingPointError, match="every candidate"):
        tfbnn.select(Maker(), X, Y, {"learning_rate": [1e30]}, **QUICK)
