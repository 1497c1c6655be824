"""Tables: reading, splitting and writing them, and the one rule that turns columns and targets into arrays."""

from tfbnn.data.columns import CategoricalColumn, NumberColumn, labels, numbers_but_for
from tfbnn.data.schema import ColumnEncoder, Schema
from tfbnn.data.table import Table, check_format, read_frame, read_table, split_rows, write_frame
from tfbnn.data.target import Target

__all__ = [
    "CategoricalColumn",
    "ColumnEncoder",
    "NumberColumn",
    "Schema",
    "Table",
    "Target",
    "check_format",
    "labels",
    "numbers_but_for",
    "read_frame",
    "read_table",
    "split_rows",
    "write_frame",
]
