"""Training by the ELBO."""

from tfbnn.training.model import BayesianModel

__all__ = ["BayesianModel"]
