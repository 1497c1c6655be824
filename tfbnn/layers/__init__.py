"""Variational layers: op + posterior + prior + estimator; and dropout that stays on."""

from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.dense import DenseFlipout, DenseLocalReparameterization, DenseReparameterization, DenseVariational
from tfbnn.layers.dropout import ConcreteDropout, MCDropout

__all__ = [
    "ConcreteDropout",
    "DenseFlipout",
    "DenseLocalReparameterization",
    "DenseReparameterization",
    "DenseVariational",
    "MCDropout",
    "VariationalLayer",
]
