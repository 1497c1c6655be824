"""Attacks on models whose worst case is known: of a linear model it is radius * sign(w)."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import special

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import ATTACKS, Loss, fgsm, pgd
from tfbnn.layers import DenseFlipout
from tfbnn.prediction import NetworkDraws, StoredDraws

RNG = np.random.default_rng(0)
W = np.array([[1.5], [-2.0], [0.5], [0.0]])
X = RNG.uniform(0.3, 0.7, [20, 4]).astype(np.float32)
Y = np.arange(20) % 2
SIGN = 1 - 2 * Y[:, np.newaxis]  # class 1 is attacked by lowering the logit
RADIUS = 0.1


def logistic(*kernels):
    """Draws of logistic regressions with these kernels."""
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    return StoredDraws(net, likelihoods.Bernoulli(), [[kernel] for kernel in kernels])


@pytest.fixture(scope="module")
def linear():
    """The loss of one logistic regression, traced once."""
    return Loss(logistic(W))


@pytest.fixture(scope="module")
def curved():
    """The loss of a network whose weights are drawn; `draws` with it."""
    keras.utils.set_random_seed(3)
    net = keras.Sequential([keras.Input((4,)), DenseFlipout(8, "tanh"), DenseFlipout(3)])
    draws = NetworkDraws(net, likelihoods.Categorical(3), seed=1)
    loss = Loss(draws, num_samples=7, seed=5)
    loss.draws = draws
    return loss


@pytest.mark.parametrize("attack", ATTACKS.values())
def test_the_worst_change_of_a_linear_model_is_the_sign_of_its_weights(linear, attack):
    expected = X + RADIUS * SIGN * np.sign(W[:, 0])
    np.testing.assert_allclose(attack(linear, X, Y, RADIUS), expected, atol=1e-6)
    assert not np.allclose(attack(linear, X, 1 - Y, RADIUS), expected, atol=0.1)  # the twin


@pytest.mark.parametrize("attack", ATTACKS.values())
def test_attacks_towards_a_target_are_those_away_from_the_other(linear, attack):
    away, towards = (attack(linear, X, y, RADIUS, targeted=to) for y, to in ((Y, False), (1 - Y, True)))
    np.testing.assert_allclose(towards, away, atol=1e-6)


def test_the_gradient_is_that_of_the_mixture_and_not_of_the_mean_loss():
    kernels = [3.0 * W, -1.0 * W[::-1], np.ones([4, 1])]
    loss, gradient = Loss(logistic(*kernels))(X, Y[:, np.newaxis].astype(np.float32))
    sign = -SIGN[:, 0]
    each = np.array([special.expit(sign * (X @ w)[:, 0]) for w in kernels])
    np.testing.assert_allclose(loss, -np.log(each.mean(axis=0)), rtol=1e-5)
    by_draw = [(p * (1 - p) * sign)[:, np.newaxis] * w[:, 0] for p, w in zip(each, kernels, strict=True)]
    mixture = -np.mean(by_draw, axis=0) / each.mean(axis=0)[:, np.newaxis]
    np.testing.assert_allclose(gradient, mixture, rtol=1e-4, atol=1e-6)
    of_the_mean_loss = -np.mean([d / p[:, np.newaxis] for d, p in zip(by_draw, each, strict=True)], axis=0)
    assert not np.allclose(gradient, of_the_mean_loss, rtol=0.05)


def test_the_gradient_through_layers_that_draw_is_the_slope_of_the_prediction(curved):
    draws, y = curved.draws, np.arange(20) % 3
    loss, gradient = curved(X, y[:, np.newaxis].astype(np.int32))
    told = draws.predict_distribution(X, num_samples=7, seed=5).log_prob(y)
    np.testing.assert_allclose(loss, -told, rtol=1e-4)
    along, step = RNG.normal(size=X.shape).astype(np.float32), 1e-2
    ahead, behind = (-draws.predict_distribution(X + s * along, 7, 5).log_prob(y) for s in (step, -step))
    np.testing.assert_allclose((gradient * along).sum(axis=1), (ahead - behind) / (2 * step), rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("clip", [None, (0.0, 1.0), (0.25, 0.75)])
def test_pgd_stays_in_the_ball_and_in_the_range_of_inputs(curved, clip, random_start):
    y = np.arange(20) % 3
    attacked = pgd(curved, X, y, RADIUS, clip, steps=5, step_size=0.08, random_start=random_start)
    assert np.abs(attacked - X).max() <= RADIUS + 1e-6
    assert np.abs(attacked - X).max() > 0.9 * RADIUS
    if clip:
        assert clip[0] <= attacked.min() <= attacked.max() <= clip[1]


def test_pgd_is_never_worse_than_fgsm_where_the_loss_is_convex(linear):
    """One logistic regression: its loss is convex in x, and FGSM is exact; of more steps nothing is lost."""
    loss, y = linear, Y[:, np.newaxis].astype(np.float32)
    by_fgsm, by_pgd, before = (loss(x, y)[0] for x in (fgsm(loss, X, Y, RADIUS), pgd(loss, X, Y, RADIUS), X))
    assert (by_pgd >= by_fgsm - 1e-6).all()
    assert (by_fgsm > before + 1e-3).all()


def test_pgd_keeps_the_worst_that_it_has_seen(curved):
    """Steps far too long jump about the ball; what is returned is never less harmful than where it began."""
    loss, y = curved, np.arange(20) % 3
    value = lambda x: loss(x, y[:, np.newaxis].astype(np.int32))[0]  # noqa: E731
    attacked = pgd(loss, X, y, 0.5, None, steps=6, step_size=5.0)
    assert (value(attacked) >= value(X)).all()
    assert (value(pgd(loss, X, y, 0.5, None, steps=6)) >= value(X)).all()


def test_no_radius_is_no_change(linear):
    for attack in ATTACKS.values():
        np.testing.assert_array_equal(attack(linear, X, Y, 0.0), X)


def test_numbers_are_attacked_too():
    """A regression: the mean is pushed away from y."""
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    net.set_weights([W])
    loss = Loss(NetworkDraws(net, likelihoods.Normal()), num_samples=1)
    y = X @ W[:, 0] + 1.0  # above the mean, which is pushed down
    np.testing.assert_allclose(fgsm(loss, X, y, RADIUS), X - RADIUS * np.sign(W[:, 0]), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"radius": -0.1}, "radius"),
        ({"clip": (0.5, 1.0)}, "clip"),
        ({"clip": (1.0, 0.0)}, "clip"),
        ({"x": X.astype(int)}, "floating"),
        ({"x": X * np.nan}, "finite"),
        ({"x": X[0]}, r"\[B, \.\.\.\]"),
        ({"y": Y[1:]}, "rows"),
        ({"y": Y + 1}, "`y`"),
    ],
)
def test_what_cannot_be_attacked_is_refused(linear, change, told):
    arguments = {"x": X, "y": Y, "radius": RADIUS, **change}
    for attack in ATTACKS.values():
        with pytest.raises(InvalidInput, match=told):
            attack(linear, **arguments)


def test_numbers_of_steps_and_draws_are_checked(linear):
    with pytest.raises(InvalidInput, match="steps"):
        pgd(linear, X, Y, RADIUS, steps=0)
    with pytest.raises(InvalidInput, match="step_size"):
        pgd(linear, X, Y, RADIUS, step_size=-1.0)
    with pytest.raises(InvalidInput, match="at most 1"):
        Loss(logistic(W), num_samples=2)
