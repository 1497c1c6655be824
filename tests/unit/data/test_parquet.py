"""Parquet files: the same table as from CSV, and the wording of each refusal."""

from __future__ import annotations

import re
import sys

import numpy as np
import pandas as pd
import pytest

from tfbnn.core.checks import InvalidInput
from tfbnn.data import Schema, check_format, read_frame, write_frame

NA = pd.NA
ROWS = pd.DataFrame(
    {
        "float": [0.5, np.nan, -2.0, 1e-3, 7.25],
        "whole": [1, 2, 3, 5, 8],
        "nullable whole": pd.array([1, NA, 3, 4, 5], dtype="Int64"),
        "nullable float": pd.array([1.5, 2.5, NA, 4.0, 5.0], dtype="Float64"),
        "single": np.float32([0.5, 0.25, 1, 2, 3]),
        "text": ["a", None, "b", "a", "c"],
        "string": pd.array(["u", "v", NA, "u", "v"], dtype="string"),
        "category": pd.Categorical(["low", "high", None, "low", "high"]),
        "truth": [True, False, True, True, False],
        "nullable truth": pd.array([True, NA, False, True, False], dtype="boolean"),
        "truth with gaps": pd.Series([True, None, False, True, True], dtype=object),
    }
)


@pytest.fixture
def pyarrow():
    return pytest.importorskip("pyarrow", reason="Parquet needs the extra tfbnn[parquet]")


@pytest.fixture
def path(tmp_path, pyarrow):
    return tmp_path / "rows.parquet"


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match=".*".join(map(re.escape, parts)))


def from_both(rows, path, **options):
    """The frames of `rows` by way of Parquet and by way of CSV."""
    rows.to_parquet(path)
    rows.to_csv(path.with_suffix(".csv"), **options)
    return read_frame(path), read_frame(path.with_suffix(".csv"))


# --- the same as CSV --------------------------------------------------------------------------------------------------


def test_the_encoded_features_are_those_of_csv(path):
    parquet, csv = from_both(ROWS, path, index=False)
    assert list(parquet) == list(csv)
    fitted = Schema.fit(parquet)
    assert fitted.to_dict() == Schema.fit(csv).to_dict()
    assert {column.name: column.kind for column in fitted.columns} == {
        **dict.fromkeys(["float", "whole", "nullable whole", "nullable float", "single"], "numeric"),
        **dict.fromkeys(["text", "string", "category"], "categorical"),
        **dict.fromkeys(["truth", "nullable truth", "truth with gaps"], "boolean"),
    }
    np.testing.assert_array_equal(fitted.encode(parquet), fitted.encode(csv))


def test_twin_another_cell_is_told_apart(path):
    parquet, csv = from_both(ROWS, path, index=False)
    fitted = Schema.fit(csv)
    parquet["category"] = parquet["category"].cat.rename_categories({"low": "high", "high": "low"})
    assert (fitted.encode(parquet) != fitted.encode(csv)).any()


def test_a_file_of_another_writer(path, pyarrow):
    import pyarrow.parquet

    columns = {"n": [1, None, 3], "t": ["a", "b", None], "b": [True, None, False]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    pd.DataFrame(columns).to_csv(path.with_suffix(".csv"), index=False)
    parquet, csv = read_frame(path), read_frame(path.with_suffix(".csv"))
    fitted = Schema.fit(csv)
    np.testing.assert_array_equal(fitted.encode(parquet), fitted.encode(csv))


def test_a_named_index_is_a_column_as_in_csv(path):
    parquet, csv = from_both(pd.DataFrame({"x": [1, 2]}, index=pd.Index([7, 9], name="id")), path)
    pd.testing.assert_frame_equal(parquet, csv)
    assert list(parquet) == ["id", "x"]


def test_an_index_of_two_levels(path):
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["ward", "bed"])
    parquet, csv = from_both(pd.DataFrame({"x": [1, 2]}, index=index), path)
    assert list(parquet) == list(csv) == ["ward", "bed", "x"]
    np.testing.assert_array_equal(Schema.fit(parquet).encode(parquet), Schema.fit(csv).encode(csv))


@pytest.mark.parametrize("index", [pd.Index([5, 3]), pd.RangeIndex(2, name="row"), None])
def test_other_indices_are_counted_anew(path, index):
    pd.DataFrame({"x": [1, 2]}, index=index).to_parquet(path)
    pd.testing.assert_frame_equal(read_frame(path), pd.DataFrame({"x": [1, 2]}))


def test_column_names_become_text(path):
    pd.DataFrame({0: [1, 2], 1: [3, 4]}).to_parquet(path)
    assert list(read_frame(path)) == ["0", "1"]


def test_capitals_and_text_paths(path):
    ROWS.to_parquet(path.with_suffix(".PARQUET"))
    assert read_frame(str(path.with_suffix(".PARQUET"))).shape == ROWS.shape


def test_folders_with_an_equals_sign_are_no_columns(path):
    folder = path.parent / "year=2020"
    folder.mkdir()
    ROWS.to_parquet(folder / "rows.parquet")
    assert list(read_frame(folder / "rows.parquet")) == list(ROWS)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(path):
    path.write_bytes(b"what was there")
    write_frame(ROWS, path, "--output")
    pd.testing.assert_frame_equal(read_frame(path), read_frame(ROWS), check_dtype=False)
    assert [each.name for each in path.parent.iterdir()] == ["rows.parquet"]


def test_values_that_parquet_cannot_hold(path):
    path.write_bytes(b"what was there")
    with refuses("--output", "values that Parquet holds", "column x", "CSV"):
        write_frame(pd.DataFrame({"x": pd.Series([1, "a"], dtype=object)}), path, "--output")
    assert path.read_bytes() == b"what was there"
    assert [each.name for each in path.parent.iterdir()] == ["rows.parquet"]


def test_numbers_that_parquet_cannot_hold(path):
    with refuses("--output", "values that Parquet holds"):
        write_frame(pd.DataFrame({"x": pd.Series([2**70], dtype=object)}), path, "--output")


# --- refusals ---------------------------------------------------------------------------------------------------------


def spoilt(path, how):
    ROWS.to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "csv": b"a,b\n1,2\n", "end cut": content[:-20], "beginning cut": content[20:],
         "half": content[: len(content) // 2], "overwritten": content[:20] + bytes(200) + content[220:]}[how]
    )  # fmt: skip


@pytest.mark.parametrize("how", ["empty", "csv", "end cut", "beginning cut", "half", "overwritten"])
def test_what_is_no_whole_parquet_file_is_refused(path, how):
    spoilt(path, how)
    with refuses("data.source", "a Parquet file that is whole", str(path)):
        read_frame(path)


def test_two_columns_of_one_name_are_refused(path, pyarrow):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table([[1], [2]], names=["a", "a"]), path)
    with refuses("data.source", "different names", "'a'"):
        read_frame(path)


def test_an_index_with_the_name_of_a_column_is_refused(path):
    pd.DataFrame({"id": [1, 2]}, index=pd.Index([5, 7], name="id")).to_parquet(path)
    with refuses("data.source", "different names", "'id'"):
        read_frame(path)


def test_no_rows_no_file_and_folders(path):
    ROWS.head(0).to_parquet(path)
    with refuses("data.source", "at least one row"):
        read_frame(path)
    with refuses("data.source", "a file that exists", "absent.parquet"):
        read_frame(path.with_name("absent.parquet"))
    path.with_name("parts.parquet").mkdir()
    with refuses("data.source", "no folder"):
        read_frame(path.with_name("parts.parquet"))


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (path := tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with refuses("data.source", "pyarrow", str(path), "pip install 'tfbnn[parquet]'"):
        read_frame(path)
    with refuses("--output", "pyarrow", str(path), "pip install 'tfbnn[parquet]'"):
        check_format(path, "--output")
    check_format(tmp_path / "rows.csv", "--output")
