"""Likelihoods p(y|f), found by name with `get` as in `keras.regularizers`."""

from tfbnn.core.serialization import Family
from tfbnn.likelihoods.base import Likelihood
from tfbnn.likelihoods.classes import Bernoulli, Categorical, ClassLikelihood
from tfbnn.likelihoods.normal import HeteroscedasticNormal, Normal

_FAMILY = Family(
    "likelihood",
    {
        "Normal": Normal,
        "HeteroscedasticNormal": HeteroscedasticNormal,
        "Bernoulli": Bernoulli,
        "Categorical": Categorical,
    },
    base=Likelihood,
)

get = _FAMILY.get
serialize = _FAMILY.serialize
deserialize = _FAMILY.deserialize

__all__ = [
    "Bernoulli",
    "Categorical",
    "ClassLikelihood",
    "HeteroscedasticNormal",
    "Likelihood",
    "Normal",
    "deserialize",
    "get",
    "serialize",
]
