"""The Mahalanobis distance against SciPy's, and the features that it is taken in."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import Mahalanobis, trunk, trunk_features
from tfbnn.layers import DenseFlipout, DenseLocalReparameterization, MCDropout
from tfbnn.prediction import NetworkDraws, StoredDraws

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 200)
COVARIANCE = np.array([[2.0, 0.8, 0.0], [0.8, 1.0, 0.3], [0.0, 0.3, 0.5]])
CENTRES = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 5.0, 5.0]])
FEATURES = (CENTRES[Y] + RNG.multivariate_normal(np.zeros(3), COVARIANCE, 200))[np.newaxis]
X = RNG.normal(size=(50, 4)).astype(np.float32)


def scipys(h, features=FEATURES[0], y=Y):
    means = [features[y == k].mean(axis=0) for k in range(3)]
    away = np.concatenate([features[y == k] - means[k] for k in range(3)])
    precision = np.linalg.inv(away.T @ away / len(away))
    return [min(mahalanobis(row, mean, precision) ** 2 for mean in means) for row in h]


def test_the_distance_is_that_of_scipy():
    h = RNG.normal(0.0, 4.0, [1, 30, 3])
    found = Mahalanobis.fit(FEATURES, Y, smallest_variance=1e-12).score(h)
    np.testing.assert_allclose(found, scipys(h[0]), rtol=1e-6)
    assert not np.allclose(found, scipys(h[0], y=np.roll(Y, 1)), rtol=0.1)  # the twin has the wrong classes


def test_a_class_mean_is_no_distance_away_and_units_do_not_matter():
    fitted = Mahalanobis.fit(FEATURES, Y)
    np.testing.assert_allclose(fitted.score(fitted.means), 0.0, atol=1e-9)
    turned = np.linalg.qr(RNG.normal(size=(3, 3)))[0] * 7.0
    found = Mahalanobis.fit(FEATURES @ turned, Y).score(FEATURES @ turned)
    np.testing.assert_allclose(found, fitted.score(FEATURES), rtol=1e-5)


def test_each_draw_has_its_own_gaussians_and_the_score_is_their_mean():
    other = FEATURES @ np.diag([1.0, -3.0, 0.1]) ** 2 + RNG.normal(size=FEATURES.shape)
    both = Mahalanobis.fit(np.concatenate([FEATURES, other]), Y)
    alone = [Mahalanobis.fit(one, Y).score(one) for one in (FEATURES, other)]
    np.testing.assert_allclose(both.score(np.concatenate([FEATURES, other])), np.mean(alone, axis=0))


def test_units_that_never_fire_have_a_finite_distance():
    dead = np.concatenate([FEATURES, np.zeros_like(FEATURES[..., :1])], axis=-1)
    fitted = Mahalanobis.fit(dead, Y)
    np.testing.assert_allclose(fitted.score(dead), Mahalanobis.fit(FEATURES, Y).score(FEATURES), rtol=1e-4)
    assert fitted.score(dead + np.array([0.0, 0.0, 0.0, 1.0])).min() > 1e4  # a unit that fires for once is told


def test_it_is_kept_as_arrays(tmp_path):
    fitted = Mahalanobis.fit(FEATURES, Y)
    np.savez(tmp_path / "distance.npz", **fitted.arrays())
    with np.load(tmp_path / "distance.npz") as kept:
        again = Mahalanobis(**kept)
    np.testing.assert_array_equal(again.score(FEATURES), fitted.score(FEATURES))


@pytest.mark.parametrize(
    ("features", "y", "told"),
    [
        (FEATURES[0], Y, "features"),
        (FEATURES, Y[1:], "`y`"),
        (FEATURES, Y + 1, "class indices"),
        (np.full_like(FEATURES, np.nan), Y, "finite"),
        (np.ones_like(FEATURES), Y, "differ"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(features, y, told):
    with pytest.raises(InvalidInput, match=told):
        Mahalanobis.fit(features, y)


def test_features_of_other_draws_than_were_fitted_are_refused():
    fitted = Mahalanobis.fit(FEATURES, Y)
    with pytest.raises(InvalidInput, match=r"\[1, B, 3\]"):
        fitted.score(np.repeat(FEATURES, 2, axis=0))
    with pytest.raises(InvalidInput, match="whitening"):
        Mahalanobis(fitted.means, fitted.whitening[:, :2])


# --- features ---------------------------------------------------------------------------------------------------------


def network(*layers):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), *layers])


def test_the_trunk_of_a_plain_network_is_what_its_last_layer_takes():
    net = network(keras.layers.Dense(5, "tanh"), keras.layers.Dense(3))
    kernel, bias = net.layers[0].get_weights()
    found = trunk_features(NetworkDraws(net, likelihoods.Categorical(3)), X, num_samples=1)
    np.testing.assert_allclose(found, np.tanh(X @ kernel + bias)[np.newaxis], rtol=1e-5, atol=1e-6)
    assert trunk(net).layers[-1] is net.layers[0]


def test_settings_each_have_their_own_features():
    net = network(keras.layers.Dense(5, "tanh"), keras.layers.Dense(3))
    settings = [[RNG.normal(size=v.shape) for v in net.trainable_variables] for _ in range(3)]
    found = trunk_features(StoredDraws(net, likelihoods.Categorical(3), settings), X)
    np.testing.assert_allclose(found, [np.tanh(X @ w[0] + w[1]) for w in settings], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [[DenseFlipout(5, "relu"), DenseLocalReparameterization(3)],
                                    [keras.layers.Dense(5, "relu"), MCDropout(0.5), keras.layers.Dense(3)],
                                    [keras.Sequential([MCDropout(0.5), keras.layers.Dense(5)]),
                                     keras.Sequential([MCDropout(0.5), keras.layers.Dense(3)])]])  # fmt: skip
def test_a_draw_is_one_network_whatever_rows_are_asked_for(layers):
    draws = NetworkDraws(network(*layers), likelihoods.Categorical(3), seed=1)
    all_rows = trunk_features(draws, X, num_samples=4)
    assert all_rows.shape[:2] == (4, 50)
    np.testing.assert_allclose(trunk_features(draws, X[7:9], num_samples=4), all_rows[:, 7:9], rtol=1e-4, atol=1e-6)
    assert np.ptp(all_rows, axis=0).max() > 0.1  # the twin: draws differ


WITHOUT_FEATURES = {
    "one layer": [keras.layers.Dense(3)],
    "images": [keras.layers.Reshape((2, 2)), keras.layers.Dense(3), keras.layers.Dense(3), keras.layers.Flatten()],
}


@pytest.mark.parametrize("name", WITHOUT_FEATURES)
def test_networks_without_such_features_are_refused(name):
    with pytest.raises(InvalidInput, match="network"):
        trunk(network(*WITHOUT_FEATURES[name]))
