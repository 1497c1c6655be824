"""Surrogate posteriors q(w), found by name with `get` as in `keras.regularizers`."""

from tfbnn.core.serialization import Family
from tfbnn.posteriors.base import GaussianWeightPosterior, Posterior, WeightPosterior
from tfbnn.posteriors.deterministic import Deterministic
from tfbnn.posteriors.full_covariance import FullCovariance
from tfbnn.posteriors.low_rank import LowRank
from tfbnn.posteriors.matrix_normal import MatrixNormal
from tfbnn.posteriors.mean_field import MeanField
from tfbnn.posteriors.pruned import Pruned
from tfbnn.posteriors.radial import Radial
from tfbnn.posteriors.tfp_function import TFPFunction
from tfbnn.posteriors.unit_covariance import UnitCovariance

_FAMILY = Family(
    "posterior",
    {
        "Deterministic": Deterministic,
        "FullCovariance": FullCovariance,
        "LowRank": LowRank,
        "MatrixNormal": MatrixNormal,
        "MeanField": MeanField,
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
    "LowRank",
    "MatrixNormal",
    "MeanField",
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
