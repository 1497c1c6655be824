"""Calibration and decisions, from a recipe to the SavedModel that answers with them."""

import json

import numpy as np
import pytest
import tensorflow as tf

import clinic
import tfbnn
import toy
from tfbnn import calibration, decision
from tfbnn.core.checks import InvalidInput
from tfbnn.prediction.prediction import columns

OF_NUMBERS = {"recalibration": "ScaleCalibration", "conformal": "StandardisedResidual"}
COSTS = {"operate": {"ill": 0, "well": 2}, "wait": {"ill": 5, "well": 0}}


def recipe(folder, target, likelihood, **sections):
    clinic.rows(200).to_csv(folder / "rows.csv", index=False)
    content = clinic.recipe(
        folder / "rows.csv", target, likelihood, export={"path": str(folder / "clinic")}, **sections
    )
    return tfbnn.Recipe.from_dict(content)


def everything(folder, target):
    of_classes = {"recalibration": "TemperatureScaling", "conformal": "APS", "fraction": 0.3}
    if target == "score":
        return recipe(
            folder, target, "Normal", calibration={**OF_NUMBERS, "fraction": 0.3}, decision={"refer_share": 0.25}
        )
    return recipe(folder, target, "Bernoulli", calibration=of_classes, decision={"costs": COSTS, "refer_cost": 1.0})


@pytest.fixture(scope="module", params=[pytest.param("score", marks=pytest.mark.slow), "outcome"])
def run(request, tmp_path_factory):
    """A recipe with recalibration, conformal outputs and a decision, run."""
    return tfbnn.run_recipe(everything(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="module")
def served(run):
    return tfbnn.load_saved_model(run.path)


def test_what_is_served_is_what_was_fitted(run, served):
    x, _ = run.data.arrays(run.data.held_out)
    prediction = run.calibrated(run.draws.predict_distribution(x, 20))
    told = served.predict(run.data.held_out.features)
    expected = {**run.calibrated.conformal(prediction), **run.calibrated.decision(prediction)}
    assert set(expected) < set(told)
    for name, values in expected.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(told[name], values, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(told[name], [v.decode() for v in values] if name == "action" else values)
    assert served.conformal == run.calibrated.conformal
    assert served.decision == run.calibrated.decision


def test_the_draws_are_recalibrated_too(run, served):
    assert run.calibrated.recalibration.arguments() != type(run.calibrated.recalibration)().arguments()
    x, _ = run.data.arrays(run.data.held_out)
    expected = run.calibrated(run.draws.predict_distribution(x, 20)).parameters
    found = served.predict_distribution(run.data.held_out.features).parameters
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_request_may_be_more_careful(run, served):
    rows = run.data.held_out.features
    assert served.predict(rows, abstain_above=-1e9)["abstain"].all()
    assert not served.predict(rows, abstain_above=1e9)["abstain"].any()
    same = served.predict(rows, abstain_above=served.decision.threshold)
    np.testing.assert_array_equal(same["abstain"], served.predict(rows)["abstain"])
    spec = served.signatures["sample"].structured_input_signature[1]["abstain_above"]
    assert (spec.shape.rank, spec.dtype) == (0, tf.float32)
    with pytest.raises(InvalidInput, match="`abstain_above`"):
        served.predict(rows, abstain_above=float("nan"))


def test_no_row_has_two_uses(run):
    parts = [set(part.target.index) for part in (run.data.train, run.data.held_out, run.data.calibration)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 200
    assert len(parts[2]) == 48  # 0.3 of 160


def test_the_scores_tell_what_was_gained(run):
    names = {"conformal_coverage", "referred"}
    names |= {"conformal_width", "kept_rmse"} if "rmse" in run.scores else {"set_size", "kept_accuracy", "cost"}
    assert names < set(run.scores)
    if "cost" in run.scores:
        _, y = run.data.arrays(run.data.held_out)
        ill = np.mean(y == run.data.target.labels.index("ill"))
        assert run.scores["cost_of_wait"] == pytest.approx(5 * ill)
        assert run.scores["cost_of_operate"] == pytest.approx(2 * (1 - ill))
        assert run.scores["cost_of_referring_all"] == 1.0


def test_a_csv_has_a_column_for_each(run, served):
    named = columns(served.predict(run.data.held_out.features), served.labels)
    flags = ["conformal_lower", "conformal_upper"] if "rmse" in run.scores else ["in_set_ill", "in_set_well", "action"]
    assert {*flags, "abstain", "uncertainty"} < set(named)


def test_without_them_nothing_changes(tmp_path):
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(toy.model_of(), tmp_path / "model"))
    model = json.loads((served.path / "assets.extra" / "model.json").read_text())
    assert [model[name] for name in ("recalibration", "conformal", "decision")] == [None] * 3
    assert "abstain" not in served.predict(toy.X)
    with pytest.raises(InvalidInput, match="this model always answers"):
        served.predict(toy.X, abstain_above=0.1)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"calibration": {"conformal": "LAC", "fraction": 0.2}}, "`calibration.conformal`.*classes for LAC"),
        ({"calibration": {"conformal": "APSS", "fraction": 0.2}}, "`calibration.conformal`.*Did you mean 'APS'"),
        ({"calibration": {"conformal": "StandardisedResidual"}}, "`calibration.fraction`.*above 0"),
        ({"calibration": {"recalibration": "TemperatureScaling", "fraction": 0.2}}, "`calibration.recalibration`"),
        ({"calibration": {"conformal": "StandardisedResidual", "fraction": 0.02}}, "9 rows or more.*0.9.*4 rows"),
        (
            {"calibration": {"conformal": "APS", "recalibration": "TemperatureScaling", "fraction": 0.1}},
            "`calibration.recalibration`",
        ),
        (
            {
                "calibration": {
                    "conformal": "StandardisedResidual",
                    "recalibration": "ScaleCalibration",
                    "fraction": 0.1,
                }
            },
            "18 rows or more.*'16 rows'.*Every second",
        ),
        (
            {"calibration": {"recalibration": "ScaleCalibration", "fraction": 0.02}},
            "`calibration.recalibration`.*10 rows or more.*4 rows",
        ),
        (
            {"calibration": {"fraction": 0.01}, "decision": {"refer_share": 0.2}},
            "`decision.refer_share`.*5 .*2 rows",
        ),
        ({"decision": {"refer_share": 0.2}}, "`calibration.fraction`"),
        ({"decision": {"by": "stddev", "threshold": 0.0}}, "`decision.threshold`.*all would be referred"),
        ({"decision": {"refer_share": 0.2, "threshold": 1.0}}, "`decision.threshold`.*one of"),
        ({"decision": {"costs": COSTS}}, "`decision.refer_cost`.*because costs is"),
        ({"decision": {"costs": {"operate": [0, 2]}, "refer_cost": 1}}, "`decision.costs`.*action -> class -> cost"),
        ({"decision": {"costs": [0, 2], "refer_cost": 1}}, "`decision.costs`.*action -> class -> cost"),
        ({"decision": {"costs": COSTS, "refer_cost": 1}}, "`decision.costs`.*likelihood of classes"),
        ({"decision": {"threshold": 1.0}}, "`decision.by`"),
        ({"decision": {"by": "mutual_information", "threshold": 1.0}}, "`decision.by`"),
    ],
)
def test_mistakes_are_told_by_their_path_before_training(tmp_path, monkeypatch, sections, told):
    monkeypatch.setattr("tfbnn.recipes.run.fit_method", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(InvalidInput, match=told):
        tfbnn.run_recipe(recipe(tmp_path, "score", "Normal", **sections))


@pytest.mark.parametrize(
    ("costs", "told"),
    [
        ({}, "`decision.costs`.*action -> cost of each class"),
        ({"operate": {}}, "`decision.costs.operate`.*no cost of ill, well"),
        ({"operate": {"ill": 2, "well": 3}}, "`decision.refer_cost`.*more than the least.*2.*Every row"),
        ({"operate": {"ill": 0}}, "`decision.costs.operate`.*no cost of well"),
        ({"operate": {"ill": 0, "wel": 2}}, "`decision.costs.operate`.*Did you mean 'well'"),
    ],
)
def test_costs_name_the_classes_of_the_table(tmp_path, costs, told):
    with pytest.raises(InvalidInput, match=told):
        tfbnn.run_recipe(recipe(tmp_path, "outcome", "Bernoulli", decision={"costs": costs, "refer_cost": 1}))


def test_a_risk_tells_how_many_rows_it_needs(tmp_path):
    content = {"calibration": {"fraction": 0.2}, "decision": {"refer_risk": 0.01}}
    with pytest.raises(InvalidInput, match=r"`decision.refer_risk`.*916 calibration rows or more.*32 rows"):
        tfbnn.run_recipe(recipe(tmp_path, "outcome", "Bernoulli", **content))


def test_export_refuses_what_does_not_fit(tmp_path):
    model = toy.model_of()
    y = model.predict_distribution(toy.X)
    residual = calibration.StandardisedResidual(0.8).fit(y, toy.Y)
    for arguments, told in (
        ({"conformal": calibration.StandardisedResidual()}, "Call fit first"),
        ({"conformal": residual}, "the level of the intervals, 0.9"),
        ({"recalibration": calibration.TemperatureScaling()}, "classes for TemperatureScaling"),
        ({"decision": decision.CostMatrix({"a": [0, 1]}, 0.5)}, "likelihood of classes"),
    ):
        with pytest.raises(InvalidInput, match=told):
            tfbnn.export_saved_model(model, tmp_path / "model", **arguments)
    assert not (tmp_path / "model").exists()
