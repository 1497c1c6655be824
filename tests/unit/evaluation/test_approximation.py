"""Distances between predictions, from parameters whose distances are known."""

import numpy as np
import pytest
from scipy import stats

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import agreement, distance, total_variation
from tfbnn.prediction import Prediction


def normals(loc, scale, spread=0.0):
    """Two draws a row, spread around loc."""
    loc, scale = np.broadcast_arrays(np.asarray(loc, float), scale)
    draws = [np.stack([loc + sign * spread, scale], axis=-1) for sign in (-1, 1)]
    return Prediction(np.stack(draws), likelihoods.Normal())


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0, 30.0])
def test_total_variation_of_shifted_normals(shift):
    """2 Phi(shift / 2 sigma) - 1."""
    found = total_variation(normals([0.0, 4.0], 1.0), normals([shift, 4.0 + 3 * shift], [1.0, 3.0]))
    exact = 2 * stats.norm.cdf(shift / 2) - 1
    np.testing.assert_allclose(found[0], exact, atol=2e-3)
    if shift == 0:
        z = np.linspace(-20, 30, 100_001)
        of_scales = 0.5 * np.trapezoid(np.abs(stats.norm(4, 1).pdf(z) - stats.norm(4, 3).pdf(z)), z)
        np.testing.assert_allclose(found[1], of_scales, atol=2e-3)


def test_total_variation_of_classes_and_their_agreement():
    logits = np.log(np.array([[[0.7, 0.2, 0.1], [0.4, 0.5, 0.1]]]))
    other = np.log(np.array([[[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]]]))
    one, two = (Prediction(part, likelihoods.Categorical(3)) for part in (logits, other))
    np.testing.assert_allclose(total_variation(one, two), [0.2, 0.2], rtol=1e-5)
    assert agreement(one, two) == 0.5
    assert agreement(one, one) == 1.0


def test_total_variation_of_counts():
    one, two = (Prediction(np.full([1, 2, 1], rate), likelihoods.Poisson()) for rate in np.log([3.0, 5.0]))
    k = np.arange(60)
    parameters = [part.parameters for part in (one, two)]
    rates = [float(likelihoods.Poisson().mean(p)[0, 0, 0]) for p in parameters]
    exact = 0.5 * np.abs(stats.poisson(rates[0]).pmf(k) - stats.poisson(rates[1]).pmf(k)).sum()
    np.testing.assert_allclose(total_variation(one, two), [exact, exact], atol=5e-3)
    assert exact > 0.1


def test_counts_of_any_size_have_few_points():
    one, two = (Prediction(np.full([1, 1, 1], np.log(rate)), likelihoods.Poisson()) for rate in (1e5, 1.003e5))
    shift = 300 / np.sqrt(1.0015e5)  # nearly normal there
    assert total_variation(one, two)[0] == pytest.approx(2 * stats.norm.cdf(shift / 2) - 1, abs=0.01)


def test_skewed_densities_are_resolved_where_their_mass_is():
    one, two = (Prediction(np.array([[[loc, 1.5]]]), likelihoods.LogNormal()) for loc in (0.0, 1.0))
    assert total_variation(one, two)[0] == pytest.approx(2 * stats.norm.cdf(1 / 3) - 1, abs=5e-3)


def test_classes_that_all_are_sure_of_have_finite_distances():
    logits = [np.full([2, 3, 3], 0.0) for _ in range(2)]
    logits[0][..., 0], logits[1][..., 0] = 200.0, 190.0
    found = distance(*(Prediction(part, likelihoods.Categorical(3)) for part in logits))
    assert (found.total_variation, found.mean_error, found.spread) == pytest.approx((0.0, 0.0, 1.0), abs=1e-6)


def test_distance_tells_shift_and_spread():
    gold = normals([0.0, 1.0], 1.0, spread=0.5)
    assert distance(gold, gold).mean_error == 0
    assert distance(gold, gold).spread == pytest.approx(1.0)
    assert distance(gold, gold).total_variation == pytest.approx(0.0, abs=1e-6)
    half = normals([0.3, 1.3], 1.0, spread=0.25)
    assert distance(half, gold).spread == pytest.approx(0.5, rel=1e-5)
    assert distance(half, gold).mean_error == pytest.approx(0.3 / gold.stddev[0, 0], rel=1e-5)


def test_several_targets_are_refused():
    two = Prediction(np.ones([1, 2, 4]), likelihoods.Normal(num_targets=2))
    with pytest.raises(InvalidInput, match="one target a row"):
        total_variation(two, two)
