"""Prediction of many draws in one graph gives what each draw alone gives, run eagerly by the same noise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from conformance.cases import CASES, X, model_of
from tfbnn.core.noise import Plan, Tape, noise_scope, seed_pair
from tfbnn.core.traversal import sublayers

DRAWS = 3
# Behind a mask nothing is the same in all draws; a schedule or a likelihood has no draws of its own.
CASES = [case for case in CASES if case.family in ("layer", "posterior", "prior")]
SERVED = ("DenseFlipout", "RankOne", "VariationalLastLayer", "NormalizingFlow")  # others: slow


def behind_a_mask(case):
    model = model_of(case)
    inputs = keras.Input((3,))
    network = keras.Model(inputs, model.network(tfbnn.layers.MCDropout(0.3, seed=9)(inputs)))
    return tfbnn.BayesianModel(network, model.likelihood, num_data=len(X), seed=3)


def alone(draws, coupling):
    """Each draw, of the network itself; nothing is shared between draws."""
    plan = Plan.of(draws._forward, X, sublayers(draws.network), coupling)
    noise = plan.draw_block(plan.seeds(seed_pair(draws.seed)), tf.constant(0))
    for number in range(DRAWS):
        values = {key: part[number] for key, part in noise.items()}
        with noise_scope(Tape(values, plan.layers, plan.coupling_of)):
            yield draws._forward(X).numpy()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_draws_together_are_draws_alone(case):
    draws = behind_a_mask(case).posterior_draws()
    together = draws.predict_distribution(X, DRAWS).parameters
    np.testing.assert_allclose(together, np.stack(list(alone(draws, "marginal"))), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_whole_networks_together_are_whole_networks_alone(case):
    draws = model_of(case).posterior_draws()
    together = draws.predict_distribution(X, DRAWS, coupling="coherent").parameters
    np.testing.assert_allclose(together, np.stack(list(alone(draws, "coherent"))), rtol=1e-5, atol=1e-5)


def slow_but_some(case):
    return case if case.cls.__name__ in SERVED and not case.note else pytest.param(case, marks=pytest.mark.slow)


@pytest.mark.parametrize("case", list(map(slow_but_some, CASES)), ids=str)
def test_what_is_exported_answers_the_same(case, tmp_path):
    model = model_of(case)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(model, tmp_path / "model", num_samples=DRAWS))
    expected = model.predict_distribution(X, DRAWS)
    found = served.predict(X)
    np.testing.assert_allclose(found["mean"], expected.mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["epistemic_stddev"], expected.epistemic_stddev, rtol=1e-4, atol=1e-5)
