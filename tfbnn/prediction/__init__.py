"""Prediction by averaging over draws of the weights."""

from tfbnn.prediction.monte_carlo import NetworkDraws, predict_distribution
from tfbnn.prediction.prediction import Prediction

__all__ = ["NetworkDraws", "Prediction", "predict_distribution"]
