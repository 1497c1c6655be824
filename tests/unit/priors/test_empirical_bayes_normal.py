"""EmpiricalBayesNormal: one learned scale a tensor."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from gaussian import kl_normal, randomised, softplus, variable
from tfbnn.core.checks import InvalidInput
from tfbnn.core.positive import inverse_positive
from tfbnn.layers import DenseReparameterization, DenseVariational
from tfbnn.priors import EmpiricalBayesNormal

LOC = 0.2


def layer_of(prior=None):
    """A layer of 5 x 3 kernel weights with known q, and a learned prior of the kernel."""
    return randomised(DenseReparameterization(3, kernel_prior_fn=prior or EmpiricalBayesNormal(LOC)), (None, 5))


def best_scale(layer):
    """Where KL(q || p) is least, in closed form."""
    loc, scale = variable(layer, "kernel_loc").numpy(), softplus(variable(layer, "kernel_rho"))
    return np.sqrt(np.mean((loc - LOC) ** 2 + scale**2))


def slope_at(layer, scale):
    """d KL / d rho where the prior has `scale`, in nats."""
    rho = variable(layer, "kernel_prior_rho")
    rho.assign(inverse_positive(scale))
    with tf.GradientTape() as tape:
        kl = layer.kl_divergence()
    return float(tape.gradient(kl, rho.value))


def learned_scale(layer):
    return float(softplus(variable(layer, "kernel_prior_rho")))


def test_one_trainable_scalar_that_begins_at_the_scale():
    layer = keras.layers.Layer()
    EmpiricalBayesNormal(initial_scale=0.7).build(layer, "kernel", (2, 3))
    assert [(weight.name, weight.shape) for weight in layer.trainable_weights] == [("kernel_prior_rho", ())]
    np.testing.assert_allclose(softplus(layer.weights[0]), 0.7, rtol=1e-6)


def test_kl_is_that_to_a_normal_of_the_learned_scale():
    layer = layer_of()
    variable(layer, "kernel_prior_rho").assign(0.4)
    kernel = kl_normal(variable(layer, "kernel_loc"), softplus(variable(layer, "kernel_rho")), LOC, softplus(0.4))
    bias = kl_normal(variable(layer, "bias_loc"), softplus(variable(layer, "bias_rho")))
    np.testing.assert_allclose(layer.kl_divergence(), kernel.sum() + bias.sum(), rtol=1e-5)


def test_the_gradient_vanishes_at_the_optimum_of_the_closed_form():
    layer = layer_of()
    assert abs(slope_at(layer, best_scale(layer))) < 1e-4  # nats; float32, against slopes of 1 and more


@pytest.mark.parametrize(("factor", "sign"), [(0.95, -1), (1.05, 1)])
def test_twin_beside_it_the_gradient_points_back(factor, sign):
    layer = layer_of()
    assert sign * slope_at(layer, factor * best_scale(layer)) > 0.5


def fitted(steps):
    """The first layer of a model, whose prior begins with a scale of 2, after `steps` on all 64 rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 5)).astype("f")
    y = x[:, :1] + 0.1 * rng.standard_normal((64, 1)).astype("f")
    hidden = DenseReparameterization(10, "tanh", kernel_prior_fn=EmpiricalBayesNormal(LOC, 2.0), seed=0)
    network = keras.Sequential([keras.Input((5,)), hidden, DenseReparameterization(1, seed=1)])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal().adapt(y), num_data=64, seed=2)
    model.compile(keras.optimizers.Adam(0.05))
    model.fit(np.tile(x, (steps, 1)), np.tile(y, (steps, 1)), batch_size=64, shuffle=False, verbose=0)
    return hidden


def test_fit_moves_the_scale_to_the_optimum():
    hidden = fitted(150)
    assert learned_scale(hidden) == pytest.approx(best_scale(hidden), rel=0.05)  # which q still moves


def test_twin_before_fit_it_is_far_from_there():
    hidden = fitted(1)
    assert learned_scale(hidden) > 2 * best_scale(hidden)


@pytest.mark.parametrize(
    ("layer", "argument"),
    [
        (DenseReparameterization(2, kernel_posterior_fn="Deterministic", kernel_prior_fn="EmpiricalBayesNormal"),
         "kernel_prior_fn"),
        (DenseVariational(2, "Deterministic", "EmpiricalBayesNormal"), "make_prior_fn"),
    ],
)  # fmt: skip
def test_points_are_refused(layer, argument):
    with pytest.raises(InvalidInput, match=f"`{argument}`.*falls without end.*EmpiricalBayesNormal.*Use 'Normal'"):
        layer.build((None, 3))


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan"), "wide", None, True])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(InvalidInput, match="`initial_scale`"):
        EmpiricalBayesNormal(initial_scale=scale)


def test_means_that_are_none_are_refused():
    with pytest.raises(InvalidInput, match="`loc`"):
        EmpiricalBayesNormal(loc=float("nan"))
