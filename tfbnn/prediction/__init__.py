"""Prediction by averaging over draws of the weights."""

from tfbnn.prediction.gaussian_draws import GaussianDraws
from tfbnn.prediction.moment_draws import MomentDraws
from tfbnn.prediction.monte_carlo import NetworkDraws, predict_distribution
from tfbnn.prediction.prediction import Prediction
from tfbnn.prediction.stored_draws import StoredDraws
from tfbnn.prediction.swag_draws import SWAGDraws

__all__ = [
    "GaussianDraws",
    "MomentDraws",
    "NetworkDraws",
    "Prediction",
    "SWAGDraws",
    "StoredDraws",
    "predict_distribution",
]
