"""Schedules of beta."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.core.checks import InvalidInput
from tfbnn.objectives import Constant, Linear, Schedule, schedules


def test_constant():
    assert float(Constant(0.3)(tf.constant(10))) == pytest.approx(0.3)


@pytest.mark.parametrize(("step", "beta"), [(0, 0.2), (5, 0.6), (10, 1.0), (1000, 1.0)])
def test_linear_ramps_then_stays(step, beta):
    schedule = Linear(10, start=0.2)
    assert float(schedule(step)) == pytest.approx(beta)
    assert float(schedule(tf.constant(step, tf.int64))) == pytest.approx(beta)
    assert schedule(step).dtype == tf.float32


@pytest.mark.parametrize("number", [0, 1, 0.5, np.float32(0.5)])
def test_a_number_is_a_constant(number):
    assert schedules.get(number) == Constant(float(number))


class Own(Schedule):
    def __call__(self, step):
        return tf.constant(1.0)


def test_names_mappings_and_a_users_own():
    assert schedules.get("Constant") == Constant(1.0)
    assert schedules.get({"class": "Linear", "steps": 3}) == Linear(3)
    own = Own()
    assert schedules.get(own) is own


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: schedules.get(-1), "value"),
        (lambda: schedules.get(True), "value"),
        (lambda: Constant(float("nan")), "value"),
        (lambda: Linear(0), "steps"),
        (lambda: Linear(5, start=-0.1), "start"),
        (lambda: Linear(5, end=float("inf")), "end"),
        (lambda: schedules.get("Linaer"), "beta"),
        (lambda: schedules.get(lambda step: 1.0), "beta"),
    ],
)
def test_wrong_arguments_are_named(make, argument):
    with pytest.raises(InvalidInput, match=f"`{argument}`"):
        make()
