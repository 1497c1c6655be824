"""Likelihoods p(y|f), found by name with `get` as in `keras.regularizers`."""

from tfbnn.core.serialization import Family
from tfbnn.likelihoods.base import Likelihood
from tfbnn.likelihoods.classes import Bernoulli, Categorical, ClassLikelihood
from tfbnn.likelihoods.counts import CountLikelihood, NegativeBinomial, Poisson
from tfbnn.likelihoods.log_normal import LogNormal
from tfbnn.likelihoods.normal import HeteroscedasticNormal, Normal
from tfbnn.likelihoods.student_t import StudentT

_FAMILY = Family(
    "likelihood",
    {
        "Normal": Normal,
        "HeteroscedasticNormal": HeteroscedasticNormal,
        "StudentT": StudentT,
        "LogNormal": LogNormal,
        "Poisson": Poisson,
        "NegativeBinomial": NegativeBinomial,
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
    "CountLikelihood",
    "HeteroscedasticNormal",
    "Likelihood",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "StudentT",
    "deserialize",
    "get",
    "serialize",
]
