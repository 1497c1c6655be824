"""How good predictions are, and how honest their uncertainty is."""

from tfbnn.evaluation.scores import score

__all__ = ["score"]
