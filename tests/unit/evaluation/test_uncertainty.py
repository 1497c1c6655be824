"""Scores of being unsure against closed forms, from parameters that are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from tfbnn import evaluation, likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import UNCERTAINTIES, energy, uncertainty
from tfbnn.prediction import Prediction

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0.0, 2.0, [7, 40, 3])
P = special.softmax(LOGITS, axis=-1)


def classes(logits=LOGITS) -> Prediction:
    return Prediction(logits, likelihoods.Categorical(np.shape(logits)[-1]))


CLOSED_FORMS = {
    "predictive_entropy": stats.entropy(P.mean(axis=0), axis=-1),
    "mutual_information": stats.entropy(P.mean(axis=0), axis=-1) - stats.entropy(P, axis=-1).mean(axis=0),
    "least_confidence": 1.0 - P.mean(axis=0).max(axis=-1),
    "epistemic_variance": P.var(axis=0).sum(axis=-1),
    "energy": -special.logsumexp(LOGITS, axis=-1).mean(axis=0),
}


def test_every_score_has_a_closed_form_here_and_a_public_name():
    assert set(CLOSED_FORMS) == set(UNCERTAINTIES)
    assert all(getattr(evaluation, name) is function for name, function in UNCERTAINTIES.items())


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_scores_are_their_closed_forms(name):
    found = uncertainty(classes(), by=name)
    assert found.shape == (40,)
    np.testing.assert_allclose(found, CLOSED_FORMS[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(CLOSED_FORMS) - {"energy"}))
def test_twin_no_score_is_another(name):
    others = [CLOSED_FORMS[other] for other in CLOSED_FORMS if other != name]
    assert not any(np.allclose(uncertainty(classes(), by=name), other, atol=1e-3) for other in others)


@pytest.mark.parametrize("name", ["mutual_information", "epistemic_variance"])
def test_draws_that_agree_have_no_epistemic_part_and_those_that_do_not_have_all(name):
    agree = np.repeat(LOGITS[:1], 7, axis=0)
    np.testing.assert_allclose(uncertainty(classes(agree), by=name), 0.0, atol=2e-7)
    apart = 100.0 * np.eye(2)[:, np.newaxis]  # two draws, each sure of another of two classes
    most = {"mutual_information": np.log(2.0), "epistemic_variance": 0.5}[name]
    np.testing.assert_allclose(uncertainty(classes(apart), by=name), most, rtol=1e-6)


def test_two_classes_by_one_logit_score_as_by_two():
    one = Prediction(LOGITS[..., :1], likelihoods.Bernoulli())
    two = classes(np.concatenate([np.zeros_like(LOGITS[..., :1]), LOGITS[..., :1]], axis=-1))
    for name in sorted(set(UNCERTAINTIES) - {"energy"}):
        np.testing.assert_allclose(uncertainty(one, by=name), uncertainty(two, by=name), rtol=1e-5, atol=1e-6)


def test_the_epistemic_variance_of_numbers_is_that_of_the_means():
    loc, scale = RNG.normal(5.0, 2.0, [9, 20, 2]), RNG.uniform(0.5, 2.0, [9, 20, 2])
    prediction = Prediction(np.concatenate([loc, scale], axis=-1), likelihoods.Normal(num_targets=2))
    found = uncertainty(prediction, by="epistemic_variance")
    np.testing.assert_allclose(found, loc.var(axis=0).sum(axis=1), rtol=1e-4)
    assert not np.allclose(found, prediction.variance.sum(axis=1), rtol=0.1)  # the twin has the noise too


def test_the_energy_sees_the_level_of_the_logits_which_the_softmax_forgets():
    moved = classes(LOGITS + 3.0)
    np.testing.assert_allclose(energy(moved), energy(classes()) - 3.0, rtol=1e-5)
    np.testing.assert_allclose(uncertainty(moved, "least_confidence"), CLOSED_FORMS["least_confidence"], rtol=1e-4)


def test_the_energy_of_a_low_temperature_is_minus_the_largest_logit():
    np.testing.assert_allclose(energy(classes(), 1e-3), -LOGITS.max(axis=-1).mean(axis=0), rtol=1e-2, atol=1e-3)


def test_scores_that_a_likelihood_does_not_have_are_refused():
    numbers = Prediction(np.ones([2, 3, 2]), likelihoods.Normal())
    for name in sorted(set(UNCERTAINTIES) - {"epistemic_variance"}):
        with pytest.raises(InvalidInput):
            uncertainty(numbers, by=name)
    with pytest.raises(InvalidInput, match=r"Categorical\(2\)"):
        energy(Prediction(LOGITS[..., :1], likelihoods.Bernoulli()))
    with pytest.raises(InvalidInput, match="Did you mean 'mutual_information'"):
        uncertainty(classes(), by="mutual_informations")
    with pytest.raises(InvalidInput, match="temperature"):
        energy(classes(), temperature=0.0)
