"""The diabetes recipe on random splits: error beside ridge regression's, coverage of the intervals, KL.

Ridge regression is scikit-learn's RidgeCV on the same encoded rows, its penalty chosen from training rows. Nothing of
the recipe is chosen on held-out rows: its prior scale is the one of 1, 0.3 and 0.1 with the highest ELBO.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeCV

import tfbnn
from benchmarks import timing

RECIPE = Path(__file__).parent.parent / "recipes" / "diabetes.yaml"


def main(arguments: list[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks diabetes", description=__doc__)
    parser.add_argument("--splits", type=int, default=5)
    splits = [split(seed) for seed in range(parser.parse_args(arguments).splits)]
    print(timing.machine())
    print("\n| split | RMSE | ridge | ratio | 90 % coverage | KL, nats | log likelihood, nats a row | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for seed, row in enumerate(splits):
        print(f"| {seed} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
    mean = np.mean(splits, axis=0)
    ratio = mean[0] / mean[1]
    print(f"\nRMSE / ridge = {ratio:.4f} (target <= 1.02); pooled coverage {mean[3]:.1%} (84 to 96 %); "
          f"least KL {min(row[4] for row in splits):.1f} nats (> 1)")  # fmt: skip


def split(seed: int) -> tuple[float, ...]:
    """RMSE, ridge's RMSE, ratio, coverage, KL, log likelihood and seconds of one split."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"seed={seed}", f"export.path={folder}/model"]
        result = tfbnn.run_recipe(tfbnn.Recipe.from_yaml(RECIPE, settings))
    seconds = time.perf_counter() - begin
    ridge = ridge_rmse(result.data)
    scores = result.scores
    ratio = scores["rmse"] / ridge
    return scores["rmse"], ridge, ratio, scores["coverage"], result.elbo.kl, scores["log_likelihood"], seconds


def ridge_rmse(data) -> float:
    """Held-out RMSE of ridge regression."""
    (x, y), (x_test, y_test) = data.arrays(data.train), data.arrays(data.held_out)
    model = RidgeCV(np.logspace(-3, 3, 25)).fit(x, y[:, 0])
    return float(np.sqrt(np.mean((model.predict(x_test) - y_test[:, 0]) ** 2)))
