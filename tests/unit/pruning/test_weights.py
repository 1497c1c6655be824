"""Signal-to-noise, weights that are removed, the table and its knee."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tfbnn
from tfbnn import layers, posteriors, priors
from tfbnn.core.checks import InvalidInput
from tfbnn.pruning import knee, prune, pruning_table, signal_to_noise
from toy import N, X, Y

RNG = np.random.default_rng(1)


def model_of(*stack, likelihood="Normal", compiled=False):
    """Means and scales all different, as after training."""
    network = keras.Sequential([keras.Input((3,)), *(stack or default_stack())])
    model = tfbnn.BayesianModel(network, likelihood, num_data=N, seed=3, num_samples=10)
    for layer in model.variational_layers:
        for q in layer.weight_posteriors:
            if q.factorised_gaussian is not None and not q.is_point:
                q.loc.assign(RNG.normal(size=q.shape))
                q.rho.assign(RNG.uniform(-3, 0, size=q.shape))
    if compiled:
        model.compile(keras.optimizers.Adam(0.05))
    return model


def default_stack(**kwargs):
    return [layers.DenseReparameterization(4, "tanh", name="hidden", **kwargs), layers.DenseFlipout(1, name="output")]


def drawn(model, name="kernel", layer=0):
    """The tensor of many draws, [100, *shape]."""
    q = next(q for q in model.variational_layers[layer].weight_posteriors if q.name == name)
    eps = tf.constant(np.random.default_rng(0).normal(size=(100, *q.shape)), tf.float32)
    return np.stack([q.transform(noise).numpy() for noise in eps])


def test_signal_to_noise_is_mean_over_standard_deviation():
    model = model_of()
    ratios = signal_to_noise(model)
    assert list(ratios) == ["hidden/kernel", "hidden/bias", "output/kernel", "output/bias"]
    q = model.variational_layers[0].weight_posteriors[0]
    scale = np.log1p(np.exp(q.rho.numpy()))
    np.testing.assert_allclose(ratios["hidden/kernel"], np.abs(q.loc.numpy()) / scale, rtol=1e-5)
    q.loc.assign(10 * scale)
    np.testing.assert_allclose(signal_to_noise(model, decibels=True)["hidden/kernel"], 20.0, rtol=1e-5)
    q.loc.assign(tf.zeros([3, 4]))
    assert (signal_to_noise(model, decibels=True)["hidden/kernel"] == -np.inf).all()


def test_the_share_is_exactly_zero_in_every_draw_and_the_rest_is_as_before():
    model = model_of()
    pruned = prune(model, 0.5)  # 8 of 12 + 4
    zero = {name: drawn(pruned, layer=layer) == 0 for layer, name in enumerate(["hidden/kernel", "output/kernel"])}
    assert all((mask.all(axis=0) == mask.any(axis=0)).all() for mask in zero.values())
    assert sum(mask[0].sum() for mask in zero.values()) == 8
    ratios = signal_to_noise(model)
    largest_removed = max(ratios[name][mask[0]].max(initial=0) for name, mask in zero.items())
    assert largest_removed < min(ratios[name][~mask[0]].min(initial=np.inf) for name, mask in zero.items())
    left = ~zero["hidden/kernel"][0]
    np.testing.assert_array_equal(drawn(pruned)[:, left], drawn(model)[:, left])
    np.testing.assert_array_equal(drawn(pruned, "bias"), drawn(model, "bias"))


def test_a_layer_at_a_time_takes_the_share_of_each():
    pruned = prune(model_of(), 0.5, over="layer")
    assert [int((drawn(pruned, layer=i)[0] == 0).sum()) for i in (0, 1)] == [6, 2]


def test_biases_go_where_told():
    model = model_of(layers.DenseVariational(2, make_posterior_fn="MeanField"), layers.DenseFlipout(1))
    assert (drawn(prune(model, 0.8), "weights")[0, -1] != 0).all()
    ratios = signal_to_noise(prune(model, 0.8, biases=True))
    assert sum(int((ratio == 0).sum()) for ratio in ratios.values()) == 8  # of 8 + 3


def test_nothing_removed_is_the_model_itself():
    model = model_of()
    same = prune(model, 0.0)
    np.testing.assert_array_equal(same.predict(X, verbose=0), model.predict(X, verbose=0))
    np.testing.assert_allclose(same.kl_divergence(), model.kl_divergence(), rtol=1e-6)
    assert not np.array_equal(prune(model, 0.5).predict(X, verbose=0), model.predict(X, verbose=0))  # twin


def test_pruning_again_counts_what_is_removed():
    model = model_of()
    twice, once = prune(prune(model, 0.25), 0.5), prune(model, 0.5)
    for name, ratio in signal_to_noise(twice).items():
        np.testing.assert_array_equal(ratio, signal_to_noise(once)[name])


@pytest.mark.parametrize("prior", [priors.Normal(0.1, 0.7), priors.EmpiricalBayesNormal(), priors.Normal([0.1] * 4)])
def test_kl_sums_over_what_is_left(prior):
    model = model_of(*default_stack(kernel_prior_fn=prior))
    pruned = prune(model, 0.75, over="layer")
    q, p = (term.distribution().distribution for term in (model.variational_layers[0].weight_terms[0].q,
            model.variational_layers[0].weight_terms[0].p))  # fmt: skip
    left = signal_to_noise(pruned)["hidden/kernel"] > 0
    expected = q.kl_divergence(p).numpy()[left].sum()
    np.testing.assert_allclose(pruned.variational_layers[0].weight_terms[0].kl(None), expected, rtol=1e-5)


def test_a_kl_by_monte_carlo_sums_over_what_is_left():
    """With q = p where something is left, each draw of log q - log p is 0; with all weights it is not."""
    mixture = priors.ScaleMixture(0.5, 1.0, 1.0)
    model = model_of(layers.DenseReparameterization(4, kernel_prior_fn=mixture), layers.DenseFlipout(1))
    q = model.variational_layers[0].weight_posteriors[0]
    loc = np.zeros((3, 4))
    loc[0] = 1e-3  # the others have no signal at all
    q.loc.assign(loc)
    q.rho.assign(np.where(loc, np.log(np.e - 1), -3.0))  # scale 1, the prior's
    kl_of = [m.variational_layers[0].weight_terms[0].kl for m in (prune(model, 8 / 12, over="layer"), model)]
    noise = model.variational_layers[0]._noise()
    assert abs(float(kl_of[0](noise))) < 0.05 < float(kl_of[1](noise))


def test_what_is_removed_stays_removed_in_training():
    model = prune(model_of(compiled=True), 0.5)
    before = {name: ratio == 0 for name, ratio in signal_to_noise(model).items()}
    tfbnn.train(model, X, Y, epochs=2, batch_size=8, verbose=0, jit_compile=False)
    for name, ratio in signal_to_noise(model).items():
        np.testing.assert_array_equal(ratio == 0, before[name])


@pytest.mark.slow
def test_saved_and_exported_it_gives_the_same_numbers(tmp_path):
    model = prune(model_of(likelihood=tfbnn.likelihoods.Normal().adapt(Y)), 0.5)
    model.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    path = tfbnn.export_saved_model(model, tmp_path / "pruned", num_samples=10)
    np.testing.assert_allclose(tfbnn.load_saved_model(path).predict(X)["mean"], model.predict(X, verbose=0), rtol=1e-5)
    for name, ratio in signal_to_noise(loaded).items():
        np.testing.assert_array_equal(ratio, signal_to_noise(model)[name])


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_scores_what_prune_gives():
    model = model_of()
    table = pruning_table(model, X, Y, shares=(0.5, 0.0), num_samples=20)
    assert list(table.columns) == ["share", "weights_left", "log_likelihood", "error"]
    assert list(table["weights_left"]) == [13, 21]
    prediction = prune(model, 0.5).predict_distribution(X, 20)
    np.testing.assert_allclose(table["log_likelihood"][0], prediction.log_prob(Y).mean(), rtol=1e-5)
    np.testing.assert_allclose(table["error"][0], np.sqrt(np.mean((prediction.mean[:, 0] - Y) ** 2)), rtol=1e-5)


def test_the_error_of_classes_is_the_share_that_is_wrong():
    model = model_of(layers.DenseFlipout(1), likelihood="Bernoulli")
    labels = (Y > 0).astype(int)
    wrong = model.predict_distribution(X, 50).probabilities.argmax(axis=1) != labels
    assert pruning_table(model, X, labels, (0.0,), 50)["error"][0] == wrong.mean()


TABLE = pd.DataFrame({"share": [0.0, 0.9, 0.5, 0.99], "error": [0.10, 0.11, 0.09, 0.4],
                      "log_likelihood": [-0.5, -0.6, -0.4, -2.0]})  # fmt: skip


@pytest.mark.parametrize(
    ("tolerance", "score", "share"),
    [(0.0, "error", 0.5), (0.01, "error", 0.9), (1.0, "error", 0.99), (0.05, "log_likelihood", 0.5),
     (0.1, "log_likelihood", 0.9)],
)  # fmt: skip
def test_knee(tolerance, score, share):
    assert knee(TABLE, tolerance, score) == share


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, -0.1, 95, float("nan"), None, True, "half"])
def test_shares_that_are_none_are_refused(share):
    with pytest.raises(InvalidInput, match=r"`share`.*Expected a"):
        prune(model_of(), share)
    with pytest.raises(InvalidInput, match="`shares`"):
        pruning_table(model_of(), X, Y, [share])


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (lambda: layers.DenseVariational(1, "FullCovariance", name="last"), "weights of layer last"),
        (lambda: layers.DenseFlipout(1, bias_posterior_fn="Deterministic", name="last"), "bias of layer last.*a point"),
        (lambda: keras.layers.Dense(1), "layers have a posterior"),
    ],
)
def test_posteriors_that_have_no_signal_to_noise_are_refused_by_name(layer, told):
    with pytest.raises(InvalidInput, match=told):
        prune(model_of(layer()), 0.5)


def test_what_is_no_model_is_refused():
    with pytest.raises(InvalidInput, match="a BayesianModel"):
        signal_to_noise(keras.Sequential([layers.DenseFlipout(1)]))
    with pytest.raises(InvalidInput, match="built network"):
        signal_to_noise(tfbnn.BayesianModel(keras.Sequential([layers.DenseFlipout(1)]), "Normal"))


@pytest.mark.parametrize("arguments", [(TABLE, -0.1), (TABLE, 0.1, "rmse"), (TABLE[:0], 0.1), ([], 0.1)])
def test_knees_of_nothing_are_refused(arguments):
    with pytest.raises(InvalidInput):
        knee(*arguments)


def test_pruned_wants_an_object_of_gaussians():
    with pytest.raises(InvalidInput, match="`posterior`"):
        posteriors.Pruned("MeanField")
    with pytest.raises(InvalidInput, match="`make_posterior_fn`"):
        layers.DenseVariational(1, posteriors.Pruned(posteriors.FullCovariance())).build((None, 3))
