"""One training step compiled by XLA moves every trainable variable and reports finite terms."""

import keras
import numpy as np
import pytest

from conformance.cases import CASES, X, model_of, target_of

QUICK = (  # the compiler takes seconds a case
    "Conv2DFlipout", "DenseFlipout", "DenseLocalReparameterization", "FullCovariance", "MCDropout", "Normal",
    "Variational",
)  # fmt: skip


def cases():
    """The usual ones, and the others in tests that are slow."""
    for case in CASES:
        if case.family in ("layer", "posterior", "likelihood"):
            quick = str(case).split("-", 1)[1] in QUICK
            yield pytest.param(case, id=str(case), marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize("case", list(cases()))
def test_a_compiled_training_step(case):
    model = model_of(case)
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.01), jit_compile=True)
    logs = model.train_on_batch(X, target_of(model.likelihood), return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    named = zip(model.trainable_weights, before, strict=True)
    assert [weight.path for weight, old in named if (weight.numpy() == old).all()] == []
