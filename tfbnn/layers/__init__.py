"""Variational layers: op + posterior + prior + estimator."""

from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.dense import DenseFlipout, DenseLocalReparameterization, DenseReparameterization, DenseVariational

__all__ = [
    "DenseFlipout",
    "DenseLocalReparameterization",
    "DenseReparameterization",
    "DenseVariational",
    "VariationalLayer",
]
