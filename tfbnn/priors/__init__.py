"""Priors p(w), found by name with `get` as in `keras.regularizers`."""

from tfbnn.core.serialization import Family
from tfbnn.priors.anchored_normal import AnchoredNormal
from tfbnn.priors.base import Prior, WeightPrior
from tfbnn.priors.empirical_bayes_normal import EmpiricalBayesNormal
from tfbnn.priors.hierarchical_normal import HierarchicalNormal
from tfbnn.priors.horseshoe import Horseshoe
from tfbnn.priors.laplace import Laplace
from tfbnn.priors.normal import Normal
from tfbnn.priors.scale_mixture import ScaleMixture
from tfbnn.priors.spike_and_slab import SpikeAndSlab
from tfbnn.priors.student_t import StudentT
from tfbnn.priors.tfp_function import TFPFunction

_FAMILY = Family(
    "prior",
    {
        "AnchoredNormal": AnchoredNormal,
        "EmpiricalBayesNormal": EmpiricalBayesNormal,
        "HierarchicalNormal": HierarchicalNormal,
        "Horseshoe": Horseshoe,
        "Laplace": Laplace,
        "Normal": Normal,
        "ScaleMixture": ScaleMixture,
        "SpikeAndSlab": SpikeAndSlab,
        "StudentT": StudentT,
    },
    from_callable=TFPFunction,
    base=Prior,
)

get = _FAMILY.get
serialize = _FAMILY.serialize
deserialize = _FAMILY.deserialize

__all__ = [
    "AnchoredNormal",
    "EmpiricalBayesNormal",
    "HierarchicalNormal",
    "Horseshoe",
    "Laplace",
    "Normal",
    "Prior",
    "ScaleMixture",
    "SpikeAndSlab",
    "StudentT",
    "TFPFunction",
    "WeightPrior",
    "deserialize",
    "get",
    "serialize",
]
