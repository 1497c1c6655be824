"""What comes after the posterior: recalibration, conformal outputs and decisions, fitted on rows kept for it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfbnn import calibration, decision
from tfbnn.core.checks import InvalidInput, invalid, one_of
from tfbnn.prediction import Prediction
from tfbnn.recipes.spec import DecisionSpec, Recipe

_HALVED = "Every second of them is the recalibration's."
_MORE_ROWS = "Raise calibration.fraction, or give more rows."


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """The fitted steps, each None where the recipe has none."""

    recalibration: calibration.Recalibration | None = None
    conformal: calibration.Conformal | None = None
    decision: decision.Decision | None = None

    def steps(self) -> dict[str, Any]:
        """As `export_saved_model` takes them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __call__(self, prediction: Prediction) -> Prediction:
        """The recalibrated prediction."""
        return prediction if self.recalibration is None else self.recalibration(prediction)


def calibrate(recipe: Recipe, rows: tuple[Prediction, np.ndarray] | None, labels: tuple[str, ...]) -> Calibrated:
    """Fits what the recipe asks for.

    Where rows shall serve a recalibration and a conformal threshold, or a wanted risk, each gets every second one,
    because the guarantee of the second holds for rows that the first has not seen.

    Args:
        recipe: its `calibration` and `decision`.
        rows: what is predicted of the calibration rows, and their targets [n, 1]; None where there are none.
        labels: of the classes.

    Raises:
        InvalidInput: for too few rows, or what does not fit the likelihood; by the recipe's path.
    """
    spec = recipe.calibration
    if rows is None:
        with _told_at("decision"):
            return Calibrated(decision=_by_costs(recipe.decision, labels))
    prediction, y = rows
    recalibration, conformal = spec.recalibration_step(), spec.conformal_step(recipe.prediction.level)
    parts = [slice(0, None, 2), slice(1, None, 2)] if _is_halved(recipe) else [slice(None)] * 2
    with _told_at("calibration.recalibration"):
        recalibration = recalibration and recalibration.fit(*_rows(prediction, y, parts[0]))
    prediction = Calibrated(recalibration)(prediction)
    with _told_at("calibration.conformal"):
        conformal = conformal and conformal.fit(*_rows(prediction, y, parts[1]))
    of_decision = _rows(prediction, y, parts[1] if recipe.decision.refer_risk is not None else slice(None))
    return Calibrated(recalibration, conformal, _decision(recipe.decision, *of_decision, labels))


def _is_halved(recipe: Recipe) -> bool:
    """Whether the recalibration and what has a guarantee each get every second calibration row."""
    spec = recipe.calibration
    has_guarantee = spec.conformal is not None or recipe.decision.refer_risk is not None
    return spec.recalibration is not None and has_guarantee


def check_fits(recipe: Recipe, likelihood: Any, num_rows: int, labels: tuple[str, ...]) -> None:
    """Raises, before hours of training, where what shall come after it could not work."""
    spec = recipe.calibration
    conformal, recalibration = spec.conformal_step(recipe.prediction.level), spec.recalibration_step()
    if recalibration is not None:
        with _told_at("calibration.recalibration"):
            calibration.check_recalibration(recalibration, likelihood)
    if conformal is not None:
        with _told_at("calibration.conformal"):
            conformal.check_kind(likelihood)
        _check_rows_of_conformal(num_rows, conformal.level, recalibration is not None)
    if recalibration is not None:
        _check_rows_of_recalibration(num_rows, _is_halved(recipe))
    _check_rows_of_decision(recipe.decision, num_rows, recalibration is not None)
    with _told_at("decision"):
        found = _by_costs(recipe.decision, labels)
        if found is not None:
            found.check(likelihood)
        elif recipe.decision.by is not None:
            decision.check_uncertainty(recipe.decision.by, likelihood)


def _check_rows_of_conformal(num_rows: int, level: float, halved: bool) -> None:
    needed = calibration.fewest_rows(level) * (2 if halved else 1)
    if num_rows < needed:
        mend = _HALVED if halved else ""
        expected = f"{needed} rows or more to calibrate level {level:g} on"
        raise invalid("calibration.conformal", expected, f"{num_rows} rows", f"{mend} {_MORE_ROWS}".lstrip())


def _check_rows_of_recalibration(num_rows: int, halved: bool) -> None:
    needed = calibration.FEWEST_ROWS * (2 if halved else 1)
    if num_rows < needed:
        mend = f"{_HALVED if halved else ''} {_MORE_ROWS}".lstrip()
        raise invalid("calibration.recalibration", f"{needed} rows or more to calibrate on", f"{num_rows} rows", mend)


def _check_rows_of_decision(spec: DecisionSpec, num_rows: int, halved: bool) -> None:
    """Raises where so few calibration rows cannot have what is asked for, whatever is predicted of them."""
    if spec.refer_share is not None and (needed := math.ceil(1.0 / spec.refer_share)) > num_rows:
        expected = f"{needed} calibration rows or more, one of which is the share {spec.refer_share:g}"
        raise invalid("decision.refer_share", expected, f"{num_rows} rows", _MORE_ROWS)
    if spec.refer_risk is None:
        return
    needed = decision.fewest_rows(spec.refer_risk, spec.confidence) * (2 if halved else 1)
    if num_rows < needed:
        expected = f"{needed} calibration rows or more, to show a risk of {spec.refer_risk:g} where none is wrong"
        mend = f"{_HALVED if halved else ''} {_MORE_ROWS} Or allow more risk.".lstrip()
        raise invalid("decision.refer_risk", expected, f"{num_rows} rows", mend)


def _rows(prediction: Prediction, y: np.ndarray, rows: slice) -> tuple[Prediction, np.ndarray]:
    return Prediction(prediction.parameters[:, rows], prediction.likelihood), y[rows]


def _decision(
    spec: DecisionSpec, prediction: Prediction, y: np.ndarray, labels: tuple[str, ...]
) -> decision.Decision | None:
    with _told_at("decision.refer_share"):
        if spec.refer_share is not None:
            return decision.refer_share(prediction, spec.refer_share, spec.by)
    with _told_at("decision.refer_risk"):
        if spec.refer_risk is not None:
            return decision.refer_for_risk(prediction, y, spec.refer_risk, spec.by, spec.confidence)
    with _told_at("decision"):
        return _by_costs(spec, labels)


def _by_costs(spec: DecisionSpec, labels: tuple[str, ...]) -> decision.Decision | None:
    """The decision that needs no calibration rows, where there is one."""
    if spec.costs is not None:
        rows = {action: _in_order_of(labels, action, costs) for action, costs in spec.costs.items()}
        try:
            return decision.CostMatrix(rows, spec.refer_cost)  # type: ignore[arg-type]  # the schema has both or none
        except InvalidInput as error:
            raise error.at("refer_cost") if error.where == "refer" else error from None
    if spec.threshold is not None:
        return decision.Referral(spec.by, spec.threshold)  # type: ignore[arg-type]
    return None


def _in_order_of(labels: tuple[str, ...], action: str, costs: Mapping[str, float]) -> list[float]:
    if not labels:
        raise invalid("costs", "a likelihood of classes", "one of numbers")
    for label in costs:
        one_of(f"costs.{action}", label, labels)
    missing = [label for label in labels if label not in costs]
    if missing:
        raise invalid(
            f"costs.{action}", f"a cost of each class ({', '.join(labels)})", f"no cost of {', '.join(missing)}"
        )
    return [costs[label] for label in labels]


@contextlib.contextmanager
def _told_at(path: str) -> Iterator[None]:
    """An error inside is told of the recipe's path: of a section with the argument, of a key as it is."""
    section, _, key = path.partition(".")
    try:
        yield
    except InvalidInput as error:
        raise (error.at(path) if key else error.under(section)) from None
