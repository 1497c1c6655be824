"""Numbers in words: as many digits as are known, and scores by their names."""

import numpy as np
import pytest

from tfbnn.core.wording import SCORES, as_known, column_cells, common_decimals, four_digits, scores_in_words, spread
from tfbnn.evaluation import Estimate


@pytest.mark.parametrize(
    ("values", "is_share", "told"),
    [
        ([58.21, 49.08, 67.24], False, ["58.2", "49.1", "67.2"]),
        ([3512.4, 2296.0, 4668.0], False, ["3,512", "2,296", "4,668"]),
        ([-0.12345, -0.1808, -0.0792], False, ["-0.123", "-0.181", "-0.079"]),
        ([0.965, 0.930, 0.991], True, ["96.5%", "93.0%", "99.1%"]),
        ([0.5, 0.3, 0.7], True, ["50%", "30%", "70%"]),
        ([1.0, 1.0, 1.0], True, ["100.0%"] * 3),
        ([0.375], False, ["0.375"]),
        ([0.0], False, ["0.0"]),
        ([float("nan")], False, ["nan"]),
        ([float("inf"), 1.0, float("inf")], False, ["inf", "1.0", "inf"]),
    ],
)
def test_as_many_digits_as_are_known(values, is_share, told):
    assert as_known(values, is_share) == told


def test_lines_of_a_table_may_share_their_decimals():
    assert as_known([59.44, 45.9, 70.1], False, half=2.0) == ["59.4", "45.9", "70.1"]


def test_scores_have_their_words_and_ends():
    scores = {"rmse": 58.214, "cost_of_grant": 1.5, "unknown": 3.0, "rows": 9.0}
    lines = scores_in_words(scores, 0.9, {"rmse": Estimate(58.214, 49.08, 67.24)}, as_known, "mmol {x}")
    assert lines == [
        ["root mean squared error, units of mmol {x}", "58.2", "49.1", "67.2"],
        ["  if all were 'grant'", "1.50"],
    ]
    assert scores_in_words({"coverage": 0.9}, 0.9) == [["90% intervals that hold the target", "90.0%"]]
    assert all("{" not in text.format(level=0.9, target="y", action="a", loss="l") for text in SCORES.values())


def test_cells_and_spreads():
    assert spread(13.0224, 0.8123) == "13.02 ± 0.81"
    assert spread(5.0, 0.0) == "5 ± 0"
    assert four_digits([0.0], False) == ["0.000"]
    assert column_cells(np.array([1.5, 100.25])) == ["1.5", "100.2"]
    assert column_cells(np.array(["a", "b"])) == ["a", "b"]
    assert common_decimals([np.array([0.5]), np.array([np.nan])]) == 3
