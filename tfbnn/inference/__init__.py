"""Ways to a posterior, one file a method; every one ends in `Draws`."""

from tfbnn.inference.ensemble import DeepEnsemble
from tfbnn.inference.swag import SWAG
from tfbnn.inference.variational import VariationalInference

__all__ = ["SWAG", "DeepEnsemble", "VariationalInference"]
