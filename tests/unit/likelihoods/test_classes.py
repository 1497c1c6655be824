"""Likelihoods of classes against scipy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import special, stats

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.likelihoods import Bernoulli, Categorical

RNG = np.random.default_rng(0)
LOGITS = (3.0 * RNG.normal(size=(6, 3))).astype("float32")


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match="(?s)" + ".*".join(map(re.escape, parts)))


@pytest.mark.parametrize("y", [np.array([0, 1, 1, 0, 1, 0]), np.array([0, 1, 1, 0, 1, 0], np.float32)])
def test_bernoulli_is_scipys(y):
    likelihood, logits = Bernoulli(), LOGITS[:, :1]
    p = special.expit(logits.astype("float64"))
    parameters = likelihood(logits)
    np.testing.assert_array_equal(parameters, logits)
    target = likelihood.match_target(y)
    assert target.shape == (6, 1)
    log_prob = likelihood.log_prob(parameters, target)
    np.testing.assert_allclose(log_prob, stats.bernoulli(p[:, 0]).logpmf(y), rtol=1e-5)
    np.testing.assert_allclose(likelihood.mean(parameters), p, rtol=1e-5)
    np.testing.assert_allclose(likelihood.variance(parameters), p * (1 - p), rtol=1e-4)
    np.testing.assert_allclose(likelihood.class_probabilities(parameters), np.hstack([1 - p, p]), rtol=1e-5)


@pytest.mark.parametrize("y", [np.array([0, 1, 2, 0, 1, 2]), np.array([[0], [1], [2], [0], [1], [2]], np.float32)])
def test_categorical_is_scipys(y):
    likelihood = Categorical(3)
    assert likelihood.num_outputs == likelihood.num_parameters == 3
    p = special.softmax(LOGITS.astype("float64"), axis=1)
    parameters = likelihood(LOGITS)
    log_prob = likelihood.log_prob(parameters, likelihood.match_target(y))
    np.testing.assert_allclose(log_prob, np.log(p[np.arange(6), y.astype(int).reshape(-1)]), rtol=1e-5)
    np.testing.assert_allclose(likelihood.mean(parameters), p, rtol=1e-5)
    np.testing.assert_allclose(likelihood.variance(parameters), p * (1 - p), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(likelihood.class_probabilities(parameters), p, rtol=1e-5)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Categorical(3)], ids=["Bernoulli", "Categorical"])
def test_draws_lead(likelihood):
    parameters = RNG.normal(size=(4, 6, likelihood.num_outputs)).astype("float32")
    y = likelihood.match_target(np.array([0, 1, 1, 0, 1, 0]))
    log_prob = likelihood.log_prob(parameters, y)
    assert log_prob.shape == (4, 6)
    for s in range(4):
        np.testing.assert_allclose(log_prob[s], likelihood.log_prob(parameters[s], y), rtol=1e-6)


def test_certain_logits_keep_their_log_probability():
    """exp(-200) is no float32, its logarithm is."""
    y = Bernoulli().match_target([0])
    np.testing.assert_allclose(Bernoulli().log_prob(np.array([[200.0]], np.float32), y), [-200.0], rtol=1e-6)
    logits = np.array([[200.0, 0.0]], np.float32)
    np.testing.assert_allclose(Categorical(2).log_prob(logits, Categorical(2).match_target([1])), [-200.0], rtol=1e-6)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Categorical(3)], ids=["Bernoulli", "Categorical"])
def test_the_null_model_has_the_shares_of_the_classes(likelihood):
    y = np.array([[0], [1], [1], [2], [1], [0]][: 6 if likelihood.num_classes == 3 else 3])
    shares = np.bincount(y[:, 0]) / len(y)
    parameters = likelihood.null_parameters(y).astype("float32")
    assert parameters.shape == (likelihood.num_parameters,)
    np.testing.assert_allclose(likelihood.class_probabilities(parameters), shares, rtol=1e-6)


@pytest.mark.parametrize(
    ("likelihood", "wrong"),
    [(Bernoulli(), [0, 2]), (Bernoulli(), [-1, 0]), (Bernoulli(), [0.5, 1]), (Bernoulli(), [0.0, np.nan]),
     (Categorical(3), [0, 3]), (Categorical(3), [1.5, 0])],
)  # fmt: skip
def test_classes_that_are_refused(likelihood, wrong):
    with refuses("`y`", f"class indices 0 ... {likelihood.num_classes - 1}"):
        likelihood.adapt(wrong)


def test_one_hot_targets_get_the_way_out():
    with refuses("`y`", "[N, 1] or [N]", "numpy.argmax"):
        Categorical(3).match_target(np.eye(3))


@pytest.mark.parametrize("likelihood", [Bernoulli(), Categorical(3)], ids=["Bernoulli", "Categorical"])
@pytest.mark.parametrize("labels", [["a", "b"], np.array(["a", 1], object), np.array([b"a", b"b"])])
def test_labels_get_the_way_to_indices(likelihood, labels):
    for ask in (likelihood.adapt, lambda labels: likelihood.check_numbers("y", labels)):
        with refuses("`y`", "numbers", "labels, y = numpy.unique(labels, return_inverse=True)"):
            ask(labels)


def test_they_are_built_from_the_start():
    assert Bernoulli().built and Categorical(3).built


def test_a_likelihood_with_a_build_of_its_own_is_built_by_it():
    class Tempered(Bernoulli):
        def build(self, input_shape):
            self.temperature = self.add_weight(name="temperature", shape=(), initializer="ones")

    likelihood = Tempered()
    assert not likelihood.built
    likelihood(LOGITS[:, :1])
    assert likelihood.built and len(likelihood.weights) == 1


@pytest.mark.parametrize("wrong", [0, 1, 2.5, True])
def test_numbers_of_classes_that_are_refused(wrong):
    with refuses("num_classes"):
        Categorical(wrong)


def test_found_by_name():
    assert isinstance(likelihoods.get("Bernoulli"), Bernoulli)
    assert likelihoods.get({"class": "Categorical", "num_classes": 4}).num_classes == 4
    with refuses("likelihood.classes", "Did you mean 'num_classes'"):
        likelihoods.get({"class": "Categorical", "classes": 4})
    with refuses("likelihood", "Did you mean 'Bernoulli'"):
        likelihoods.get("bernouli")
    again = likelihoods.deserialize(likelihoods.serialize(Categorical(4)))
    assert again.get_config() == Categorical(4, name=again.name).get_config()
