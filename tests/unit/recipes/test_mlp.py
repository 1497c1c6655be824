"""The multi-layer perceptron of recipes: which layers, with which parts, from which seed."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.layers.base import VariationalLayer
from tfbnn.recipes import builders
from tfbnn.recipes.builders.mlp import LAYERS, Options

MLP = builders.BUILDERS["mlp"]


def build(num_features: int = 3, num_outputs: int = 2, seed: int = 0, **options) -> keras.Sequential:
    return builders.network(MLP, Options(**options), num_features, num_outputs, seed)


def is_bayesian(network: keras.Sequential) -> list[bool]:
    return [isinstance(layer, VariationalLayer) for layer in network.layers]


def test_layers_and_shapes():
    network = build(hidden=[7, 5])
    assert network.input_shape == (None, 3)
    assert [layer.units for layer in network.layers] == [7, 5, 2]
    assert [layer.name for layer in network.layers] == ["hidden_0", "hidden_1", "output"]


def test_the_default_is_small_and_has_a_narrow_prior():
    network = build()
    assert [layer.units for layer in network.layers] == [20, 2]
    for term in network.layers[0].weight_terms:
        np.testing.assert_allclose(term.p.distribution().stddev(), 0.3, rtol=1e-6)


def test_no_hidden_layer_is_a_linear_model():
    network = build(hidden=[])
    assert [layer.units for layer in network.layers] == [2]
    assert network.layers[0].activation is keras.activations.linear


def test_the_activation_is_that_of_the_hidden_layers_alone():
    network = build(hidden=[7, 5], activation="tanh")
    used = [layer.activation for layer in network.layers]
    assert used == [keras.activations.tanh, keras.activations.tanh, keras.activations.linear]


@pytest.mark.parametrize("layer", LAYERS)
def test_the_class_of_the_layers(layer):
    assert {type(each) for each in build(layer=layer).layers} == {getattr(tfbnn.layers, layer)}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_learned_scale_is_one_weight_a_tensor(layer):
    network = build(layer=layer, prior="EmpiricalBayesNormal")
    names = [weight.path for weight in network.trainable_weights if weight.name.endswith("_prior_rho")]
    assert len(set(names)) == len(names) == sum(len(each.weight_terms) for each in network.layers)


def test_a_learned_scale_of_points_is_refused_by_the_recipes_word():
    with pytest.raises(InvalidInput, match=r"`model\.prior`.*falls without end"):
        build(prior="EmpiricalBayesNormal", posterior="Deterministic")


@pytest.mark.parametrize("layer", LAYERS)
def test_prior_and_posterior_reach_every_tensor(layer):
    prior, posterior = {"class": "Normal", "scale": 0.25}, {"class": "MeanField", "initial_rho": -2.5}
    for each in build(layer=layer, prior=prior, posterior=posterior).layers:
        assert len(each.weight_terms) == (1 if layer == "DenseVariational" else 2)
        for term in each.weight_terms:
            np.testing.assert_allclose(term.p.distribution().stddev(), 0.25)
            np.testing.assert_allclose(term.q.factorised_gaussian[1], np.log1p(np.exp(-2.5)), rtol=1e-6)


@pytest.mark.parametrize(
    ("bayesian", "expected"),
    [
        ("all", [True, True, True]),
        ("last", [False, False, True]),
        ([0], [True, False, False]),
        ([2, 1], [False, True, True]),
        ([0, 1, 2], [True, True, True]),
    ],
)
def test_which_layers_are_bayesian(bayesian, expected):
    assert is_bayesian(build(hidden=[7, 5], bayesian=bayesian)) == expected


@pytest.mark.parametrize("bayesian", ["all", "last"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_seed_fixes_the_initial_weights_and_the_noise(layer, bayesian):
    first, same, other = (build(layer=layer, bayesian=bayesian, seed=seed) for seed in (3, 3, 4))
    for one, two in zip(first.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(first.layers, other.layers, strict=True):
        assert not np.array_equal(one.get_weights()[0], two.get_weights()[0])
    x = np.ones([4, 3], "float32")
    np.testing.assert_array_equal(first(x), same(x))
    assert not np.array_equal(first(x), other(x))


def test_layers_of_one_shape_begin_differently():
    network = build(num_features=5, hidden=[5, 5], num_outputs=5)
    kernels = [layer.get_weights()[0] for layer in network.layers]
    assert not np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])


@pytest.mark.parametrize("layer", ["DenseFlipout", "DenseLocalReparameterization"])
def test_parts_that_do_not_go_together_are_told_in_the_words_of_the_recipe(layer):
    with pytest.raises(InvalidInput, match=r"`model\.posterior`.*Use DenseReparameterization or DenseVariational"):
        build(layer=layer, posterior={"class": "FullCovariance"})


@pytest.mark.parametrize("layer", LAYERS)
def test_no_prior_goes_with_points_alone(layer):
    with pytest.raises(InvalidInput, match=r"`model\.prior`.*Received: None"):
        build(layer=layer, prior=None)
    assert is_bayesian(build(layer=layer, prior=None, posterior="Deterministic")) == [True, True]


def test_full_covariance_goes_with_one_draw_a_call():
    for layer in ("DenseVariational", "DenseReparameterization"):
        assert is_bayesian(build(layer=layer, posterior="FullCovariance")) == [True, True]
