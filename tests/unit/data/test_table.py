"""Reading and splitting tables: what comes out, and the wording of each refusal."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tfbnn.core.checks import InvalidInput
from tfbnn.data import Table, read_frame, read_table, split_rows


def csv(folder: Path, text: str) -> Path:
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return path


def table_of(target: list) -> Table:
    return Table(pd.DataFrame({"x": np.arange(len(target))}), pd.Series(target, name="y"))


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match=".*".join(map(re.escape, parts)))


def test_csv_and_frame_give_the_same_table(tmp_path):
    path = csv(tmp_path, "a,b,y\n1,u,0.5\n2,,1.5\n")
    from_csv = read_table(path, "y")
    from_frame = read_table(pd.read_csv(path).set_index(pd.Index([7, 9])), "y")
    pd.testing.assert_frame_equal(from_csv.features, from_frame.features)
    pd.testing.assert_series_equal(from_csv.target, from_frame.target)
    assert list(from_csv.features) == ["a", "b"]
    assert from_csv.target.tolist() == [0.5, 1.5]


def test_column_names_become_text():
    table = read_table(pd.DataFrame([[1, 2], [3, 4]]), "1")
    assert list(table.features) == ["0"]


def test_the_frame_of_the_caller_is_left_as_it_was():
    frame = pd.DataFrame({0: [1.0], 1: [2.0]}, index=[5])
    read_frame(frame)
    assert list(frame.columns) == [0, 1]
    assert list(frame.index) == [5]


def test_exclude_leaves_columns_out():
    frame = pd.DataFrame({"id": [1, 2], "x": [3, 4], "y": [5, 6]})
    assert list(read_table(frame, "y", exclude=["id"]).features) == ["x"]


def test_diabetes_is_in_original_units():
    table = read_table("sklearn:diabetes", "target")
    assert table.features.shape == (442, 10)
    assert table.features["age"].between(19, 79).all()
    assert table.target.iloc[0] == 151.0


@pytest.mark.parametrize(
    ("name", "rows", "some_class"),
    [("iris", 150, "setosa"), ("wine", 178, "class_0"), ("breast_cancer", 569, "malignant"), ("digits", 1797, "0")],
)
def test_classes_of_bundled_sets_are_named(name, rows, some_class):
    target = read_table(f"sklearn:{name}", "target").target
    assert len(target) == rows
    assert target.map(type).eq(str).all()
    assert some_class in set(target)


def test_unknown_set_names_the_nearest():
    with refuses("data.source", "Did you mean 'diabetes'?"):
        read_frame("sklearn:diabets")


def test_missing_file_names_path_and_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refuses("data.source", str(tmp_path), "absent.csv"):
        read_frame("absent.csv")


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"PK\x03\x04\xff\xfe\x00\x80", b"a,b\n1,2\n1,2,3,4\n", b'a,b\n"1,2\n']
)
def test_what_is_no_csv_is_refused(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with refuses("data.source", "a CSV file", str(path)):
        read_frame(path)


def test_rows_longer_than_the_header_are_refused(tmp_path):
    with refuses("data.source", "Length of header"):
        read_frame(csv(tmp_path, "a,b\n0,2,3\n1,5,6\n"))


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_are_refused(tmp_path, mark):
    with refuses("data.source", "put commas"):
        read_frame(csv(tmp_path, "a,b\n1,2\n".replace(",", mark)))


@pytest.mark.parametrize("empty", [pd.DataFrame({"a": []}), pd.DataFrame(index=[0, 1])])
def test_tables_without_cells_are_refused(empty):
    with refuses("data.source", "at least one row and one column"):
        read_frame(empty)


def test_csv_with_a_header_alone_is_refused(tmp_path):
    with refuses("data.source", "at least one row"):
        read_frame(csv(tmp_path, "a,b\n"))


def test_duplicate_columns_are_refused(tmp_path):
    with refuses("data.source", "different names", "'a'"):
        read_frame(csv(tmp_path, "a,b,a\n1,2,3\n"))
    with refuses("data.source", "different names", "'1'"):
        read_frame(pd.DataFrame([[1, 2]], columns=[1, "1"]))


def test_other_sources_are_refused():
    with refuses("data.source", "a path, a DataFrame or 'sklearn:NAME'"):
        read_frame(3)


def test_unknown_target_names_the_nearest():
    with refuses("data.target", "Did you mean 'price'?"):
        read_table(pd.DataFrame({"price": [1], "x": [2]}), "prise")


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA, ""])
def test_missing_targets_are_counted(gap):
    frame = pd.DataFrame({"x": [1, 2, 3, 4], "y": ["a", gap, "b", gap]})
    with refuses("data.target", "2 rows have", "first row 1", "leave those rows out"):
        read_table(frame, "y")


def test_bad_exclusions_are_refused():
    frame = pd.DataFrame({"x": [1], "id": [2], "y": [3]})
    with refuses("data.exclude", "'idd'", "Did you mean 'id'?"):
        read_table(frame, "y", exclude=["idd"])
    with refuses("data.exclude", "other than the target"):
        read_table(frame, "y", exclude=["y"])
    with refuses("data.exclude", "at least one column left"):
        read_table(frame, "y", exclude=["x", "id"])


def test_split_is_a_partition_and_repeats():
    table = table_of(list(range(50)))
    train, test = split_rows(table, 0.25, seed=1, stratify=False)
    assert (len(train.target), len(test.target)) == (37, 13)
    assert sorted([*train.target, *test.target]) == list(range(50))
    assert (train.features["x"] == train.target).all()
    again = split_rows(table, 0.25, seed=1, stratify=False)[1]
    assert again.target.tolist() == test.target.tolist()
    other = split_rows(table, 0.25, seed=2, stratify=False)[1]
    assert other.target.tolist() != test.target.tolist()


def test_stratified_split_keeps_shares():
    train, test = split_rows(table_of([1] * 30 + [2.0] * 10), 0.2, seed=0, stratify=True)
    assert train.target.value_counts().to_dict() == {1: 24, 2: 8}
    assert test.target.value_counts().to_dict() == {1: 6, 2: 2}


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_fractions_outside_0_and_1_are_refused(fraction):
    with refuses("data.test_fraction", "between 0 and 1"):
        split_rows(table_of([1, 2, 3]), fraction, seed=0, stratify=False)


@pytest.mark.parametrize(("rows", "fraction"), [(1, 0.5), (3, 0.9)])
def test_tables_too_small_to_split_are_refused(rows, fraction):
    with refuses("data.test_fraction", "rows for training and test", f"Rows in the table: {rows}"):
        split_rows(table_of(list(range(rows))), fraction, seed=0, stratify=False)


def test_a_class_of_one_row_is_named():
    with refuses("data.target", "at least 2 rows of each class", "'rare'"):
        split_rows(table_of(["often"] * 9 + ["rare"]), 0.3, seed=0, stratify=True)


@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_parts_smaller_than_the_number_of_classes_are_refused(fraction):
    with refuses("data.test_fraction", "leaves 3 rows, one a class"):
        split_rows(table_of(["a", "b", "c"] * 4), fraction, seed=0, stratify=True)
