"""Surrogate posteriors q(w), found by name with `get` as in `keras.regularizers`."""

from tfbnn.core.serialization import Family
from tfbnn.posteriors.base import GaussianWeightPosterior, Posterior, WeightPosterior
from tfbnn.posteriors.deterministic import Deterministic
from tfbnn.posteriors.full_covariance import FullCovariance
from tfbnn.posteriors.mean_field import MeanField
from tfbnn.posteriors.pruned import Pruned
from tfbnn.posteriors.tfp_function import TFPFunction

_FAMILY = Family(
    "posterior",
    {"MeanField": MeanField, "FullCovariance": FullCovariance, "Deterministic": Deterministic, "Pruned": Pruned},
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
    "MeanField",
    "Posterior",
    "Pruned",
    "TFPFunction",
    "WeightPosterior",
    "deserialize",
    "get",
    "serialize",
]
