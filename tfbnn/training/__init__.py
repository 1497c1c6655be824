"""Training by the ELBO."""

from tfbnn.training.continual import posterior_as_prior
from tfbnn.training.loop import train
from tfbnn.training.many import train_many
from tfbnn.training.model import BayesianModel
from tfbnn.training.posterior_summary import posterior_summary
from tfbnn.training.select import Selection, select

__all__ = ["BayesianModel", "Selection", "posterior_as_prior", "posterior_summary", "select", "train", "train_many"]
