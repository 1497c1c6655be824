"""Ways to a posterior, one file a method; every one ends in `Draws`."""

from tfbnn.inference.dropout import MonteCarloDropout
from tfbnn.inference.ensemble import DeepEnsemble
from tfbnn.inference.hamiltonian import HMC, NUTS
from tfbnn.inference.laplace import Laplace
from tfbnn.inference.stochastic_gradient import SGHMC, SGLD
from tfbnn.inference.swag import SWAG
from tfbnn.inference.variational import VariationalInference

__all__ = [
    "HMC",
    "NUTS",
    "SGHMC",
    "SGLD",
    "SWAG",
    "DeepEnsemble",
    "Laplace",
    "MonteCarloDropout",
    "VariationalInference",
]
