"""How good predictions are, how honest their uncertainty is, and how far from the true posterior's they are."""

from tfbnn.evaluation.approximation import Distance, agreement, distance, total_variation
from tfbnn.evaluation.attack import ATTACKS, Loss, fgsm, pgd
from tfbnn.evaluation.bootstrap import Estimate, with_interval, with_intervals
from tfbnn.evaluation.calibration import BrierDecomposition, brier_decomposition, expected_calibration_error
from tfbnn.evaluation.calibration_metric import CalibrationError
from tfbnn.evaluation.intervals import IntervalQuality, interval_quality, interval_score
from tfbnn.evaluation.mahalanobis import Mahalanobis, trunk, trunk_features
from tfbnn.evaluation.out_of_distribution import Detection, detection
from tfbnn.evaluation.ranked_probability import crps
from tfbnn.evaluation.scores import score, score_detection, score_intervals
from tfbnn.evaluation.selective import aurc, excess_aurc, risk_at
from tfbnn.evaluation.uncertainty import (
    UNCERTAINTIES,
    energy,
    epistemic_variance,
    least_confidence,
    mutual_information,
    predictive_entropy,
    uncertainty,
)
from tfbnn.prediction.pit import pit
from tfbnn.prediction.reliability import Reliability, reliability
from tfbnn.prediction.risk_coverage import RiskCoverage, certainty, losses, risk_coverage

__all__ = [
    "ATTACKS",
    "UNCERTAINTIES",
    "BrierDecomposition",
    "CalibrationError",
    "Detection",
    "Distance",
    "Estimate",
    "IntervalQuality",
    "Loss",
    "Mahalanobis",
    "Reliability",
    "RiskCoverage",
    "agreement",
    "aurc",
    "brier_decomposition",
    "certainty",
    "crps",
    "detection",
    "distance",
    "energy",
    "epistemic_variance",
    "excess_aurc",
    "expected_calibration_error",
    "fgsm",
    "interval_quality",
    "interval_score",
    "least_confidence",
    "losses",
    "mutual_information",
    "pgd",
    "pit",
    "predictive_entropy",
    "reliability",
    "risk_at",
    "risk_coverage",
    "score",
    "score_detection",
    "score_intervals",
    "total_variation",
    "trunk",
    "trunk_features",
    "uncertainty",
    "with_interval",
    "with_intervals",
]
