"""The networks that recipes build for images, sequences and tables: shapes, weights, seeds, what is Bayesian."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.inference.base import has_dropout, has_posteriors
from tfbnn.layers.base import VariationalLayer
from tfbnn.recipes import builders
from tfbnn.recipes.spec import _validated

IMAGE = {"shape": [8, 8, 1]}
NETWORKS = {
    "lenet5": ("convnet", IMAGE),
    "resnet": ("convnet", {**IMAGE, "architecture": "resnet", "filters": 4}),
    "lstm": ("recurrent", {"steps": 8, "units": [5]}),
    "gru": ("recurrent", {"steps": 8, "cell": "gru", "units": [4, 3], "bidirectional": True}),
    "attention": ("transformer", {"steps": 8, "width": 8, "heads": 2, "blocks": 1, "feed_forward": 8}),
    "dropout": ("transformer", {"steps": 8, "width": 8, "heads": 2, "blocks": 1, "uncertainty": "dropout"}),
    "wide_deep": ("wide_deep", {"hidden": [6, 6]}),
}


def build(name: str, num_features: int = 64, num_outputs: int = 3, seed: int = 0, **options) -> keras.Model:
    """The network of a builder, or one of `NETWORKS`; mistakes are told as a recipe tells them."""
    builder, given = NETWORKS.get(name, (name, {}))
    found = builders.find(builder)
    checked = _validated(found.options, {**given, **options}, ("model",))
    return builders.network(found, checked, num_features, num_outputs, seed)


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match=".*".join(map(re.escape, parts)))


def bayesian(network: keras.Model) -> list[str]:
    return [layer.name for layer in network.layers if isinstance(layer, VariationalLayer)]


def with_kernels(network: keras.Model) -> list[str]:
    normalisations = keras.layers.LayerNormalization, keras.layers.GroupNormalization
    return [one.name for one in network.layers if one.trainable_variables and not isinstance(one, normalisations)]


def without_scales(network: keras.Model) -> keras.Model:
    """The network with scales of 0."""
    for variable in network.trainable_variables:
        if variable.name.endswith("_rho"):
            variable.assign(tf.fill(variable.shape, -100.0))
    return network


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_of_features_become_rows_of_parameters_and_the_seed_fixes_the_weights(name):
    network, same, other = (build(name, seed=seed) for seed in (3, 3, 4))
    assert (network.input_shape, network.output_shape) == ((None, 64), (None, 3))
    x = np.random.default_rng(0).normal(size=(2, 64)).astype("float32")
    assert np.isfinite(network(x)).all()
    for one, two in zip(network.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    kernels = [weight.path for weight in network.trainable_variables if "kernel" in weight.path]
    for one, two in zip(network.trainable_variables, other.trainable_variables, strict=True):
        if one.path in kernels and not one.name.endswith("_rho"):
            assert not np.array_equal(one, two), one.path


@pytest.mark.parametrize("name", NETWORKS)
def test_all_layers_with_kernels_are_bayesian_and_normalisations_are_not(name):
    network = build(name)
    assert bayesian(network) == with_kernels(network)
    assert has_posteriors(network) == (name != "dropout")
    assert has_dropout(network) == (name == "dropout")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_alone_is_bayesian(name):
    assert set(bayesian(build(name, bayesian="last"))) == ({"wide", "output"} if name == "wide_deep" else {"output"})


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "dropout"])
def test_the_means_are_the_weights_of_a_plain_net(name):
    """As layers that are not chosen, and as means with scales of 0, weights of one seed give one answer."""
    x = np.random.default_rng(0).normal(size=(2, 64)).astype("float32")
    all_of_them, one = (without_scales(build(name, bayesian=which)) for which in ("all", ["output"]))
    np.testing.assert_allclose(all_of_them(x), one(x), atol=1e-5)


@pytest.mark.parametrize("name", ["lenet5", "attention", "wide_deep"])
def test_copies_of_a_network_begin_apart_and_layers_of_one_shape_too(name):
    """As an ensemble copies it: by the seeds of its description."""
    first, second = (tfbnn.layers.convert.as_points(build(name), seed) for seed in (1, 2))
    kernels = [weight for weight in first.trainable_variables if weight.name == "kernel"]
    others = [weight for weight in second.trainable_variables if weight.name == "kernel"]
    assert not any(np.array_equal(one, two) for one, two in zip(kernels, others, strict=True))
    for i, one in enumerate(kernels):
        assert not any(np.array_equal(one, two) for two in kernels[i + 1 :] if one.shape == two.shape)


def test_layers_by_name_and_a_name_that_none_has():
    assert bayesian(build("lenet5", bayesian=["conv_0", "dense_1"])) == ["conv_0", "dense_1"]
    with refuses("`model.bayesian`", "'conv_9'", "Did you mean 'conv_"):
        build("lenet5", bayesian=["conv_9"])
    with refuses("`model.bayesian`", "'normalised'"):
        build("attention", bayesian=["normalised"])


@pytest.mark.parametrize("name", ["lenet5", "lstm", "attention", "wide_deep"])
def test_prior_posterior_and_estimator_reach_every_kernel(name):
    posterior = {"class": "MeanField", "initial_rho": -2.5}
    network = build(name, estimator="reparameterization", prior={"class": "Normal", "scale": 0.25}, posterior=posterior)
    for layer in (network.get_layer(one) for one in bayesian(network)):
        assert type(layer).__name__.endswith("Reparameterization") or isinstance(layer, tfbnn.layers.Variational)
        for term in layer.weight_terms:
            np.testing.assert_allclose(term.p.distribution().stddev(), 0.25)
            np.testing.assert_allclose(term.q.factorised_gaussian[1], np.log1p(np.exp(-2.5)), rtol=1e-6)


# --- each -------------------------------------------------------------------------------------------------------------


def test_lenet5_of_28_x_28_pixels_has_as_many_weights_as_its_paper_counts_in_full():
    network = build("convnet", 784, 10, shape=[28, 28, 1], posterior="Deterministic")
    assert network.count_params() == 61_706
    assert network.get_layer("flat").output.shape == (None, 400)


def test_twin_of_8_x_8_pixels_its_second_convolution_pads():
    network = build("convnet", 64, 10, shape=[8, 8, 1], posterior="Deterministic")
    assert network.get_layer("flat").output.shape == (None, 64)
    assert network.get_layer("conv_1").kernel_posterior_fn == tfbnn.posteriors.Deterministic()


def test_pixels_come_row_by_row_and_channels_fastest():
    network = build("convnet", 4 * 5 * 2, shape=[4, 5, 2])
    places = keras.Model(network.input, network.get_layer("places").output)
    x = np.arange(40, dtype="float32")
    np.testing.assert_array_equal(places(x[None])[0], x.reshape(4, 5, 2))


def test_a_resnet_has_three_stages_of_twice_the_filters():
    network = build("resnet", blocks=2)
    sums = [layer.output.shape[1:] for layer in network.layers if isinstance(layer, keras.layers.Add)]
    assert sums == [(8, 8, 4), (8, 8, 4), (4, 4, 8), (4, 4, 8), (2, 2, 16), (2, 2, 16)]
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)


def test_both_directions_of_a_sequence_begin_differently():
    layer = build("gru").get_layer("recurrent_0").layer
    on, back = (np.asarray(each.cell.kernel) for each in (layer.forward_layer, layer.backward_layer))
    assert not np.array_equal(on, back)
    assert (layer.forward_layer.go_backwards, layer.backward_layer.go_backwards) == (False, True)


def test_a_recurrent_layer_has_one_draw_for_all_steps():
    """A sequence of equal steps by a cell without memory of its start would else wander."""
    network = build("recurrent", 8, steps=8, units=[3], cell="gru", bayesian=["recurrent_0"])
    assert isinstance(network.get_layer("recurrent_0"), tfbnn.layers.Variational)
    assert [term.q.name for term in network.get_layer("recurrent_0").weight_terms] == [
        "kernel",
        "recurrent_kernel",
        "bias",
    ]


def test_attention_is_that_of_keras_with_the_same_weights():
    network = without_scales(build("attention"))
    width, heads = 8, 2
    x = np.random.default_rng(0).normal(size=(2, 8, width)).astype("float32")
    layer = keras.layers.MultiHeadAttention(heads, width // heads)
    layer.build(x.shape, x.shape)
    for role, theirs in (("query", layer.query_dense), ("key", layer.key_dense), ("value", layer.value_dense)):
        kernel = network.get_layer(f"block_0_attention_{role}").weight_posteriors[0].loc
        theirs.kernel.assign(tf.reshape(kernel, theirs.kernel.shape))
    kernel = network.get_layer("block_0_attention_output").weight_posteriors[0].loc
    layer.output_dense.kernel.assign(tf.reshape(kernel, layer.output_dense.kernel.shape))
    inputs = network.get_layer("block_0_attention_normalised").output
    part = keras.Model(inputs, network.get_layer("block_0_attention_output").output)
    np.testing.assert_allclose(part(x), layer(x, x), atol=1e-6)


def test_learned_positions_are_one_a_step_and_unit():
    kernel, bias = (term.q.loc for term in build("attention").get_layer("embedding").weight_terms)
    assert (tuple(kernel.shape), tuple(bias.shape)) == ((8, 8), (8, 8))


def test_of_dropout_one_mask_serves_all_steps_of_a_row():
    network = build("dropout", rate=0.5)
    masks = [layer.name.removesuffix("_mask") for layer in network.layers if isinstance(layer, tfbnn.layers.MCDropout)]
    assert set(masks) == set(with_kernels(network)) - {"embedding"}
    dropped = network.get_layer("block_0_attention_query_mask")(tf.ones([6, 8, 8]))
    assert set(np.unique(dropped)) == {0.0, 2.0}
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[:, :1], dropped.shape))
    assert len({row.tobytes() for row in np.asarray(dropped[:, 0])}) > 1
    roles = [network.get_layer(f"block_0_attention_{role}_mask") for role in ("query", "key", "value")]
    assert len({layer.seed for layer in roles}) == 3


def test_of_dropout_the_prior_of_a_kernel_behind_a_mask_is_that_of_its_mean():
    """E -log p(W) = (M - (1 - rate) m)^2 / (2 (1 - rate) s^2) and a constant, as MonteCarloDropout has it."""
    network = build("dropout", rate=0.2, prior={"class": "Normal", "scale": 0.5})
    for name in with_kernels(network):
        layer = network.get_layer(name)
        expected = 0.5 * (1.0 if name == "embedding" else np.sqrt(0.8))
        assert layer.kernel_prior_fn.scale == pytest.approx(expected)
        assert layer.bias_prior_fn.scale == 0.5


def test_wide_and_deep_are_added():
    network = without_scales(build("wide_deep"))
    x = np.random.default_rng(0).normal(size=(4, 64)).astype("float32")
    wide, deep = (keras.Model(network.input, network.get_layer(name).output) for name in ("wide", "output"))
    np.testing.assert_allclose(network(x), wide(x) + deep(x), atol=1e-6)
    kernel = network.get_layer("wide").weight_posteriors[0].loc
    np.testing.assert_allclose(wide(x), x @ kernel, atol=1e-5)
    assert len(network.get_layer("wide").weight_terms) == 1


def test_the_wide_part_has_a_prior_of_its_own_where_it_is_told():
    def scales(**options):
        network = build("wide_deep", prior={"class": "Normal", "scale": 0.2}, **options)
        return [float(network.get_layer(name).kernel_prior_fn.scale) for name in ("wide", "output", "hidden_0")]

    assert scales() == [0.2, 0.2, 0.2]
    assert scales(wide_prior={"class": "Normal", "scale": 0.7}) == [0.7, 0.2, 0.2]


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("lenet5", {"shape": [8, 9, 1]}, ["`model.shape`", "product is 64", "[8, 9, 1]", "Their product is 72"]),
        ("lenet5", {"shape": [8, 8]}, ["`model.shape`", "[height, width, channels]", "[8, 8]"]),
        ("lenet5", {"shape": [2, 32, 1]}, ["`model.shape`", "4 x 4"]),
        ("lenet5", {"shape": 64}, ["`model.shape`", "list"]),
        ("lenet5", {"shape": [8, "8", 1]}, ["`model.shape.1`", "integer"]),
        ("lenet5", {"architecture": "lenet"}, ["`model.architecture`", "'lenet'", "Did you mean 'lenet5'?"]),
        ("lenet5", {"filters": 8}, ["`model.filters`", "architecture: resnet", "Received: 8"]),
        ("lenet5", {"estimator": "flipuot"}, ["`model.estimator`", "Did you mean 'flipout'?"]),
        ("lenet5", {"activation": "rleu"}, ["`model.activation`", "Did you mean 'relu'?"]),
        ("lenet5", {"bayesian": []}, ["`model.bayesian`", "names of layers", "Received: []"]),
        ("lenet5", {"prior": None}, ["`model.prior`", "Received: None"]),
        ("lenet5", {"posterior": "FullCovariance"}, ["`model.posterior`", "MeanField", "reparameterization"]),
        ("lenet5", {"layer": "DenseFlipout"}, ["`model.layer`", "Known here", "estimator"]),
        ("recurrent", {}, ["`model.steps`", "no default"]),
        ("lstm", {"steps": 7}, ["`model.steps`", "divides 64", "Received: 7"]),
        ("lstm", {"steps": True}, ["`model.steps`", "integer"]),
        ("lstm", {"steps": 8.0}, ["`model.steps`", "integer"]),
        ("lstm", {"cell": "lstmm"}, ["`model.cell`", "Did you mean 'lstm'?"]),
        ("lstm", {"units": []}, ["`model.units`", "at least 1"]),
        ("attention", {"heads": 3}, ["`model.heads`", "divides width, 8", "Received: 3"]),
        ("attention", {"rate": 0.2}, ["`model.rate`", "uncertainty: dropout"]),
        ("attention", {"uncertainty": "drop"}, ["`model.uncertainty`", "Did you mean 'dropout'?"]),
        ("dropout", {"rate": 1.5}, ["`model.rate`", "between 0 and 1"]),
        ("dropout", {"posterior": "Radial"}, ["`model.posterior`", "points"]),
        ("dropout", {"prior": "Laplace"}, ["`model.prior`", "a Normal"]),
        ("wide_deep", {"wide_prior": "Norml"}, ["`model.wide_prior`", "Did you mean 'Normal'?"]),
        ("wide_deep", {"wide_prior": {"class": "Normal", "scale": -1}}, ["`model.wide_prior.scale`", "above 0"]),
        ("wide_deep", {"prior": {"class": "Normal", "scale": -1}}, ["`model.prior.scale`", "above 0"]),
        ("wide_deep", {"hidden": [0]}, ["`model.hidden.0`", "greater than 0"]),
    ],
)
def test_mistakes_are_told_by_their_path(name, options, parts):
    with refuses(*parts):
        build(name, **options)
