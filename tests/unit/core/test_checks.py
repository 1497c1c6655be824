"""Errors name the argument, what was expected, what came, and how to mend it."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.core import checks
from tfbnn.core.checks import InvalidInput


def test_the_message_has_its_four_parts():
    error = checks.invalid("units", "a whole number", 1.5, "Round it.")
    assert str(error) == "Invalid value received for `units`. Expected a whole number. Received: 1.5. Round it."
    assert isinstance(error, ValueError)


def test_the_class_of_the_error_survives_tracing():
    @tf.function
    def traced():
        raise checks.invalid("units", "a whole number", 1.5)

    with pytest.raises(InvalidInput, match="`units`"):
        traced()


def test_an_unknown_name_gets_the_nearest():
    assert "Did you mean 'MeanField'?" in str(checks.unknown_name("posterior", "meanfeild", ["MeanField", "Normal"]))
    assert "Did you mean" not in str(checks.unknown_name("posterior", "xyz", ["MeanField", "Normal"]))


def test_long_values_are_shortened():
    assert len(checks.shortened(np.arange(100_000))) < 300
    assert len(checks.shortened("a" * 10_000)) < 300
    assert checks.shortened("a" * 200) == repr("a" * 200)


@pytest.mark.parametrize("right", [1, np.int64(3)])
def test_positive_integers(right):
    assert checks.positive_integer("n", right) == int(right)


@pytest.mark.parametrize("wrong", [0, -1, 1.0, True, "1", None, np.array([1, 2])])
def test_no_positive_integers(wrong):
    with pytest.raises(InvalidInput, match="`n`"):
        checks.positive_integer("n", wrong)


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan"), True, "x", None])
def test_no_positive_numbers(wrong):
    with pytest.raises(InvalidInput, match="`s`"):
        checks.positive_number("s", wrong)


@pytest.mark.parametrize("right", [0, -1.5, np.float32(2)])
def test_finite_numbers(right):
    assert checks.finite_number("x", right) == float(right)


@pytest.mark.parametrize("wrong", [float("inf"), float("nan"), False, "1", None])
def test_no_finite_numbers(wrong):
    with pytest.raises(InvalidInput, match="`x`"):
        checks.finite_number("x", wrong)


def test_a_number_below_the_smallest_is_refused():
    assert checks.finite_number("x", 0.0, smallest=0.0) == 0.0
    with pytest.raises(InvalidInput, match="0 or more"):
        checks.finite_number("x", -1e-9, smallest=0.0)


def test_one_of_names_the_nearest():
    assert checks.one_of("coupling", "marginal", ("marginal", "coherent")) == "marginal"
    with pytest.raises(InvalidInput, match="Did you mean 'coherent'"):
        checks.one_of("coupling", "coherant", ("marginal", "coherent"))
