"""Schedules of beta."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.core.checks import InvalidInput
from tfbnn.objectives import Blundell, Constant, Cyclical, Linear, Schedule, Sigmoid, schedules


def test_constant():
    assert float(Constant(0.3)(tf.constant(10))) == pytest.approx(0.3)


@pytest.mark.parametrize(("step", "beta"), [(0, 0.2), (5, 0.6), (10, 1.0), (1000, 1.0)])
def test_linear_ramps_then_stays(step, beta):
    schedule = Linear(10, start=0.2)
    assert float(schedule(step)) == pytest.approx(beta)
    assert float(schedule(tf.constant(step, tf.int64))) == pytest.approx(beta)
    assert schedule(step).dtype == tf.float32


def betas(schedule, steps):
    """float64 [steps], from one traced function of an int64 step."""
    traced = tf.function(lambda all_steps: tf.map_fn(schedule, all_steps, fn_output_signature=tf.float32))
    return traced(tf.range(steps, dtype=tf.int64)).numpy().astype(np.float64)


# --- Cyclical ---------------------------------------------------------------------------------------------------------


def test_cyclical_ramps_anew_in_each_cycle_then_stays():
    cycle = [0.0, 0.5, 1.0, 1.0]
    np.testing.assert_allclose(betas(Cyclical(12, cycles=3, ramp=0.5), 15), [*cycle * 3, 1, 1, 1], rtol=1e-6)


def test_cyclical_between_start_and_end():
    expected = [0.2, 0.4, 0.6, 0.8, 0.2, 0.4, 0.6, 0.8, 1.0]
    np.testing.assert_allclose(betas(Cyclical(8, cycles=2, ramp=1, start=0.2), 9), expected, rtol=1e-6)


def test_cycles_that_do_not_divide_the_steps_begin_at_the_next_step():
    rises = np.diff(betas(Cyclical(10, cycles=3, ramp=1), 10)) > 0
    assert (np.flatnonzero(~rises) + 1).tolist() == [4, 7]  # 10 / 3 and 20 / 3, rounded up


def test_one_cycle_that_is_all_ramp_is_linear():
    np.testing.assert_allclose(betas(Cyclical(7, 1, 1.0, 0.1, 0.9), 9), betas(Linear(7, 0.1, 0.9), 9), rtol=1e-6)


# --- Sigmoid ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("midpoint", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("slope", [1e-6, 10.0, 1e6])
def test_sigmoid_goes_from_start_to_end(midpoint, slope):
    found = betas(Sigmoid(100, midpoint, slope, start=0.25, end=0.75), 103)
    assert found[0] == 0.25
    assert (found[100:] == 0.75).all()
    assert (np.diff(found) >= 0).all()


def test_sigmoid_is_the_rescaled_logistic_curve():
    u = np.arange(21) / 20
    g = 1 / (1 + np.exp(-8 * (u - 0.4)))
    np.testing.assert_allclose(betas(Sigmoid(20, 0.4, 8.0), 21), (g - g[0]) / (g[-1] - g[0]), rtol=1e-6)


def test_sigmoid_is_half_way_at_the_midpoint():
    assert float(Sigmoid(10)(5)) == pytest.approx(0.5)


def test_a_flat_sigmoid_is_linear():
    np.testing.assert_allclose(betas(Sigmoid(9, slope=1e-3), 12), betas(Linear(9), 12), atol=1e-6)


# --- Blundell ---------------------------------------------------------------------------------------------------------


def test_blundell_gives_the_papers_shares():
    shares = np.array([2**2, 2**1, 2**0]) / (2**3 - 1)
    np.testing.assert_allclose(betas(Blundell(3), 6), [*3 * shares, *3 * shares], rtol=1e-6)


@pytest.mark.parametrize("num_batches", [1, 2, 10, 5000])
def test_blundell_has_mean_1_over_an_epoch_and_falls(num_batches):
    found = betas(Blundell(num_batches), num_batches)
    assert np.isfinite(found).all()
    assert (np.diff(found) <= 0).all()
    np.testing.assert_allclose(found.mean(), 1.0, rtol=1e-6)


def test_blundell_is_finite_for_any_number_of_batches():
    late = Blundell(2**40)(tf.constant(2**40 - 1, tf.int64))
    assert float(late) == 0.0
    assert float(Blundell(2**40)(0)) == 2.0**39


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule", [Blundell(5), Constant(0.5), Cyclical(7), Linear(7), Sigmoid(7)], ids=lambda each: type(each).__name__
)
def test_a_step_of_python_and_one_of_a_graph_are_the_same(schedule):
    eager = [schedule(step) for step in range(9)]
    assert {beta.dtype for beta in eager} == {tf.float32}
    assert {tuple(beta.shape) for beta in eager} == {()}
    np.testing.assert_allclose(betas(schedule, 9), eager, rtol=1e-6)


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
        (lambda: Cyclical(0), "steps"),
        (lambda: Cyclical(8, cycles=0), "cycles"),
        (lambda: Cyclical(8, cycles=9), "cycles"),
        (lambda: Cyclical(8, ramp=0), "ramp"),
        (lambda: Cyclical(8, ramp=1.1), "ramp"),
        (lambda: Cyclical(8, start=-1), "start"),
        (lambda: Cyclical(8, end=float("nan")), "end"),
        (lambda: Sigmoid(2.5), "steps"),
        (lambda: Sigmoid(8, midpoint=1.1), "midpoint"),
        (lambda: Sigmoid(8, midpoint=float("nan")), "midpoint"),
        (lambda: Sigmoid(8, slope=0), "slope"),
        (lambda: Sigmoid(8, slope=-1), "slope"),
        (lambda: Sigmoid(8, start=-1), "start"),
        (lambda: Sigmoid(8, end=-1), "end"),
        (lambda: Blundell(0), "num_batches"),
        (lambda: Blundell(True), "num_batches"),
        (lambda: schedules.get("Linaer"), "beta"),
        (lambda: schedules.get(lambda step: 1.0), "beta"),
    ],
)
def test_wrong_arguments_are_named(make, argument):
    with pytest.raises(InvalidInput, match=f"`{argument}`"):
        make()
