"""Ways to a posterior, one file a method; every one ends in `Draws`."""

from tfbnn.inference.ensemble import DeepEnsemble
from tfbnn.inference.hamiltonian import HMC, NUTS
from tfbnn.inference.variational import VariationalInference

__all__ = ["HMC", "NUTS", "DeepEnsemble", "VariationalInference"]
