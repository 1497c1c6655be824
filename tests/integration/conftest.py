"""Two recipes, run once for all tests: their results, models and exports must be left as they are."""

from __future__ import annotations

import pytest

import clinic
import tfbnn


def _run(folder, target, likelihood):
    clinic.rows().to_csv(folder / "rows.csv", index=False)
    content = clinic.recipe(folder / "rows.csv", target, likelihood, export={"path": str(folder / "clinic")})
    return tfbnn.run_recipe(tfbnn.Recipe.from_dict(content))


@pytest.fixture(scope="session")
def regression_run(tmp_path_factory):
    """`RecipeResult` of a regression on the columns of a clinic, 3 epochs."""
    return _run(tmp_path_factory.mktemp("regression"), "score", "Normal")


@pytest.fixture(scope="session")
def three_class_run(tmp_path_factory):
    """`RecipeResult` of three classes on the columns of a clinic, 3 epochs."""
    return _run(tmp_path_factory.mktemp("classes"), "grade", "Categorical")
