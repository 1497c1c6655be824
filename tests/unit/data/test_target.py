"""Targets: shapes, dtypes, class names, and the wording of each refusal."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from tfbnn.core.checks import InvalidInput
from tfbnn.data import Target


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match=".*".join(map(re.escape, parts)))


def test_real_targets_stay_in_their_units():
    series = pd.Series([1, 2.5, "3"], dtype=object)
    encoded = Target.fit(series, "real").encode(series)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, [[1.0], [2.5], [3.0]])


def test_classes_are_sorted_indices():
    target = Target.fit(pd.Series(["b", "a", "c", "a"]), "classes")
    encoded = target.encode(pd.Series(["c", "a"]))
    assert target.labels == ("a", "b", "c")
    assert encoded.dtype == np.int32
    np.testing.assert_array_equal(encoded, [[2], [0]])


@pytest.mark.parametrize("cells", [[1, 0], [1.0, 0.0], ["1", "0"], [np.float32(1), np.int8(0)], [b"1", b"0"]])
def test_whole_numbers_have_one_name(cells):
    target = Target.fit(pd.Series([0, 1, 1]), "classes")
    assert target.labels == ("0", "1")
    np.testing.assert_array_equal(target.encode(pd.Series(cells, dtype=object)), [[1], [0]])


def test_truth_values_and_fractions_are_names_too():
    assert Target.fit(pd.Series([True, False]), "classes").labels == ("False", "True")
    assert Target.fit(pd.Series([0.5, 2.0]), "classes").labels == ("0.5", "2")


@pytest.mark.parametrize(("series", "kind"), [([1.0, 2.0], "real"), (["x", "y"], "classes")])
def test_json_round_trip(series, kind):
    target = Target.fit(pd.Series(series), kind)
    assert Target.from_dict(json.loads(json.dumps(target.to_dict()))) == target


def test_unknown_kind_is_refused():
    with refuses("kind", "Did you mean 'classes'?"):
        Target.fit(pd.Series([1, 2]), "class")


def test_text_in_a_real_target_is_shown_with_its_row():
    with refuses("data.target", "numbers", "'high'", "2 rows have", "first row 1"):
        Target.fit(pd.Series([1, "high", "low"], dtype=object), "real")


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_infinite_targets_are_refused(value):
    with refuses("data.target", "finite numbers", "1 row has", "first row 2"):
        Target.fit(pd.Series([1.0, 2.0, value]), "real")


@pytest.mark.parametrize("kind", ["real", "classes"])
def test_missing_targets_are_refused(kind):
    with refuses("data.target", "a value in every row", "1 row has", "first row 1"):
        Target.fit(pd.Series([1.0, None]), kind)
    with refuses("data.target", "a value in every row"):
        Target.fit(pd.Series([1.0, 2.0]), kind).encode(pd.Series([np.nan]))


def test_one_class_is_refused():
    with refuses("data.target", "at least 2 classes", "['a']"):
        Target.fit(pd.Series(["a", "a"]), "classes")


def test_a_class_that_no_training_row_has_is_named():
    target = Target.fit(pd.Series(["a", "b"]), "classes")
    with refuses("data.target", "2 classes of the training rows", "'z'", "first row 1", "leave its rows out"):
        target.encode(pd.Series(["a", "z"]))
