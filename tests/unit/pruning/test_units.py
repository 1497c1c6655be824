"""Hidden units that are removed."""

import os

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn import layers, posteriors, priors
from tfbnn.core.checks import InvalidInput
from tfbnn.pruning import prune, prune_units

RNG = np.random.default_rng(2)
X = RNG.normal(size=(8, 3)).astype("f")
CERTAIN = -200.0  # softplus is exactly 0: draws are the means


def model_of(stack, rho=CERTAIN):
    network = keras.Sequential([keras.Input((3,)), *stack])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=0.3), num_data=8, seed=3, num_samples=4)
    for layer in model.variational_layers:
        for q in layer.weight_posteriors:
            q.loc.assign(RNG.normal(size=q.shape))
            q.rho.assign(np.full(q.shape, rho))
    return model


def mlp(kind=layers.DenseFlipout, **kwargs):
    first, second = kind(6, activation="tanh", name="first", **kwargs), kind(4, name="second", **kwargs)
    last = kind(1, name="last", **kwargs)
    return [first, keras.layers.Dropout(0.1), second, keras.layers.Activation("relu"), last]


def silence(layer, units):
    """Outgoing weights of these units of the layer before become exactly 0."""
    loc = layer.weight_posteriors[0].loc
    loc.assign(np.where(np.isin(np.arange(loc.shape[0]), units)[:, None], 0.0, loc.numpy()))


@pytest.mark.parametrize("kind", [layers.DenseFlipout, layers.DenseVariational])
def test_units_without_outgoing_signal_are_not_missed(kind):
    model = model_of(mlp(kind), rho=-3.0)
    silence(model.network.layers[2], [0, 2, 5])
    silence(model.network.layers[4], [1, 3])
    smaller = prune_units(model, 0.5)
    shapes = [q.shape for layer in smaller.variational_layers for q in layer.weight_posteriors if q.name != "bias"]
    joint = kind is layers.DenseVariational
    assert shapes == [(3 + joint, 3), (3 + joint, 2), (2 + joint, 1)]
    for each in (model, smaller):  # without noise, so that nothing but the means counts
        for layer in each.variational_layers:
            for q in layer.weight_posteriors:
                q.rho.assign(np.full(q.shape, CERTAIN))
    np.testing.assert_allclose(smaller.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6)
    other = prune_units(model, 0.8)  # twin: units that matter
    assert np.abs(other.predict(X, verbose=0) - model.predict(X, verbose=0)).max() > 0.01


def test_what_is_left_keeps_mean_scale_mask_and_prior():
    prior = priors.Normal(RNG.normal(size=(3, 6)), RNG.uniform(0.5, 1, size=(3, 6)))
    stack = [layers.DenseReparameterization(6, kernel_prior_fn=prior), layers.DenseReparameterization(1)]
    model = prune(model_of(stack, rho=-3.0), 0.2)
    first, last = model.variational_layers
    loc, scale = (part.numpy() for part in last.weight_posteriors[0].factorised_gaussian)
    kept = np.sort(np.argsort(np.divide(loc, scale, out=0 * loc, where=scale > 0)[:, 0] ** 2)[3:])
    smaller = prune_units(model, 0.5).variational_layers[0]
    term, before = smaller.weight_terms[0], first.weight_terms[0]
    for part, whole in zip(term.q.factorised_gaussian, before.q.factorised_gaussian, strict=True):
        np.testing.assert_allclose(part, whole.numpy()[:, kept], rtol=1e-6)  # softplus of few numbers and of many
    np.testing.assert_array_equal(term.q.kept, before.q.kept.numpy()[:, kept])
    np.testing.assert_array_equal(smaller.kernel_prior_fn.loc, prior.loc[:, kept])
    np.testing.assert_array_equal(smaller.kernel_prior_fn.scale, prior.scale[:, kept])


def test_what_a_prior_has_of_each_input_goes_with_the_input():
    prior = priors.HierarchicalNormal(each="input")
    dense = [layers.DenseReparameterization(units, kernel_prior_fn=prior) for units in (6, 2)]
    model = model_of(dense, rho=-3.0)
    last = model.variational_layers[1]
    last.weight_terms[0].p.loc.assign(np.arange(6)[:, None])
    silence(last, [0, 3, 4])
    smaller = prune_units(model, 0.5).variational_layers[1]
    np.testing.assert_array_equal(smaller.weight_terms[0].p.loc[:, 0], [1, 2, 5])
    assert smaller.weight_terms[0].q.shape == (3, 2)


def bias_in_the_kernel(units):
    return layers.DenseVariational(units, "MeanField", "Normal")


@pytest.mark.parametrize("dense", [layers.DenseFlipout, bias_in_the_kernel])
def test_by_incoming_weights_of_which_the_bias_is_none(dense):
    model = model_of([dense(4), dense(1)], rho=-3.0)
    first = model.variational_layers[0]
    loc = first.weight_posteriors[0].loc
    loc.assign(loc.numpy() * np.array([1e-3, 1.0, 1e-3, 1.0]))
    bias = np.array([9.0, 0.0, 9.0, 0.0])
    if dense is bias_in_the_kernel:
        loc.assign(np.vstack([loc.numpy()[:-1], bias]))
    else:
        first.weight_posteriors[1].loc.assign(bias)
    left = prune_units(model, 0.5, by="incoming").variational_layers[0].weight_posteriors[0].loc
    np.testing.assert_array_equal(left, loc.numpy()[:, [1, 3]])


def test_a_functional_chain_is_a_chain():
    inputs = keras.Input((3,))
    outputs = inputs
    for layer in mlp():
        outputs = layer(outputs)
    model = tfbnn.BayesianModel(keras.Model(inputs, outputs), "Normal", num_data=8, seed=3)
    assert [layer.units for layer in prune_units(model, 0.5).variational_layers] == [3, 2, 1]


def test_the_export_is_smaller_and_answers_as_the_model(tmp_path):
    model = model_of([layers.DenseFlipout(200, "relu"), layers.DenseFlipout(100, "relu"), layers.DenseFlipout(1)], -3.0)
    smaller = prune_units(model, 0.5)
    assert smaller.network.count_params() < 0.3 * model.network.count_params()
    paths = [tfbnn.export_saved_model(m, tmp_path / name, 5) for m, name in ((model, "model"), (smaller, "smaller"))]
    sizes = [os.path.getsize(f"{path}/variables/variables.data-00000-of-00001") for path in paths]
    assert sizes[1] < 0.35 * sizes[0]
    mean = tfbnn.load_saved_model(paths[1]).predict(X)["mean"]
    np.testing.assert_allclose(mean, smaller.predict_distribution(X, 5).mean, rtol=1e-4, atol=1e-5)


def test_compiled_as_before():
    model = model_of(mlp())
    model.compile(keras.optimizers.Adam(0.02))
    assert float(prune_units(model, 0.5).optimizer.learning_rate) == pytest.approx(0.02)


def branched():
    inputs = keras.Input((3,))
    hidden = layers.DenseFlipout(3)(inputs)
    return keras.Model(inputs, layers.DenseFlipout(1)(keras.layers.Add()([inputs, hidden])))


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (branched, "joins or branches"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.DenseFlipout(4), keras.layers.Dense(1)]), "a Dense"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.DenseFlipout(1), keras.layers.ReLU()]), "at its end"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.DenseFlipout(1)]), "a hidden layer"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.DenseVariational(2, "FullCovariance"),
                                   layers.DenseFlipout(1)]), "factorised Gaussian"),
    ],
)  # fmt: skip
def test_networks_whose_units_cannot_be_cut_are_told(network, told):
    with pytest.raises(InvalidInput, match=told):
        prune_units(tfbnn.BayesianModel(network(), "Normal", seed=1), 0.5)


@pytest.mark.parametrize("arguments", [{"share": 1.0}, {"share": -0.1}, {"share": 0.5, "by": "size"}])
def test_shares_and_sides_that_are_none_are_refused(arguments):
    with pytest.raises(InvalidInput, match=r"`share`|`by`"):
        prune_units(model_of(mlp()), **arguments)


def test_one_unit_is_left():
    stack = [layers.DenseFlipout(3, kernel_posterior_fn=posteriors.MeanField()), layers.DenseFlipout(1)]
    assert prune_units(model_of(stack), 0.99).variational_layers[0].units == 1
