"""How good predictions are, how honest their uncertainty is, and how far from the true posterior's they are."""

from tfbnn.evaluation.approximation import Distance, agreement, distance, total_variation
from tfbnn.evaluation.attack import ATTACKS, Loss, fgsm, pgd
from tfbnn.evaluation.mahalanobis import Mahalanobis, trunk, trunk_features
from tfbnn.evaluation.ranked_probability import crps
from tfbnn.evaluation.scores import score
from tfbnn.evaluation.uncertainty import (
    UNCERTAINTIES,
    energy,
    epistemic_variance,
    least_confidence,
    mutual_information,
    predictive_entropy,
    uncertainty,
)

__all__ = [
    "ATTACKS",
    "UNCERTAINTIES",
    "Distance",
    "Loss",
    "Mahalanobis",
    "agreement",
    "crps",
    "distance",
    "energy",
    "epistemic_variance",
    "fgsm",
    "least_confidence",
    "mutual_information",
    "pgd",
    "predictive_entropy",
    "score",
    "total_variation",
    "trunk",
    "trunk_features",
    "uncertainty",
]
