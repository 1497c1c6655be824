"""How good predictions are, how honest their uncertainty is, and how far from the true posterior's they are."""

from tfbnn.evaluation.approximation import Distance, agreement, distance, total_variation
from tfbnn.evaluation.bootstrap import Estimate, with_interval
from tfbnn.evaluation.calibration import BrierDecomposition, brier_decomposition, expected_calibration_error
from tfbnn.evaluation.intervals import IntervalQuality, interval_quality, interval_score
from tfbnn.evaluation.out_of_distribution import Detection, detection
from tfbnn.evaluation.decisions import score_decisions
from tfbnn.evaluation.ranked_probability import crps
from tfbnn.evaluation.scores import score, score_intervals
from tfbnn.evaluation.selective import aurc, excess_aurc, risk_at
from tfbnn.prediction.pit import pit
from tfbnn.prediction.reliability import Reliability, reliability
from tfbnn.prediction.risk_coverage import RiskCoverage, certainty, losses, risk_coverage

__all__ = [
    "BrierDecomposition",
    "Detection",
    "Distance",
    "Estimate",
    "IntervalQuality",
    "Reliability",
    "RiskCoverage",
    "agreement",
    "aurc",
    "brier_decomposition",
    "certainty",
    "crps",
    "detection",
    "distance",
    "excess_aurc",
    "expected_calibration_error",
    "interval_quality",
    "interval_score",
    "losses",
    "pit",
    "reliability",
    "risk_at",
    "risk_coverage",
    "score",
    "score_decisions",
    "score_intervals",
    "total_variation",
    "with_interval",
]
