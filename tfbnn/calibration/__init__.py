"""Calibration on rows that were not trained on: recalibrated distributions, conformal sets and intervals."""

from tfbnn.calibration.base import Conformal, Recalibration, check_rows, fewest_rows
from tfbnn.calibration.conformal_intervals import ConformalizedQuantiles, StandardisedResidual
from tfbnn.calibration.conformal_sets import APS, LAC
from tfbnn.calibration.recalibration import (
    FEWEST_ROWS,
    ScaleCalibration,
    TemperatureScaling,
    check_recalibration,
    recalibration_for,
)
from tfbnn.core.serialization import Family

CONFORMAL = {kind.__name__: kind for kind in (APS, ConformalizedQuantiles, LAC, StandardisedResidual)}
RECALIBRATIONS = {kind.__name__: kind for kind in (ScaleCalibration, TemperatureScaling)}
_FAMILY = Family("calibration", {**CONFORMAL, **RECALIBRATIONS})

get = _FAMILY.get
serialize = _FAMILY.serialize
deserialize = _FAMILY.deserialize

__all__ = [
    "APS",
    "CONFORMAL",
    "FEWEST_ROWS",
    "LAC",
    "RECALIBRATIONS",
    "Conformal",
    "ConformalizedQuantiles",
    "Recalibration",
    "ScaleCalibration",
    "StandardisedResidual",
    "TemperatureScaling",
    "check_recalibration",
    "check_rows",
    "deserialize",
    "fewest_rows",
    "get",
    "recalibration_for",
    "serialize",
]
