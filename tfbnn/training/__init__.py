"""Training by the ELBO."""

from tfbnn.training.loop import train
from tfbnn.training.many import train_many
from tfbnn.training.model import BayesianModel

__all__ = ["BayesianModel", "train", "train_many"]
