"""Single rows: the surest and the least sure, and of what kind their uncertainty is."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from tfbnn.core.wording import column_cells, common_decimals
from tfbnn.data import labels
from tfbnn.evaluation import certainty
from tfbnn.plots import plot_uncertainties
from tfbnn.report.base import Picture, Section, Table, Text
from tfbnn.report.evidence import Evidence

SHOWN = 5  # rows of either end
MOST_COLUMNS = 20


def most_and_least_certain(evidence: Evidence) -> Section:
    """The rows at both ends, with the values of their columns, the prediction and the truth."""
    order = np.argsort(-certainty(evidence.prediction), kind="stable")
    shown = min(SHOWN, len(order) // 2) or 1
    ends = order if len(order) == 1 else np.concatenate([order[:shown], order[-shown:][::-1]])
    columns = {**_answers(evidence, ends), **_values(evidence, ends)}
    rows = [(str(row), *cells) for row, *cells in zip(ends, *columns.values(), strict=True)]
    tables = [Table(("surest rows", *columns), rows[:shown]), Table(("least sure rows", *columns), rows[shown:])]
    what = "the largest probability" if evidence.is_classifier else "the predictive standard deviation"
    left_out = max(0, len(evidence.about["schema"]["columns"]) - MOST_COLUMNS)
    told = f"By {what}; row 0 is the first of the file."
    told += f" {left_out} more columns are not shown." if left_out else ""
    return Section("Most and least certain rows", [Text(told), *(table for table in tables if table.rows)])


def _answers(evidence: Evidence, rows: np.ndarray) -> dict[str, list[str]]:
    """Truth and prediction, and how sure that is."""
    prediction = evidence.prediction
    if evidence.is_classifier:
        return {
            "truth": [evidence.labels[k] for k in evidence.y[rows, 0]],
            "told": [evidence.labels[k] for k in prediction.probabilities[rows].argmax(axis=1)],
            "probability": column_cells(prediction.probabilities[rows].max(axis=1), 3),
            "epistemic, nats": column_cells(prediction.mutual_information[rows], 3),
            "aleatoric, nats": column_cells(prediction.expected_entropy[rows], 3),
        }
    lower, upper = (end[rows, 0] for end in prediction.interval(evidence.level))
    mean, truth = prediction.mean[rows, 0], evidence.y[rows, 0]
    places = common_decimals([mean, truth])
    of_counts = 0 if prediction.likelihood.is_discrete else places
    ends = [column_cells(end, of_counts) for end in (lower, upper)]
    return {
        "truth": column_cells(truth, of_counts),
        "mean": column_cells(mean, places),
        f"{evidence.level:.0%} interval": [f"{a} to {b}" for a, b in zip(*ends, strict=True)],
        "epistemic": column_cells(prediction.epistemic_stddev[rows, 0], places),
        "aleatoric": column_cells(prediction.aleatoric_stddev[rows, 0], places),
    }


def _values(evidence: Evidence, rows: np.ndarray) -> dict[str, list[str]]:
    """The columns in original units; a name that an answer has too gains a space, as tables need different names."""
    names = [column["name"] for column in evidence.about["schema"]["columns"]][:MOST_COLUMNS]
    return {f"{name} ": _as_written(evidence.frame[name].iloc[rows]) for name in names if name in evidence.frame}


def _as_written(column: pd.Series) -> list[str]:
    """Numbers to six digits, other cells as they are, "" where missing."""
    if pd.api.types.is_float_dtype(column.dtype):
        return ["" if pd.isna(value) else f"{value:.6g}" for value in column]
    return [str(cell) for cell in labels(column)]


def epistemic_against_aleatoric(evidence: Evidence) -> Section:
    """Of which kind the uncertainty is, row by row."""
    prediction = evidence.prediction
    if evidence.is_classifier:
        whole = float(prediction.predictive_entropy.mean())
        part = float(prediction.mutual_information.mean())
        what = "of the mean predictive entropy"
    else:
        whole, part = float(prediction.variance.mean()), float(np.square(prediction.epistemic_stddev).mean())
        what = "of the mean predictive variance"
    size = "Less than 1%" if part < 0.01 * whole else f"{part / whole:.0%}" if whole else "None"
    share = f"{size} {what} is epistemic: from not knowing the weights, more data would remove it. "
    told = (
        f"{share}Aleatoric is the noise that would be left. Rows high in the picture are those that the draws of the "
        "weights disagree about: unlike the training rows, or where those leave more than one answer open."
    )
    draw = functools.partial(plot_uncertainties, prediction, evidence.y, evidence.level, evidence.target)
    return Section(
        "Epistemic and aleatoric", [Text(told), Picture(draw, "A point a row; orange: the prediction missed it.")]
    )
