"""The acquisition functions by name."""

from __future__ import annotations

from typing import Any

from tfbnn.active.bald import bald
from tfbnn.active.base import Acquisition, by_score
from tfbnn.active.batch_bald import batch_bald
from tfbnn.active.entropy import predictive_entropy
from tfbnn.active.random import choose_at_random
from tfbnn.active.variance import epistemic_variance
from tfbnn.core.checks import invalid, one_of

ACQUISITIONS = {
    "random": Acquisition(choose_at_random, needs_draws=False),
    "entropy": by_score(predictive_entropy, needs_classes=True),
    "bald": by_score(bald, needs_classes=True),
    "batchbald": Acquisition(batch_bald, coupling="coherent", needs_classes=True),
    "variance": by_score(epistemic_variance),
}


def get(by: Any) -> Acquisition:
    """The acquisition function of that name; a function prediction -> scores [B] of your own; or what it is already.

    Raises:
        InvalidInput: for an unknown name.

    Example:
        >>> tfbnn.active.get("bald").choose(model.predict_distribution(pool), 10, 0)
    """
    if isinstance(by, Acquisition):
        return by
    if callable(by):
        return by_score(by)
    if not isinstance(by, str):
        raise invalid("by", f"a function prediction -> scores [B], or one of {', '.join(ACQUISITIONS)}", by)
    return ACQUISITIONS[one_of("by", by, ACQUISITIONS)]
