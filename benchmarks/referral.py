"""Decisions on random splits: error and cost where the least certain rows go to a person, beside logistic regression.

The recipes pima and german_credit, run with seeds 0, 1, ...: each splits the table anew. Logistic regression is
scikit-learn's on the same encoded rows, those that the recipe calibrates on among its training rows; its penalty is
chosen by 5-fold cross-validation within them, by log loss, and beside it stands C = 1, the default.
Both refer the same share of the test rows by the same rule, the probability of the likeliest class.

Costs: those of german_credit came with the data (a bad loan granted 5, a good one refused 1). For pima they are an
assumption: a missed diabetes 5, a healthy woman treated 1. That a referral costs 0.4 is an assumption in both.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

import tfbnn
from benchmarks import timing
from tfbnn import evaluation
from tfbnn.core.checks import InvalidInput
from tfbnn.decision import CostMatrix, Decision
from tfbnn.recipes.run import prepare_data

RECIPES = Path(__file__).parent.parent / "recipes"
FILES = {"pima": "pima_diabetes.csv", "german_credit": "german_credit.csv"}
PIMA = CostMatrix({"send home": [0, 5], "treat": [1, 0]}, refer=0.4)
SHARE = 0.2
NET, LOGISTIC, DEFAULT = "the recipe's net", "logistic regression", "the same, C = 1"


def main(arguments: list[str]) -> None:
    """Prints a table a recipe."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks referral", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {' and '.join(FILES.values())}")
    parser.add_argument("--recipes", nargs="+", choices=FILES, default=list(FILES), metavar="RECIPE")
    parser.add_argument("--splits", type=timing.positive, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="setting of the recipes")
    parser.add_argument("--inner", action="store_true", help="split the training rows of the recipe's own seed alone")
    given = parser.parse_args(arguments)
    print(f"{timing.machine()}; commit {timing.commit()}; {time.strftime('%Y-%m-%d')}", flush=True)
    try:
        for name in given.recipes:
            begin = time.perf_counter()
            outcomes = run(name, given.data / FILES[name], given.splits, given.set, given.inner)
            print(f"\n{report(name, outcomes)}\n{time.perf_counter() - begin:.0f} s", flush=True)
    except InvalidInput as error:
        sys.exit(f"Error: {error}")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One split: rows of each part, and the scores of each model, by the names of `SCORES` and of the costs."""

    rows: tuple[int, int, int]
    scores: dict[str, dict[str, float]]


def run(name: str, source: Path, splits: int, settings: Sequence[str] = (), inner: bool = False) -> list[Outcome]:
    """What each split gave."""
    with tempfile.TemporaryDirectory() as folder:
        if inner:
            source = training_rows(recipe(name, source, settings), Path(folder) / source.name)
        return [one(recipe(name, source, [*settings, f"seed={seed}", f"export.path={folder}/{name}"]))
                for seed in range(splits)]  # fmt: skip


def recipe(name: str, source: Path, settings: Sequence[str]) -> tfbnn.Recipe:
    """The recipe on that table."""
    return tfbnn.Recipe.from_yaml(RECIPES / f"{name}.yaml", [f"data.source={source}", *settings])


def training_rows(of: tfbnn.Recipe, path: Path) -> Path:
    """Writes the rows that the recipe trains and calibrates on, in the order of the table."""
    data = prepare_data(of)
    parts = [part for part in (data.train, data.calibration) if part is not None]
    rows = pd.concat([pd.concat([part.features, part.target], axis=1) for part in parts])
    rows.sort_index().to_csv(path, index=False)
    return path


def one(of: tfbnn.Recipe) -> Outcome:
    """The scores of one split."""
    result = tfbnn.run_recipe(of)
    data = result.data
    x, y = data.arrays(data.held_out)
    known = [data.arrays(part) for part in (data.train, data.calibration) if part is not None]
    x_known, y_known = (np.concatenate(parts) for parts in zip(*known, strict=True))
    net = result.calibrated(result.draws.predict_distribution(x, result.draws.at_most(of.prediction.num_samples)))
    predictions = {NET: net, **logistic(x_known, y_known[:, 0], x)}
    decision = result.calibrated.decision if isinstance(result.calibrated.decision, CostMatrix) else PIMA
    told = {model: scores(prediction, y, decision) for model, prediction in predictions.items()}
    told[NET]["referred"] = result.scores["referred"]
    return Outcome((len(data.train.target), len(y_known) - len(data.train.target), len(y)), told)


def logistic(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> dict[str, tfbnn.Prediction]:
    """What logistic regression predicts, as one draw of logits."""
    default = LogisticRegression(max_iter=5000)
    penalties = {"C": np.logspace(-3, 2, 11)}
    models = {LOGISTIC: GridSearchCV(default, penalties, scoring="neg_log_loss", cv=5), DEFAULT: default}
    logits = {name: logit(model.fit(x, y).predict_proba(new)[:, 1]) for name, model in models.items()}
    return {name: tfbnn.Prediction(value[np.newaxis, :, np.newaxis].astype(np.float32), tfbnn.likelihoods.Bernoulli())
            for name, value in logits.items()}  # fmt: skip


def scores(prediction: tfbnn.Prediction, y: np.ndarray, decision: Decision) -> dict[str, float]:
    """Error of all rows and of those that are kept, and what the decisions cost a row."""
    loss, sure = evaluation.losses(prediction, y), evaluation.certainty(prediction)
    return {
        "log_likelihood": float(np.mean(prediction.log_prob(y))),
        "error": float(np.mean(loss)),
        "kept": evaluation.risk_at(loss, sure, SHARE),
        **evaluation.score(prediction, y, decision=decision),
    }


# --- report -----------------------------------------------------------------------------------------------------------


def report(name: str, outcomes: Sequence[Outcome]) -> str:
    """Markdown: the scores of each model, and the differences that the claims are about."""
    train, calibrated, test = outcomes[0].rows
    lines = [f"**{name}**: {len(outcomes)} splits, {train} rows to train on, {calibrated} to calibrate on, {test} to "
             f"test on; means and standard errors over the splits", "",
             f"| model | log likelihood | error | error, {SHARE:.0%} referred | cost, none referred | cost |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for model in (NET, LOGISTIC, DEFAULT):
        columns = [of(outcomes, model, score) for score in ("log_likelihood", "error", "kept", "cost_without_referral",
                                                             "cost")]  # fmt: skip
        cells = [f"{values.mean():.4f} ± {error(values):.4f}" for values in columns]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    cost, kept = of(outcomes, NET, "cost"), of(outcomes, NET, "kept")
    constant = sorted(score for score in outcomes[0].scores[NET] if score.startswith("cost_of_"))
    lines += ["", "| paired difference of the net | mean | t test | corrected | better, equal, worse on |",
              "|---|---|---|---|---|"]  # fmt: skip
    against = {
        f"error, {SHARE:.0%} referred, - logistic regression's": kept - of(outcomes, LOGISTIC, "kept"),
        f"error, {SHARE:.0%} referred, - that of C = 1": kept - of(outcomes, DEFAULT, "kept"),
        "cost - logistic regression's": cost - of(outcomes, LOGISTIC, "cost"),
        "cost - its own where none is referred": cost - of(outcomes, NET, "cost_without_referral"),
        **{f"cost - {score.replace('_', ' ')}": cost - of(outcomes, NET, score) for score in constant},
    }
    for what, differences in against.items():
        lines.append(f"| {what} | {compared(differences, test / (train + calibrated))} |")
    referred = of(outcomes, NET, "referred")
    return "\n".join([*lines, "", f"By the recipe's own threshold {referred.mean():.1%} ± {error(referred):.1%} of the "
                                  "rows were referred."])  # fmt: skip


def of(outcomes: Sequence[Outcome], model: str, score: str) -> np.ndarray:
    """One score of one model, split by split."""
    return np.array([outcome.scores[model][score] for outcome in outcomes])


def error(values: np.ndarray) -> float:
    """Standard error of the mean over the splits; nan of one split."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def compared(differences: np.ndarray, test_over_training: float) -> str:
    """Mean with its standard error, p of two paired t tests, and on how many splits the net was better.

    The second test knows that random splits share rows: its variance is (1 / n + n_test / n_train) s^2 rather than
    s^2 / n (Nadeau & Bengio 2003, "Inference for the generalization error").
    """
    n, spread = len(differences), np.std(differences, ddof=1) if len(differences) > 1 else np.nan
    errors = [spread / np.sqrt(n), spread * np.sqrt(1 / n + test_over_training)]
    told = [f"p = {2 * stats.t.sf(abs(differences.mean()) / e, n - 1):.2g}" if e > 0 else "-" for e in errors]
    counts = [int(np.sum(found)) for found in (differences < -1e-9, abs(differences) <= 1e-9, differences > 1e-9)]
    cells = [f"{differences.mean():+.4f} ± {errors[0]:.4f}", *told, ", ".join(map(str, counts))]
    return " | ".join(cells)
