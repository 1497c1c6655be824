"""What training maximises: the ELBO, its terms, and schedules of beta; other bounds of the evidence."""

from tfbnn.objectives import schedules
from tfbnn.objectives.bounds import BOUNDS, importance_weighted, order_of, renyi
from tfbnn.objectives.elbo import ElboTerms, mean_log_likelihood
from tfbnn.objectives.schedules import Blundell, Constant, Cyclical, Linear, Schedule, Sigmoid

__all__ = [
    "BOUNDS",
    "Blundell",
    "Constant",
    "Cyclical",
    "ElboTerms",
    "Linear",
    "Schedule",
    "Sigmoid",
    "importance_weighted",
    "mean_log_likelihood",
    "order_of",
    "renyi",
    "schedules",
]
