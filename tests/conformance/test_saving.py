"""A `.keras` file gives back the same model: KL, ELBO and seeded outputs to the last bit, without custom_objects."""

import keras
import numpy as np
import pytest

from conformance.cases import CASES, X, model_of, terms_of
from tfbnn.core.noise import Seeded, noise_scope, seed_pair
from tfbnn.core.traversal import sublayers


def seeded_outputs(model):
    with noise_scope(Seeded(seed_pair(9), sublayers(model.network))):
        return model.network(X).numpy()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_saved_and_loaded(case, tmp_path):
    model = model_of(case)
    for weight in model.trainable_weights:  # away from what an initializer would give again
        weight.assign(weight + 0.1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    before, after = terms_of(model), terms_of(loaded)
    assert (float(after.kl), float(after.loss)) == (float(before.kl), float(before.loss))
    np.testing.assert_array_equal(seeded_outputs(loaded), seeded_outputs(model))
