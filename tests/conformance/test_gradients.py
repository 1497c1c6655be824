"""The loss has a finite gradient in every trainable variable."""

import numpy as np
import pytest
import tensorflow as tf

from conformance.cases import CASES, model_of, terms_of


def without_gradient(model):
    with tf.GradientTape() as tape:
        loss = terms_of(model).loss
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    named = zip(model.trainable_weights, gradients, strict=True)
    return [w.path for w, gradient in named if gradient is None or not np.isfinite(gradient).all()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_there_and_finite(case):
    model = model_of(case)
    assert model.trainable_weights
    assert without_gradient(model) == []


def test_twin_a_gradient_that_is_not_finite_is_named():
    model = model_of(CASES[0])
    weight = model.trainable_weights[0]
    weight.assign(np.full(weight.shape, np.nan))
    assert weight.path in without_gradient(model)
