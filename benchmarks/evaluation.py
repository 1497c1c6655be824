"""The pictures of docs/evaluation.md: both recipes are trained, and what their held-out rows show is drawn."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import tfbnn
from tfbnn import plots
from tfbnn.plots.base import write

RECIPES = Path(__file__).parent.parent / "recipes"


def main(arguments: list[str]) -> None:
    """Writes the pictures and prints the scores."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks evaluation", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of the pictures")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="setting of both recipes")
    asked = parser.parse_args(arguments)
    for name in ("breast_cancer", "diabetes"):
        with tempfile.TemporaryDirectory() as folder:
            settings = [*asked.set, f"export.path={folder}/model"]
            result = tfbnn.run_recipe(tfbnn.Recipe.from_yaml(RECIPES / f"{name}.yaml", settings))
        print(name, {score: round(value, 4) for score, value in result.scores.items()})
        for picture, figure in pictures(result).items():
            print(write(figure, asked.output / f"{name}_{picture}.png"))


def pictures(result: Any) -> dict[str, Any]:
    """Name -> figure of what there is to see of a recipe's result."""
    x, y = result.data.arrays(result.data.held_out)
    prediction = result.draws.predict_distribution(x, result.recipe.prediction.num_samples)
    of_numbers = {} if prediction.likelihood.is_classifier else {"pit": plots.plot_pit(prediction, y)}
    return {
        "reliability": plots.plot_reliability(prediction, y),
        "risk_coverage": plots.plot_risk_coverage(prediction, y),
        "densities": plots.plot_densities(prediction, rows=(0, 1, 2), y=y),
        "elbo": plots.plot_elbo(result.history),
        "weights": plots.plot_weights(result.model),
        **of_numbers,
    }
