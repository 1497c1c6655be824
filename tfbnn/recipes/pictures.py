"""The pictures of a comparison: how methods differ, and, where the data have one or two features, what each learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tfbnn.data import NumberColumn
from tfbnn.plots import plot_bands, plot_classes, plot_comparison, write
from tfbnn.prediction import Prediction, predict_distribution
from tfbnn.recipes.compare import GOLD_DRAWS, Result
from tfbnn.recipes.run import PreparedData

POINTS, POINTS_A_SIDE = 200, 60
BEYOND = 0.75  # how far pictures show, beyond the rows, as a share of their range


def draw_comparison(folder: Path, results: Sequence[Result], data: PreparedData) -> list[Path]:
    """Writes the pictures; returns their paths.

    Args:
        folder: where; it exists.
        results: the gold first; those that failed are left out.
        data: what the methods were trained on.
    """
    shown = [result for result in results if not result.failed]
    made = [write(plot_comparison(shown), folder / "comparison.png")] if len(shown) > 1 else []
    numbers = [column for column in data.schema.columns if isinstance(column, NumberColumn)]
    alone = len(numbers) == len(data.schema.columns) == data.schema.num_features
    if alone and len(numbers) == 1 and not data.likelihood.is_classifier:
        made.append(_functions(folder / "functions.png", shown, data))
    if alone and len(numbers) == 2 and data.likelihood.is_classifier:
        made.append(_certainty(folder / "certainty.png", shown, data))
    return made


def _functions(path: Path, results: Sequence[Result], data: PreparedData) -> Path:
    [column] = data.schema.columns
    x, y = data.train.features[column.name].to_numpy(float), data.target.encode(data.train.target)[:, 0]
    grid = _values_around(x, POINTS)
    predictions = _predictions(results, data, pd.DataFrame({column.name: grid}))
    names = column.name, str(data.train.target.name)
    return write(plot_bands(predictions, grid, (x, y), names, results[0].method), path)


def _certainty(path: Path, results: Sequence[Result], data: PreparedData) -> Path:
    names = [column.name for column in data.schema.columns]
    points = data.train.features[names].to_numpy(float)
    grid = _values_around(points[:, 0], POINTS_A_SIDE), _values_around(points[:, 1], POINTS_A_SIDE)
    frame = pd.DataFrame(dict(zip(names, (part.reshape(-1) for part in np.meshgrid(*grid)), strict=True)))
    classes = data.target.encode(data.train.target)[:, 0]
    figure = plot_classes(_predictions(results, data, frame), grid, (points, classes), (names[0], names[1]))
    return write(figure, path)


def _values_around(values: np.ndarray, count: int) -> np.ndarray:
    margin = BEYOND * np.ptp(values)
    return np.linspace(values.min() - margin, values.max() + margin, count)


def _predictions(results: Sequence[Result], data: PreparedData, frame: pd.DataFrame) -> dict[str, Prediction]:
    """One network for all points of a draw: what a picture of functions shows."""
    x = data.schema.encode(frame)
    found = {result.label: result.draws for result in results if result.draws is not None}
    return {
        name: predict_distribution(draws, x, draws.at_most(GOLD_DRAWS // 2), coupling="coherent")
        for name, draws in found.items()
    }
