"""Pictures of active learning: what is drawn is what was given."""

import numpy as np
import pandas as pd

from tfbnn.plots import plot_asked, plot_learning_curves


def test_curves_are_the_means_of_the_runs_over_their_labels():
    runs = [pd.DataFrame({"labels": [20, 30, 40], "accuracy": values}) for values in ([0.5, 0.7, 0.9], [0.7, 0.7, 1.0])]
    [axis] = plot_learning_curves({"bald": runs, "random": runs[:1]}, targets=[0.95]).axes
    target, bald, random = axis.get_lines()
    np.testing.assert_allclose(bald.get_xydata(), [[20, 0.6], [30, 0.7], [40, 0.95]])
    np.testing.assert_allclose(random.get_ydata(), [0.5, 0.7, 0.9])
    assert set(target.get_ydata()) == {0.95}
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["bald", "random"]


def test_rows_asked_for_are_those_of_their_function():
    grid = np.linspace(-1, 1, 5), np.linspace(-2, 2, 4)
    pool = np.random.default_rng(0).normal(size=(9, 2))
    scores = {"bald": np.arange(20.0), "random": np.arange(20.0)[::-1]}
    asked = {"bald": np.array([1, 3]), "random": np.array([8])}
    labelled = pool[:4] + 0.1, np.array(["lower", "upper", "lower", "upper"])
    figure = plot_asked(scores, grid, pool, asked, labelled, ("across", "up"))
    panels = [axis for axis in figure.axes if axis.get_title(loc="left")]
    assert [axis.get_title(loc="left") for axis in panels] == ["bald", "random"]
    for axis, name in zip(panels, asked, strict=True):
        lines = {line.get_label(): line.get_xydata() for line in axis.get_lines()}
        np.testing.assert_allclose(lines["asked for"], pool[asked[name]])
        np.testing.assert_allclose(lines["pool"], pool)
        np.testing.assert_allclose(lines["labelled, upper"], labelled[0][1::2])
