"""Surrogate posteriors q(w), found by name with `get` as in `keras.regularizers`."""

from tfbnn.core.serialization import Family
from tfbnn.posteriors.base import GaussianWeightPosterior, Posterior, WeightPosterior
from tfbnn.posteriors.deterministic import Deterministic
from tfbnn.posteriors.full_covariance import FullCovariance
from tfbnn.posteriors.hard_concrete import HardConcrete
from tfbnn.posteriors.low_rank import LowRank
from tfbnn.posteriors.matrix_normal import MatrixNormal
from tfbnn.posteriors.mean_field import MeanField
from tfbnn.posteriors.normalizing_flow import NormalizingFlow
from tfbnn.posteriors.pruned import Pruned
from tfbnn.posteriors.radial import Radial
from tfbnn.posteriors.tfp_function import TFPFunction
from tfbnn.posteriors.unit_covariance import UnitCovariance

_FAMILY = Family(
    "posterior",
    {
        "Deterministic": Deterministic,
        "FullCovariance": FullCovariance,
        "HardConcrete": HardConcrete,
        "LowRank": LowRank,
        "MatrixNormal": MatrixNormal,
        "MeanField": MeanField,
        "NormalizingFlow": NormalizingFlow,
        "Pruned": Pruned,
        "Radial": Radial,
        "UnitCovariance": UnitCovariance,
    },
    from_callable=TFPFunction,
    base=Posterior,
)

get = _FAMILY.get
serialize = _FAMILY.serialize
deserialize = _FAMILY.deserialize

__all__ = [
    "Deterministic",
    "FullCovariance",
    "GaussianWeightPosterior",
    "HardConcrete",
    "LowRank",
    "MatrixNormal",
    "MeanField",
    "NormalizingFlow",
    "Posterior",
    "Pruned",
    "Radial",
    "TFPFunction",
    "UnitCovariance",
    "WeightPosterior",
    "deserialize",
    "get",
    "serialize",
]
