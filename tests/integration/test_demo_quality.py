"""The demo predicts as well as ridge regression, covers what it says, and does not collapse to the prior."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

import tfbnn

DIABETES = Path(__file__).parents[2] / "recipes" / "diabetes.yaml"
SPLITS = range(5)


def run(folder: Path, *settings: str):
    return tfbnn.run_recipe(tfbnn.Recipe.from_yaml(DIABETES, [f"export.path={folder}/diabetes", *settings]))


def rmse(predicted: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predicted - y) ** 2)))


def ridge_rmse(data) -> float:
    """Of ridge regression, its penalty chosen by cross-validation, on the same encoded rows."""
    (x, y), (x_held_out, y_held_out) = data.arrays(data.train), data.arrays(data.held_out)
    ridge = RidgeCV(alphas=np.logspace(-3, 3, 25)).fit(x, y[:, 0])
    return rmse(ridge.predict(x_held_out), y_held_out[:, 0])


def test_a_short_demo_learns_and_keeps_away_from_the_prior(tmp_path):
    result = run(tmp_path, "training.epochs=40")
    y = result.data.arrays(result.data.held_out)[1]
    mean_of_training = result.data.arrays(result.data.train)[1].mean()
    assert result.elbo.kl > 1.0
    assert result.scores["rmse"] < 0.9 * rmse(mean_of_training, y)
    assert 0.75 < result.scores["coverage"] < 1.0


@pytest.mark.slow
def test_five_splits_against_ridge_regression(tmp_path):
    ours, ridge, inside = [], [], []
    for seed in SPLITS:
        result = run(tmp_path / str(seed), f"seed={seed}")
        assert result.elbo.kl > 1.0
        ours.append(result.scores["rmse"])
        ridge.append(ridge_rmse(result.data))
        inside += [result.scores["coverage"]] * int(result.scores["rows"])
    assert np.mean(ours) <= 1.02 * np.mean(ridge), (ours, ridge)
    assert 0.84 <= np.mean(inside) <= 0.96
