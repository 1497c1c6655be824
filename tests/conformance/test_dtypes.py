"""Under mixed precision variables, KL and loss stay float32, and the loss is that of float32 but for rounding."""

import keras
import numpy as np
import pytest

from conformance.cases import CASES, model_of, terms_of

# Relative to the log likelihood, of 16 rows and two layers: a few units of the last place of 11 or 8 bits.
TOLERANCE = {"mixed_float16": 0.01, "mixed_bfloat16": 0.05}


@pytest.fixture(params=TOLERANCE)
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_mixed_precision(case, policy):
    mixed = model_of(case)
    keras.config.set_dtype_policy("float32")
    full = model_of(case)
    full.set_weights(mixed.get_weights())
    assert {weight.dtype for weight in mixed.trainable_weights} == {"float32"}
    assert mixed.network.compute_dtype == policy.removeprefix("mixed_") != full.network.compute_dtype
    terms, expected = terms_of(mixed), terms_of(full)
    assert terms.loss.dtype == terms.kl.dtype == "float32"
    assert float(terms.kl) == float(expected.kl)
    np.testing.assert_allclose(terms.log_likelihood, expected.log_likelihood, rtol=TOLERANCE[policy])
