"""The Monte Carlo error of a mean: by NumPy, as a part of the split, of pairs, of one draw, and far from 0."""

import numpy as np
import pytest

import tfbnn
from tfbnn.prediction import summary

RNG = np.random.default_rng(0)
NORMAL = tfbnn.likelihoods.Normal()


def standard_error(values, pairs=False):
    """By NumPy alone, in float64."""
    values = np.asarray(values, np.float64)
    if pairs:
        values = np.array([values[i : i + 2].mean(axis=0) for i in range(0, len(values) - 1, 2)])
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def told(likelihood, parameters, sequence="independent"):
    return summary.outputs(likelihood, np.asarray(parameters, np.float32), sequence=sequence)["mc_error"].numpy()


@pytest.mark.parametrize("S", [2, 7, 100])
def test_of_numbers(S):
    parameters = RNG.uniform(1.0, 2.0, [S, 5, 2])
    found = told(NORMAL, parameters)
    assert (found.dtype, found.shape) == (np.float32, (5, 1))
    np.testing.assert_allclose(found, standard_error(parameters[..., :1]), rtol=1e-4)


def test_of_classes_it_is_that_of_the_probabilities():
    logits = RNG.normal(size=[30, 5, 3])
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(told(tfbnn.likelihoods.Categorical(3), logits), standard_error(p), rtol=1e-4)
    of_two = told(tfbnn.likelihoods.Bernoulli(), logits[..., :1])
    np.testing.assert_allclose(of_two, standard_error(1 / (1 + np.exp(-logits[..., [0, 0]]))), rtol=1e-4)


@pytest.mark.parametrize("S", [4, 5, 40])
def test_antithetic_draws_come_in_pairs(S):
    """The last of an odd number of draws has no other half."""
    means = RNG.normal(size=[S, 6, 1])
    parameters = np.concatenate([means, np.ones_like(means)], axis=-1)
    parameters[1::2, :, 0] = 3.0 - 0.9 * parameters[: S // 2 * 2 : 2, :, 0]
    found = told(NORMAL, parameters, "antithetic")
    np.testing.assert_allclose(found, standard_error(parameters[..., :1], pairs=True), rtol=1e-4)
    assert (standard_error(parameters[..., :1]) > 2 * found).all()  # twin: as if they were independent


def test_it_is_a_fixed_share_of_the_epistemic_part():
    """Of independent draws: sqrt(Var_w E[y|w] / (S - 1))."""
    named = summary.outputs(NORMAL, RNG.uniform(1.0, 2.0, [26, 5, 2]).astype(np.float32))
    np.testing.assert_allclose(named["mc_error"], named["epistemic_stddev"] / 5.0, rtol=1e-6)


@pytest.mark.parametrize(("sequence", "S"), [("independent", 1), ("antithetic", 1), ("antithetic", 3), ("sobol", 1)])
def test_of_one_draw_or_pair_there_is_none(sequence, S):
    assert np.isnan(told(NORMAL, RNG.uniform(1.0, 2.0, [S, 5, 2]), sequence)).all()


def test_draws_that_agree_have_none_and_a_large_offset_costs_no_digits():
    parameters = np.ones([9, 2, 2], np.float32)
    assert (told(NORMAL, parameters) == 0.0).all()
    parameters[..., 0] = 1e6 + RNG.normal(size=[9, 2])
    np.testing.assert_allclose(told(NORMAL, parameters), standard_error(parameters[..., :1]), rtol=1e-5)
