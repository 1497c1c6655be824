"""What training maximises: the ELBO, its terms, and schedules of beta."""

from tfbnn.objectives import schedules
from tfbnn.objectives.elbo import ElboTerms, mean_log_likelihood
from tfbnn.objectives.schedules import Constant, Linear, Schedule

__all__ = ["Constant", "ElboTerms", "Linear", "Schedule", "mean_log_likelihood", "schedules"]
