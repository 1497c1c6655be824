"""Recipes from data to SavedModel: served as trained, scored as printed, the same twice, whole or not at all."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import clinic
import tfbnn
from tfbnn import terminal
from tfbnn.core.checks import InvalidInput
from tfbnn.data import Target, read_frame
from tfbnn.evaluation import score
from tfbnn.training.validation import Validation

RECIPES = Path(__file__).parents[2] / "recipes"
SLOW = ("wine", "digits", "residual_mlp", "digits_lenet", "digits_lstm", "digits_transformer")
NAMES = (
    "diabetes",
    "breast_cancer",
    *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
)
FEW = ["training.epochs=3", "prediction.num_samples=20"]


@pytest.fixture(scope="module", params=NAMES)
def run(request, tmp_path_factory):
    """`RecipeResult` of a recipe that comes with tfbnn, 3 epochs."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = [*FEW, f"export.path={folder}/{request.param}"]
    return tfbnn.run_recipe(tfbnn.Recipe.from_yaml(RECIPES / f"{request.param}.yaml", settings, allow_imports=True))


@pytest.fixture(scope="module")
def served(run):
    return tfbnn.load_saved_model(run.path)


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_the_export_predicts_the_held_out_rows_as_the_trained_model_does(run, served):
    x, _ = run.data.arrays(run.data.held_out)
    here = run.model.predict_distribution(x, num_samples=20)
    from_rows = served.predict_distribution(run.data.held_out.features)
    np.testing.assert_array_equal(from_rows.parameters, here.parameters)
    from_csv = served.predict_distribution(pd.read_csv(run.held_out_csv))
    np.testing.assert_allclose(from_csv.parameters, here.parameters, rtol=1e-5, atol=1e-5)


def test_scores_of_the_export_on_the_written_rows_are_those_of_training(run, served):
    frame = read_frame(run.held_out_csv)
    y = Target.from_dict(served.about["target"]).encode(frame["target"])
    again = score(served.predict_distribution(frame), y, served.about["model"]["level"])
    assert set(again) == set(run.scores)
    for name, value in run.scores.items():
        assert again[name] == pytest.approx(value, rel=1e-5), name


def test_the_terms_of_the_elbo_are_those_of_the_model_on_the_training_rows(run):
    x, y = run.data.arrays(run.data.train)
    terms = run.model.elbo_terms(x, y, num_samples=100)
    assert run.elbo.num_data == len(x)
    assert run.elbo.kl == pytest.approx(float(run.model.kl_divergence()), rel=1e-6)
    assert run.elbo.elbo == pytest.approx(float(terms.log_likelihood) - float(terms.kl), rel=1e-6)
    assert run.elbo.kl > 1.0


def test_every_epoch_is_reported(run):
    assert {"loss", "elbo", "log_likelihood", "kl", "beta"} <= set(run.history)
    assert {len(values) for values in run.history.values()} == {3}
    assert np.isfinite(list(run.history.values())).all()


def test_the_history_lies_beside_the_model(run, served):
    assert served.about["history"] == run.history
    frame = pd.read_csv(run.path / "assets.extra" / "history.csv", index_col="epoch")
    pd.testing.assert_frame_equal(frame, pd.DataFrame(run.history).rename_axis("epoch"))


def test_the_resolved_recipe_lies_beside_the_model(run, served):
    assert served.about["recipe"] == run.recipe.resolved()
    assert served.about["scores"] == run.scores
    again = tfbnn.Recipe.from_dict(served.about["recipe"], allow_imports=True, folder=RECIPES)
    assert again.resolved() == run.recipe.resolved()


def test_held_out_rows_are_rows_of_the_table_and_none_was_trained_on(run):
    train, held_out = run.data.train.features.index, run.data.held_out.features.index
    assert not set(train) & set(held_out)
    assert len(train) + len(held_out) == len(read_frame(run.recipe.data.source))
    frame = pd.read_csv(run.held_out_csv)
    assert list(frame["target"].astype(str)) == list(run.data.held_out.target.astype(str))


def test_the_predicted_classes_are_the_names_of_the_table(run, served):
    if run.data.target.labels:
        predicted = served.predict(run.data.held_out.features)["predicted_class"]
        assert set(predicted) <= set(read_frame(run.recipe.data.source)["target"])


def test_training_got_better(run):
    assert run.history["elbo"][-1] > run.history["elbo"][0]


# --- the same twice ---------------------------------------------------------------------------------------------------

FINGERPRINT = """
import sys, numpy as np, pandas as pd, tfbnn
folder, recipe = sys.argv[1:]
result = tfbnn.run_recipe(tfbnn.Recipe.from_yaml(recipe, [f"export.path={folder}/again"]))
parameters = tfbnn.load_saved_model(result.path).predict_distribution(result.data.held_out.features).parameters
np.savez(f"{folder}/again.npz", *result.model.get_weights(), parameters=parameters)
"""


def clinic_recipe(folder: Path, **training) -> Path:
    clinic.rows().to_csv(folder / "rows.csv", index=False)
    recipe = clinic.recipe(folder / "rows.csv", "score", "HeteroscedasticNormal", training={"epochs": 4, **training})
    path = folder / "demo.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return path


def run_again(path: Path, where: Path, *settings: str):
    return tfbnn.run_recipe(tfbnn.Recipe.from_yaml(path, [f"export.path={where}", *settings]))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(the recipe, its result)."""
    folder = tmp_path_factory.mktemp("twice")
    path = clinic_recipe(folder, validation_fraction=0.2, train_samples=2)
    return path, run_again(path, folder / "first")


def assert_same_weights(one: list[np.ndarray], two: list[np.ndarray]) -> None:
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_same_recipe_gives_the_same_weights_scores_and_predictions(first, tmp_path):
    path, result = first
    again = run_again(path, tmp_path / "again")
    assert_same_weights(again.model.get_weights(), result.model.get_weights())
    assert again.scores == result.scores
    assert again.history == result.history
    rows = result.data.held_out.features
    np.testing.assert_array_equal(
        tfbnn.load_saved_model(again.path).predict_distribution(rows).parameters,
        tfbnn.load_saved_model(result.path).predict_distribution(rows).parameters,
    )


@pytest.mark.slow
def test_the_same_recipe_in_another_process_gives_the_same_weights_and_predictions(first, tmp_path):
    path, result = first
    arguments = [sys.executable, "-c", FINGERPRINT, str(tmp_path), str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=180, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "again.npz") as found:
        weights = [found[f"arr_{i}"] for i in range(len(found.files) - 1)]
        parameters = found["parameters"]
    assert_same_weights(weights, result.model.get_weights())
    here = tfbnn.load_saved_model(result.path).predict_distribution(result.data.held_out.features)
    np.testing.assert_array_equal(parameters, here.parameters)


@pytest.mark.slow
def test_another_seed_gives_another_split_and_other_weights(first, tmp_path):
    path, result = first
    other = run_again(path, tmp_path / "other", "seed=1")
    assert set(other.data.held_out.features.index) != set(result.data.held_out.features.index)
    assert not np.array_equal(other.model.get_weights()[-1], result.model.get_weights()[-1])


# --- settings reach the training --------------------------------------------------------------------------------------


def trained(path: Path, *settings: str, callbacks=()):
    recipe = tfbnn.Recipe.from_yaml(path, settings)
    data = tfbnn.recipes.run.prepare_data(recipe)
    method = tfbnn.recipes.run.build_method(recipe, data)
    tfbnn.recipes.run.fit_method(recipe, data, method, callbacks)
    return method.model, method.history


def test_settings_of_training_are_used(tmp_path):
    path = clinic_recipe(tmp_path)
    settings = ["training.learning_rate=0.005", "training.clipnorm=0.5", "training.epochs=4", "training.batch_size=30",
                "training.validation_fraction=0.25", "training.beta={class: Linear, steps: 8}"]  # fmt: skip
    model, history = trained(path, *settings)
    assert model.num_data == 54  # of 72 training rows, a quarter is watched
    assert int(model.optimizer.iterations) == 8  # ceil(54 / 30) steps in each of 4 epochs
    assert float(model.optimizer.learning_rate) == pytest.approx(0.005)
    assert model.optimizer.clipnorm == 0.5
    np.testing.assert_allclose(history["beta"], [1 / 16, 5 / 16, 9 / 16, 13 / 16], rtol=1e-6)
    assert len(history["val_log_likelihood"]) == 4


def test_patience_stops_and_keeps_the_best_weights(tmp_path, monkeypatch):
    class First(keras.callbacks.Callback):
        """Keeps the weights of the first epoch."""

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                self.weights = self.model.get_weights()

    worse = itertools.count()  # every epoch is worse than the one before
    monkeypatch.setattr(Validation, "__call__", lambda *_: {"val_log_likelihood": -float(next(worse))})
    first = First()
    settings = ["training.epochs=9", "training.validation_fraction=0.2", "training.patience=2"]
    model, history = trained(clinic_recipe(tmp_path), *settings, callbacks=[first])
    assert len(history["loss"]) == 3
    networks = [weight.path for weight in model.weights]
    for name, kept, best in zip(networks, model.get_weights(), first.weights, strict=True):
        if "seed_generator" not in name:
            np.testing.assert_array_equal(kept, best, err_msg=name)


# --- whole or not at all ----------------------------------------------------------------------------------------------


class Raises(keras.callbacks.Callback):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_epoch_end(self, epoch, logs=None):
        raise self.error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), pytest.param(RuntimeError("a callback failed"), marks=pytest.mark.slow)]
)
def test_training_that_is_cut_off_writes_nothing(tmp_path, monkeypatch, error):
    monkeypatch.chdir(tmp_path)
    recipe = tfbnn.Recipe.from_yaml(clinic_recipe(tmp_path))
    with pytest.raises(type(error)):
        tfbnn.run_recipe(recipe, callbacks=[Raises(error)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.yaml", "rows.csv"]


def test_a_loss_that_is_no_number_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tfbnn.Recipe.from_yaml(clinic_recipe(tmp_path, learning_rate=1e30))
    with pytest.raises(FloatingPointError, match="Training stopped in epoch"):
        tfbnn.run_recipe(recipe)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.yaml", "rows.csv"]


@pytest.mark.parametrize(
    ("step", "error"), [("_write_graphs", KeyboardInterrupt()), ("_write_extra", OSError("no space left"))]
)
def test_an_export_that_is_cut_off_leaves_no_version(regression_run, tmp_path, monkeypatch, step, error):
    def fails(folder, *_, **__):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "half").write_text("written")
        raise error

    monkeypatch.setattr(f"tfbnn.export.saved_model.{step}", fails)
    with pytest.raises(type(error)):
        tfbnn.export_saved_model(regression_run.model, tmp_path / "demo", schema=regression_run.data.schema)
    assert list((tmp_path / "demo").iterdir()) == []


# --- counts -----------------------------------------------------------------------------------------------------------


def visits(folder: Path, likelihood: str, **columns) -> tfbnn.Recipe:
    """A recipe on the visits of 120 patients, of which there are more at a higher age."""
    rng = np.random.default_rng(0)
    age = rng.uniform(-1, 1, 120)
    frame = pd.DataFrame({"age": age, "visits": rng.poisson(np.exp(1.0 + 1.2 * age))}).assign(**columns)
    frame.to_csv(folder / "visits.csv", index=False)
    content = {
        "name": "visits",
        "data": {"source": str(folder / "visits.csv"), "target": "visits"},
        "model": {"hidden": [8]},
        "likelihood": likelihood,
        "training": {"epochs": 30, "learning_rate": 0.02},
        "prediction": {"num_samples": 20},
        "export": {"path": str(folder / "served")},
    }
    return tfbnn.Recipe.from_dict(content)


@pytest.mark.parametrize("likelihood", ["Poisson", pytest.param("NegativeBinomial", marks=pytest.mark.slow)])
def test_counts_from_a_table_to_a_served_model(likelihood, tmp_path):
    result = tfbnn.run_recipe(visits(tmp_path, likelihood))
    assert result.elbo.log_likelihood > terminal.chance_log_likelihood(result.data)
    rows = pd.read_csv(result.held_out_csv)
    served = tfbnn.load_saved_model(result.path)
    prediction, answer = served.predict_distribution(rows), served.predict(rows)
    again = score(prediction, rows["visits"].to_numpy())
    assert again["log_likelihood"] == pytest.approx(result.scores["log_likelihood"], rel=1e-5)
    assert 0.75 < result.scores["coverage"] <= 1.0
    for edge, level in (("lower", 0.05), ("upper", 0.95)):
        count = answer[edge]
        np.testing.assert_array_equal(count, np.floor(count))
        assert (prediction.cdf(count) >= level - 1e-5).all()
        assert (prediction.cdf(count - 1) < level + 1e-5).all()
    by_age = answer["mean"][np.argsort(rows["age"].to_numpy()), 0]
    assert by_age[-1] > 1.5 * by_age[0]


def test_what_is_no_count_is_told_by_its_row_in_the_table(tmp_path):
    wrong = np.where(np.arange(120) == 77, 2.5, 1.0)
    with pytest.raises(InvalidInput, match=r"`data.target`. Expected counts .* Received: 2.5. 1 row .* first row 77"):
        tfbnn.recipes.run.prepare_data(visits(tmp_path, "Poisson", visits=wrong))
