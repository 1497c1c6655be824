"""Variational layers: op + posterior + prior + estimator; and dropout that stays on."""

from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.bayesianize import bayesianize
from tfbnn.layers.convolution import (
    Conv1DFlipout,
    Conv1DLocalReparameterization,
    Conv1DReparameterization,
    Conv1DTransposeFlipout,
    Conv1DTransposeLocalReparameterization,
    Conv1DTransposeReparameterization,
    Conv2DFlipout,
    Conv2DLocalReparameterization,
    Conv2DReparameterization,
    Conv2DTransposeFlipout,
    Conv2DTransposeLocalReparameterization,
    Conv2DTransposeReparameterization,
    Conv3DFlipout,
    Conv3DLocalReparameterization,
    Conv3DReparameterization,
    Conv3DTransposeFlipout,
    Conv3DTransposeLocalReparameterization,
    Conv3DTransposeReparameterization,
    DepthwiseConv1DFlipout,
    DepthwiseConv1DLocalReparameterization,
    DepthwiseConv1DReparameterization,
    DepthwiseConv2DFlipout,
    DepthwiseConv2DLocalReparameterization,
    DepthwiseConv2DReparameterization,
)
from tfbnn.layers.dense import DenseFlipout, DenseLocalReparameterization, DenseReparameterization, DenseVariational
from tfbnn.layers.dropout import ConcreteDropout, MCDropout
from tfbnn.layers.einsum_dense import (
    EinsumDenseFlipout,
    EinsumDenseLocalReparameterization,
    EinsumDenseReparameterization,
)
from tfbnn.layers.embedding import EmbeddingReparameterization
from tfbnn.layers.last_layer import VariationalLastLayer
from tfbnn.layers.rank_one import BatchEnsemble, RankOne
from tfbnn.layers.sngp import RandomFeatures, sngp
from tfbnn.layers.variational import LowRankAdapter, Variational

__all__ = [
    "BatchEnsemble",
    "ConcreteDropout",
    "Conv1DFlipout",
    "Conv1DLocalReparameterization",
    "Conv1DReparameterization",
    "Conv1DTransposeFlipout",
    "Conv1DTransposeLocalReparameterization",
    "Conv1DTransposeReparameterization",
    "Conv2DFlipout",
    "Conv2DLocalReparameterization",
    "Conv2DReparameterization",
    "Conv2DTransposeFlipout",
    "Conv2DTransposeLocalReparameterization",
    "Conv2DTransposeReparameterization",
    "Conv3DFlipout",
    "Conv3DLocalReparameterization",
    "Conv3DReparameterization",
    "Conv3DTransposeFlipout",
    "Conv3DTransposeLocalReparameterization",
    "Conv3DTransposeReparameterization",
    "DenseFlipout",
    "DenseLocalReparameterization",
    "DenseReparameterization",
    "DenseVariational",
    "DepthwiseConv1DFlipout",
    "DepthwiseConv1DLocalReparameterization",
    "DepthwiseConv1DReparameterization",
    "DepthwiseConv2DFlipout",
    "DepthwiseConv2DLocalReparameterization",
    "DepthwiseConv2DReparameterization",
    "EinsumDenseFlipout",
    "EinsumDenseLocalReparameterization",
    "EinsumDenseReparameterization",
    "EmbeddingReparameterization",
    "LowRankAdapter",
    "MCDropout",
    "RandomFeatures",
    "RankOne",
    "Variational",
    "VariationalLastLayer",
    "VariationalLayer",
    "bayesianize",
    "sngp",
]
