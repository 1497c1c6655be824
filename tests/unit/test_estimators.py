"""Estimators: exact for fixed noise, then mean, variance and the correlation of rows against theory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gaussian import randomised, softplus, variable
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Tape, noise_scope
from tfbnn.layers import DenseFlipout, DenseLocalReparameterization, DenseReparameterization, DenseVariational

B, D, U = 5, 3, 4
RNG = np.random.default_rng(0)


def inputs(*shape):
    return RNG.standard_normal(shape).astype("f")


def played(layer, x, **noise):
    """The outputs of `layer` where its noise is `noise`."""
    with noise_scope(Tape({(0, name): value for name, value in noise.items()}, [layer])):
        return layer(x).numpy()


def gaussian(layer, name):
    return variable(layer, f"{name}_loc").numpy(), softplus(variable(layer, f"{name}_rho"))


# --- exact, noise fixed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(B, D), (B, 2, D)], ids=["rank 2", "rank 3"])
def test_reparameterization(shape):
    layer, x = randomised(DenseReparameterization(U, "tanh", kl_weight=0), (*shape[:-1], D)), inputs(*shape)
    (kernel, kernel_scale), (bias, bias_scale) = gaussian(layer, "kernel"), gaussian(layer, "bias")
    eps = {"kernel": inputs(D, U), "bias": inputs(U)}
    expected = np.tanh(x @ (kernel + kernel_scale * eps["kernel"]) + bias + bias_scale * eps["bias"])
    np.testing.assert_allclose(played(layer, x, **eps), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(B, D), (B, 2, D)], ids=["rank 2", "rank 3"])
def test_joint_reparameterization(shape):
    layer, x = randomised(DenseVariational(U, kl_weight=0), (*shape[:-1], D)), inputs(*shape)
    loc, scale = gaussian(layer, "weights")
    eps = inputs(D + 1, U)
    weights = loc + scale * eps
    expected = x @ weights[:-1] + weights[-1]
    np.testing.assert_allclose(played(layer, x, weights=eps), expected, rtol=1e-5, atol=1e-6)


def test_joint_reparameterization_with_a_full_covariance():
    layer, x = randomised(DenseVariational(2, "FullCovariance", kl_weight=0), (None, D)), inputs(B, D)
    scale = np.diag(softplus(variable(layer, "weights_rho")))
    unit_lower = np.tril(variable(layer, "weights_correlation").numpy(), -1) + np.eye(8)
    eps = inputs(4, 2)
    weights = variable(layer, "weights_loc").numpy() + (scale @ unit_lower @ eps.ravel()).reshape(4, 2)
    expected = x @ weights[:-1] + weights[-1]
    np.testing.assert_allclose(played(layer, x, weights=eps), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(B, D), (B, 2, D)], ids=["rank 2", "rank 3"])
@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
def test_local_reparameterization(shape, use_bias):
    layer = randomised(DenseLocalReparameterization(U, use_bias=use_bias, kl_weight=0), (*shape[:-1], D))
    x, eps = inputs(*shape), inputs(*shape[:-1], U)
    kernel, kernel_scale = gaussian(layer, "kernel")
    bias, bias_scale = gaussian(layer, "bias") if use_bias else (0.0, 0.0)
    expected = x @ kernel + bias + np.sqrt(x**2 @ kernel_scale**2 + bias_scale**2) * eps
    np.testing.assert_allclose(played(layer, x, outputs=eps), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("middle", [(), (2,)], ids=["rank 2", "rank 3"])
@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
def test_flipout(middle, use_bias):
    layer = randomised(DenseFlipout(U, use_bias=use_bias, kl_weight=0), (B, *middle, D))
    x, ones = inputs(B, *middle, D), [1] * len(middle)
    eps = {"kernel": inputs(D, U), "bias": inputs(U)}
    shapes = {"signs_in_0": (B, *ones, D), "signs_in_1": (B, *ones, 1), "signs_out": (B, *ones, U)}
    signs = {name: RNG.choice(np.float32([-1, 1]), shape) for name, shape in shapes.items()}
    s, s_bias, r = signs.values()
    kernel, kernel_scale = gaussian(layer, "kernel")
    bias, bias_scale = gaussian(layer, "bias") if use_bias else (0.0, 0.0)
    turned = (s * x) @ (kernel_scale * eps["kernel"]) + s_bias * bias_scale * eps["bias"]
    expected = x @ kernel + bias + r * turned
    np.testing.assert_allclose(played(layer, x, **eps, **signs), expected, rtol=1e-5, atol=1e-6)


# --- mean and variance ------------------------------------------------------------------------------------------------

# S draws. Every output is Gaussian given x, so that the standard errors are sd / sqrt(S) and var sqrt(2 / S). Bounds
# of 5 give a false alarm in 6e-7 of seeds for each of 32 numbers (the seed is fixed); an error of 0.07 sd in a mean
# or of 10% in a variance is seen for sure.
S = 20_000
LAYERS = [DenseReparameterization, DenseLocalReparameterization, DenseFlipout, DenseVariational]


def draws_of(layer, x):
    """[S, B, U]: S calls of the layer with its own noise, in one graph."""

    @tf.function
    def draw():
        outputs = tf.TensorArray(tf.float32, S)
        for s in tf.range(S):
            outputs = outputs.write(s, layer(x))
        return outputs.stack()

    return draw().numpy().astype(np.float64)


def known(cls, scale_factor=1.0, **arguments):
    """A layer, and the mean and variance [U] of its outputs for the row x, before its scales are turned."""
    layer = randomised(cls(2, kl_weight=0, seed=1, **arguments), (None, D))
    row = np.array([0.5, -1.0, 2.0], np.float32)
    if cls is DenseVariational:
        loc, scale = gaussian(layer, "weights")
        parts = (loc[:-1], scale[:-1], loc[-1], scale[-1])
    else:
        parts = (*gaussian(layer, "kernel"), *gaussian(layer, "bias"))
    mean, variance = row @ parts[0] + parts[2], row**2 @ parts[1] ** 2 + parts[3] ** 2
    for weight in layer.weights:
        if "rho" in weight.name:
            weight.assign(np.log(np.expm1(scale_factor * softplus(weight))))
    return layer, np.tile(row, (2, 1)), mean, variance


def moments_off(draws, mean, variance):
    """The largest distance of means and variances [B, U] from theory, in standard errors."""
    mean_off = np.abs(draws.mean(0) - mean) / np.sqrt(variance / S)
    variance_off = np.abs(draws.var(0) - variance) / (variance * np.sqrt(2 / S))
    return max(mean_off.max(), variance_off.max())


@pytest.mark.parametrize("cls", LAYERS)
def test_mean_and_variance_are_those_of_theory(cls):
    layer, x, mean, variance = known(cls)
    assert moments_off(draws_of(layer, x), mean, variance) < 5


@pytest.mark.parametrize("cls", [DenseLocalReparameterization, DenseFlipout])
def test_twin_the_check_tells_a_scale_that_is_wrong_by_a_tenth(cls):
    layer, x, mean, variance = known(cls, scale_factor=1.1)
    assert moments_off(draws_of(layer, x), mean, variance) > 5


# --- two identical rows -----------------------------------------------------------------------------------------------

# Flipout's rows share |w - loc|, so that the product of two rows' standardised noises has variance up to E[z^4] = 3:
# a standard error of sqrt(3 / S) = 0.012 at most. The bound 0.061 is 5 of them (false alarm 6e-7); 0.13 is seen for
# sure, and noise that rows share in the bias alone gives 0.3 here, and 1 where the input is 0.
INDEPENDENT = [DenseLocalReparameterization, DenseFlipout]
SHARED = [DenseReparameterization, DenseVariational]


def correlation_of_rows(cls, row):
    layer = randomised(cls(2, kl_weight=0, seed=1), (None, D))
    draws = draws_of(layer, np.tile(np.asarray(row, np.float32), (2, 1)))
    return np.array([np.corrcoef(draws[:, 0, unit], draws[:, 1, unit])[0, 1] for unit in range(2)])


def uncorrelated(correlations):
    return np.abs(correlations).max() < 5 * np.sqrt(3 / S)


def fully_correlated(correlations):
    return np.abs(correlations - 1).max() < 1e-6


ROWS = [pytest.param([0.5, -1.0, 0.5], id="kernel and bias"), pytest.param([0.0, 0.0, 0.0], id="bias alone")]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("cls", INDEPENDENT)
def test_identical_rows_are_uncorrelated(cls, row):
    correlations = correlation_of_rows(cls, row)
    assert uncorrelated(correlations)
    assert not fully_correlated(correlations)  # twin


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("cls", SHARED)
def test_identical_rows_of_one_weight_draw_are_the_same(cls, row):
    correlations = correlation_of_rows(cls, row)
    assert fully_correlated(correlations)
    assert not uncorrelated(correlations)  # twin


def test_twin_noise_that_only_the_bias_shares_is_seen():
    layer = randomised(DenseFlipout(2, kl_weight=0, seed=1), (None, D))
    draws = draws_of(layer, np.array([[0.5, -1.0, 0.5]] * 2, np.float32))
    _, bias_scale = gaussian(layer, "bias")
    shared = bias_scale * np.random.default_rng(0).standard_normal((S, 1, 2))
    correlations = np.array([np.corrcoef(*(draws + shared)[:, :, unit].T)[0, 1] for unit in range(2)])
    assert not uncorrelated(correlations)


# --- edges ------------------------------------------------------------------------------------------------------------


def test_gradients_are_finite_where_a_row_has_no_variance():
    layer = randomised(DenseLocalReparameterization(2, use_bias=False, kl_weight=0), (None, D))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.zeros([2, D])))  # of squares, the gradient 0 of y = 0 would hide sqrt's infinity
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    assert len(gradients) == 2
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_squares_that_float16_does_not_hold():
    layer = DenseLocalReparameterization(1, use_bias=False, kl_weight=0, dtype="mixed_float16")
    layer.build((None, 1))
    variable(layer, "kernel_loc").assign([[0.0]])
    variable(layer, "kernel_rho").assign([[-10.0]])  # scale 4.5e-5, whose square float16 does not hold either
    y = played(layer, np.array([[1000.0]], np.float32), outputs=np.ones((1, 1)))
    np.testing.assert_allclose(y, [[1000 * softplus(-10.0)]], rtol=2e-3)


@pytest.mark.parametrize("argument", ["kernel_posterior_fn", "bias_posterior_fn"])
@pytest.mark.parametrize(
    ("cls", "name"), [(DenseFlipout, "flipout"), (DenseLocalReparameterization, "local reparameterization")]
)
def test_a_correlated_posterior_is_refused_and_the_right_layer_named(cls, name, argument):
    layer = cls(2, **{argument: "FullCovariance"})
    with pytest.raises(InvalidInput, match=f"`{argument}`.*{name}.*DenseReparameterization or DenseVariational"):
        layer.build((None, 3))


@pytest.mark.parametrize("cls", LAYERS)
def test_a_batch_of_unknown_size_and_integers(cls):
    layer = cls(2, kl_weight=0)
    network = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    assert network(np.ones((4, 3), int)).shape == (4, 2)
