"""Decisions: which rows to act on, and which to refer to somebody who knows more."""

from tfbnn.core.serialization import Family
from tfbnn.decision.base import Decision, check_uncertainty
from tfbnn.decision.costs import CostMatrix
from tfbnn.decision.referral import Referral, fewest_rows, refer_for_risk, refer_share

_FAMILY = Family("decision", {"CostMatrix": CostMatrix, "Referral": Referral})

get = _FAMILY.get
serialize = _FAMILY.serialize
deserialize = _FAMILY.deserialize

__all__ = [
    "CostMatrix",
    "Decision",
    "Referral",
    "check_uncertainty",
    "deserialize",
    "fewest_rows",
    "get",
    "refer_for_risk",
    "refer_share",
    "serialize",
]
