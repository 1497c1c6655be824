"""What training maximises: the ELBO, its terms, and schedules of beta."""

from tfbnn.objectives import schedules
from tfbnn.objectives.elbo import ElboTerms, mean_log_likelihood
from tfbnn.objectives.schedules import Blundell, Constant, Cyclical, Linear, Schedule, Sigmoid

__all__ = [
    "Blundell",
    "Constant",
    "Cyclical",
    "ElboTerms",
    "Linear",
    "Schedule",
    "Sigmoid",
    "mean_log_likelihood",
    "schedules",
]
