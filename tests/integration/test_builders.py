"""Images and sequences as columns of a table: trained, exported and served at their places, by every method."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import tfbnn
from tfbnn.core.checks import InvalidInput

SEQUENCE = {"steps": 4, "prior": {"class": "Normal", "scale": 0.5}}
SMALL = {"width": 8, "heads": 2, "blocks": 1, "feed_forward": 8}
MODELS = {
    "lenet5": {"builder": "convnet", "shape": [4, 4, 1]},
    "resnet": {"builder": "convnet", "shape": [4, 4, 1], "architecture": "resnet", "filters": 4},
    "lstm": {"builder": "recurrent", "units": [4], **SEQUENCE},
    "gru": {"builder": "recurrent", "units": [4, 4], "cell": "gru", "bidirectional": True, **SEQUENCE},
    "attention": {"builder": "transformer", **SMALL, **SEQUENCE},
    "dropout": {"builder": "transformer", "uncertainty": "dropout", **SMALL, **SEQUENCE},
    "wide_deep": {"builder": "wide_deep", "hidden": [4], "wide_prior": {"class": "Normal", "scale": 0.1}},
}
QUICK = ("lenet5",)  # the others take as long or several times as long to trace, and show the same
METHODS = [
    ("lenet5", {"method": "MonteCarloDropout"}),
    ("lstm", {"method": "DeepEnsemble", "members": 2}),
    ("attention", {"method": "SWAG", "start": 0.3}),
    ("dropout", {"method": "MonteCarloDropout"}),
    ("wide_deep", {"method": "Laplace"}),
]


def rows(count: int = 60, **others) -> pd.DataFrame:
    """16 pixels of which one is always empty; the brighter side is the class."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 9, (count, 4, 4)).astype(float)
    side = rng.integers(0, 2, count)
    pixels[:, :, :2] += 5.0 * side[:, None, None]
    pixels[:, 0, 0] = 0.0
    frame = pd.DataFrame(pixels.reshape(count, 16), columns=[f"pixel_{i}" for i in range(16)])
    return frame.assign(**others, target=np.where(side, "left", "right"))


def recipe(folder, model: dict, frame: pd.DataFrame | None = None, inference: dict | None = None, **data):
    (rows() if frame is None else frame).to_csv(folder / "images.csv", index=False)
    content = {
        "name": "images",
        "data": {"source": str(folder / "images.csv"), "target": "target", "scaling": "together", **data},
        "model": model,
        "likelihood": "Bernoulli",
        "inference": inference or {},
        "training": {"epochs": 3},
        "prediction": {"num_samples": 10},
        "export": {"path": str(folder / "served"), "report": False},
    }
    return tfbnn.Recipe.from_dict(content)


def assert_served_as_trained(result) -> None:
    served = tfbnn.load_saved_model(result.path)
    frame = result.data.held_out.features
    x, _ = result.data.arrays(result.data.held_out)
    expected = result.draws.predict_distribution(x, result.draws.at_most(10))
    again = served.predict_distribution(frame)
    np.testing.assert_allclose(again.parameters, expected.parameters, rtol=1e-5, atol=1e-6)
    alone = served.predict_distribution(frame.iloc[2:3]).parameters[:, 0]
    np.testing.assert_allclose(alone, expected.parameters[:, 2], rtol=1e-4, atol=1e-5)
    assert np.isfinite(result.scores["log_likelihood"])
    assert np.ptp(np.asarray(again.parameters), axis=0).max() > 0.0


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def test_a_network_is_trained_exported_and_served(name, tmp_path):
    result = tfbnn.run_recipe(recipe(tmp_path, MODELS[name]))
    assert_served_as_trained(result)
    assert result.data.schema.num_features == 16
    served = tfbnn.load_saved_model(result.path)
    assert served.schema == result.data.schema
    again = tfbnn.Recipe.from_dict(served.about["recipe"])
    assert again.resolved() == result.recipe.resolved()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "inference"), METHODS, ids=lambda value: str(value))
def test_other_methods_take_the_networks(name, inference, tmp_path):
    assert_served_as_trained(tfbnn.run_recipe(recipe(tmp_path, MODELS[name], inference=inference)))


@pytest.mark.parametrize(
    ("frame", "data", "told"),
    [
        (rows(), {"scaling": "each"}, r"`model\.shape`.*left out: pixel_0'.*data\.scaling: together"),
        (rows(site="main"), {}, r"`model\.shape`.*left out: site'.*data\.exclude"),
        (rows(side=["a", "b"] * 30), {}, r"`model\.shape`.*of text, or with gaps: side'"),
        (rows().replace({"pixel_3": {2.0: np.nan}}), {}, r"`model\.shape`.*of text, or with gaps: pixel_3'"),
        (rows(), {"exclude": ["pixel_0"]}, r"`model\.shape`.*product is 15"),
    ],
)
def test_columns_that_have_no_places_are_told(frame, data, told, tmp_path):
    with pytest.raises(InvalidInput, match=told):
        tfbnn.run_recipe(recipe(tmp_path, MODELS["lenet5"], frame, **data))
    assert not (tmp_path / "served").exists()


def test_twin_a_table_without_places_takes_such_columns(tmp_path):
    frame = rows(side=["a", "b"] * 30, site="main")
    prepared = recipe(tmp_path, MODELS["wide_deep"], frame, scaling="each")
    data = tfbnn.recipes.run.prepare_data(prepared)
    tfbnn.recipes.run.build_method(prepared, data)
    assert set(data.schema.left_out) == {"pixel_0", "site"}
