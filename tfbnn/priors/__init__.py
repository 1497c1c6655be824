"""Priors p(w), found by name with `get` as in `keras.regularizers`."""

from tfbnn.core.serialization import Family
from tfbnn.priors.base import Prior, WeightPrior
from tfbnn.priors.normal import Normal
from tfbnn.priors.tfp_function import TFPFunction

_FAMILY = Family("prior", {"Normal": Normal}, from_callable=TFPFunction, base=Prior)

get = _FAMILY.get
serialize = _FAMILY.serialize
deserialize = _FAMILY.deserialize

__all__ = ["Normal", "Prior", "TFPFunction", "WeightPrior", "deserialize", "get", "serialize"]
