"""A traced model gives what the eager one gives, for the same noise."""

import numpy as np
import pytest
import tensorflow as tf

from conformance.cases import CASES, model_of, terms_of


@pytest.mark.parametrize("case", CASES, ids=str)
def test_traced_equals_eager(case):
    model = model_of(case)
    kl, log_likelihood = tf.function(lambda: (terms_of(model).kl, terms_of(model).log_likelihood))()
    eager = terms_of(model)
    np.testing.assert_allclose(kl, eager.kl, rtol=1e-6)
    np.testing.assert_allclose(log_likelihood, eager.log_likelihood, rtol=1e-5)


def test_twin_other_noise_is_told_apart():
    model = model_of(CASES[0])
    one, other = (float(terms_of(model, seed).log_likelihood) for seed in (5, 6))
    assert abs(one - other) > 1e-4 * abs(one)
