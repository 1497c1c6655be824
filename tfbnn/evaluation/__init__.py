"""How good predictions are, how honest their uncertainty is, and how far from the true posterior's they are."""

from tfbnn.evaluation.approximation import Distance, agreement, distance, total_variation
from tfbnn.evaluation.decisions import score_decisions
from tfbnn.evaluation.ranked_probability import crps
from tfbnn.evaluation.scores import score

__all__ = ["Distance", "agreement", "crps", "distance", "score", "score_decisions", "total_variation"]
