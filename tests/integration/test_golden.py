"""Artefacts of earlier versions load, and answer as they did (tests/golden/make.py wrote them)."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import tfbnn

FOLDER = Path(__file__).parents[1] / "golden"
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}  # other kernels of TensorFlow, other processors
MODELS = [path.stem for path in sorted(FOLDER.glob("*.keras"))]


def answers(name):
    return dict(np.load(FOLDER / f"{name}.npz"))


def test_there_are_golden_files():
    assert MODELS == ["dense", "families", "images", "sequences"]


@pytest.mark.parametrize("name", MODELS)
def test_a_keras_file_answers_as_it_did(name):
    expected = answers(name)
    model = keras.saving.load_model(FOLDER / f"{name}.keras")
    found = model.predict_distribution(expected["x"], len(expected["parameters"]), seed=7).parameters
    np.testing.assert_allclose(found, expected["parameters"], **TOLERANCE)
    kl = model.elbo_terms(expected["x"], np.ones((4, 1)), seed=8).kl
    np.testing.assert_allclose(kl, expected["kl"], rtol=1e-4)


@pytest.mark.parametrize("name", ["dense", "families", "images", "table"])
def test_a_saved_model_answers_as_it_did(name):
    expected = answers(name)
    rows = pd.read_csv(FOLDER / "table.csv") if name == "table" else expected["x"]
    found = tfbnn.load_saved_model(FOLDER / name).predict(rows)
    told = {key.removeprefix("served/"): value for key, value in expected.items() if key.startswith("served/")}
    assert set(told) == set(found)
    for key, value in told.items():
        if value.dtype.kind in "SU":
            assert np.asarray(found[key]).astype(str).tolist() == value.astype(str).tolist()
        else:
            np.testing.assert_allclose(np.asarray(found[key], value.dtype), value, **TOLERANCE)
