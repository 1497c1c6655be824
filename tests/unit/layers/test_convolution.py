"""Convolutions: points equal Keras' layers, estimators against explicit draws, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn import layers
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, noise_scope, seed_pair

RNG = np.random.default_rng(0)
ESTIMATORS = ("Reparameterization", "LocalReparameterization", "Flipout")
OPS = ("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D", "Conv1DTranspose", "Conv2DTranspose",
       "Conv3DTranspose")  # fmt: skip
WINDOWS = {
    "plain": {},
    "strides": {"strides": 2, "padding": "same"},
    "dilation": {"dilation_rate": 2},
    "no bias": {"use_bias": False, "activation": "tanh"},
}
OF_CONV = {
    "groups": ("Conv2D", {"groups": 2}),
    "groups of 1 axis": ("Conv1D", {"groups": 2}),
    "groups of 3 axes": ("Conv3D", {"groups": 2}),
    "causal": ("Conv1D", {"padding": "causal", "dilation_rate": 2}),
    "windows of each axis": ("Conv2D", {"kernel_size": (1, 3), "strides": (2, 1)}),
    "depth": ("DepthwiseConv2D", {"depth_multiplier": 3}),
    "output padding": ("Conv2DTranspose", {"strides": 2, "padding": "same", "output_padding": 1}),
}
CASES = [(op, arguments) for op in OPS for arguments in WINDOWS.values()] + list(OF_CONV.values())


def rank_of(op):
    return int(op.replace("Transpose", "")[-2])


def arguments_of(op, arguments):
    """Arguments that Keras' layer and ours share, complete."""
    filters = {} if op.startswith("Depthwise") else {"filters": 4}
    return {**filters, "kernel_size": 3, **arguments}


def inputs(op, channels=2, rows=3, first=False):
    positions = [7, 8, 6][: rank_of(op)]
    return RNG.standard_normal([rows, channels, *positions] if first else [rows, *positions, channels]).astype("f")


def made(op, arguments=None, estimator="Reparameterization", **more):
    cls = getattr(layers, f"{op}{estimator}")
    return cls(**arguments_of(op, arguments or {}), kl_weight=0.0, seed=1, **more)


def weights_of(layer):
    return [q.factorised_gaussian[0].numpy() for q in layer.weight_posteriors]


# --- points -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "arguments"), CASES, ids=lambda part: str(part))
def test_points_are_keras_own_layer(op, arguments):
    points = {"kernel_posterior_fn": "Deterministic", "bias_posterior_fn": "Deterministic"}
    x = inputs(op)
    layer = made(op, arguments, **points)
    layer.build(x.shape)
    for q in layer.weight_posteriors:
        q.loc.assign(RNG.standard_normal(q.shape))
    plain = getattr(keras.layers, op)(**arguments_of(op, arguments))
    plain.build(x.shape)
    plain.set_weights(weights_of(layer))
    y = plain(x)
    np.testing.assert_allclose(layer(x), y, atol=2e-5)
    assert tuple(layer.compute_output_shape((None, *x.shape[1:]))) == (None, *y.shape[1:])
    described = type(layer).from_config(layer.get_config())
    assert described.get_config() == layer.get_config()


@pytest.mark.parametrize("op", ["Conv1D", "DepthwiseConv2D", "Conv2DTranspose", "Conv3D"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_channels_first_is_channels_last_turned(op, estimator):
    x = inputs(op, first=True)
    last = np.moveaxis(x, 1, -1)
    first, same = (made(op, {"data_format": name}, estimator) for name in ("channels_first", "channels_last"))
    for layer, given in ((first, x), (same, last)):
        layer.build(given.shape)
    turned = np.moveaxis(drawn(first, x, training=True), 1, -1)
    np.testing.assert_allclose(turned, drawn(same, last, training=True), atol=1e-5)
    assert first.compute_output_shape((None, *x.shape[1:]))[1] == turned.shape[-1]


# --- estimators -------------------------------------------------------------------------------------------------------


def drawn(layer, x, seed=0, training=False):
    with noise_scope(Seeded(seed_pair(seed), [layer])):
        return layer(x, training=training).numpy()


def moments(op, arguments, x, layer):
    """Mean and standard deviation of each output by the op on explicit weights: both are sums over the window."""
    pairs = [q.factorised_gaussian for q in layer.weight_posteriors]
    mean = layer._op([x, tf.ones([1] * x.ndim)], [loc for loc, _ in pairs])
    variance = layer._op([x**2, tf.ones([1] * x.ndim)], [scale**2 for _, scale in pairs])
    return mean.numpy(), np.sqrt(variance)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("Conv2D", {"groups": 2}),
        pytest.param("Conv1D", {"padding": "causal"}, marks=pytest.mark.slow),
        pytest.param("Conv3D", {}, marks=pytest.mark.slow),
        pytest.param("DepthwiseConv2D", {"depth_multiplier": 2}, marks=pytest.mark.slow),
        pytest.param("Conv2DTranspose", {"strides": 2}, marks=pytest.mark.slow),
    ],
)
def test_each_output_has_the_moments_of_explicit_draws(op, arguments, estimator):
    """z scores of 5,000 draws: means within 5 standard errors, standard deviations within 5 of theirs."""
    x = inputs(op, rows=2)
    layer = made(op, arguments, estimator)
    layer.build(x.shape)
    for q in layer.weight_posteriors:
        q.loc.assign(RNG.standard_normal(q.shape))
        q.rho.assign(RNG.uniform(-1, 1, q.shape))
    mean, stddev = moments(op, arguments, x, layer)
    seeds = tf.stack([seed_pair(i) for i in range(5000)])

    @tf.function
    def draws(seeds):
        def one(seed):
            with noise_scope(Seeded(seed, [layer])):
                return layer(x, training=True)

        return tf.map_fn(one, seeds, fn_output_signature=tf.float32)

    z = (draws(seeds).numpy() - mean) / stddev
    assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(5000)
    assert np.abs(z.std(axis=0) - 1).max() < 5 / np.sqrt(2 * 5000)


def correlation_over(layer, x, pick):
    """Of two outputs, over 400 draws."""
    pairs = np.array([pick(drawn(layer, x, seed, training=True)) for seed in range(400)])
    return np.corrcoef(pairs.T)[0, 1]


@pytest.mark.parametrize(
    ("estimator", "rows_share", "positions_share"),
    [("Reparameterization", True, True), ("Flipout", False, True), ("LocalReparameterization", False, False)],
)
def test_what_rows_and_positions_share(estimator, rows_share, positions_share):
    """Equal rows and equal positions: correlation 1 where one draw serves both, else 0 within 4 / sqrt(400)."""
    x = np.ones([2, 4, 1], "f")
    layer = made("Conv1D", {"filters": 1, "kernel_size": 1, "use_bias": False}, estimator)
    layer.build(x.shape)
    rows = correlation_over(layer, x, lambda y: [y[0, 0, 0], y[1, 0, 0]])
    positions = correlation_over(layer, x, lambda y: [y[0, 0, 0], y[0, 1, 0]])
    for found, shared in ((rows, rows_share), (positions, positions_share)):
        assert (found > 0.999) if shared else (abs(found) < 0.2)


def lenet(estimator="Flipout", seed=1):
    def conv(filters, number):
        cls = getattr(layers, f"Conv2D{estimator}")
        return cls(filters, 3, activation="relu", seed=seed + number)

    dense = getattr(layers, f"Dense{estimator}")
    return keras.Sequential(
        [keras.Input((8, 8, 1)), conv(3, 0), keras.layers.MaxPooling2D(2), conv(4, 1), keras.layers.Flatten(),
         dense(2, seed=seed + 2)]
    )  # fmt: skip


@pytest.mark.parametrize("coupling", ["marginal", "coherent"])
def test_predictions_are_of_networks_drawn_explicitly(coupling):
    """Marginally each row is, in distribution, coherently all rows are together, that of networks of drawn weights."""
    model = tfbnn.BayesianModel(lenet(), tfbnn.likelihoods.Normal(scale=1.0, num_targets=2), num_data=8, seed=2)
    for layer in model.variational_layers:
        for q in layer.weight_posteriors:
            q.rho.assign(tf.fill(q.shape, -1.5))
    x = RNG.standard_normal([4, 8, 8, 1]).astype("f")
    found = model.predict_distribution(x, 400, coupling=coupling).parameters[..., :2]
    explicit = explicit_draws(model, x, 400)
    for a, b in ((found.mean(0), explicit.mean(0)), (found.std(0), explicit.std(0))):
        assert np.abs(a - b).max() < 5 * np.sqrt(2 / 400) * explicit.std(0).max()
    flat = [draws.reshape(400, -1) for draws in (found, explicit)]
    between = [np.corrcoef(draws.T)[0, 2] for draws in flat]  # the first target of two rows
    if coupling == "coherent":
        assert abs(between[0] - between[1]) < 5 * np.sqrt(2 / 400)


def explicit_draws(model, x, count):
    """Outputs of `count` plain networks whose weights were drawn by NumPy."""
    plain = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3, activation="relu"), keras.layers.MaxPooling2D(2),
         keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(2)]
    )  # fmt: skip
    pairs = [q.factorised_gaussian for layer in model.variational_layers for q in layer.weight_posteriors]
    run, rng, found = tf.function(plain), np.random.default_rng(5), []
    for _ in range(count):
        plain.set_weights([loc + scale * rng.standard_normal(loc.shape) for loc, scale in pairs])
        found.append(run(x).numpy())
    return np.array(found)


def test_a_lenet_trains_is_saved_and_exported(tmp_path):
    y = RNG.integers(0, 2, 64)
    x = (RNG.standard_normal([64, 8, 8, 1]) + 2.0 * y[:, None, None, None]).astype("f")
    model = tfbnn.BayesianModel(lenet(), tfbnn.likelihoods.Categorical(2), seed=2)
    model.compile(keras.optimizers.Adam(0.02))
    history = tfbnn.train(model, x, y, epochs=20, batch_size=16, verbose=0).history
    assert history["log_likelihood"][-1] > 0.5 * history["log_likelihood"][0]
    expected = model.predict_distribution(x[:5], 20).parameters
    assert (expected.mean(0).argmax(1) == y[:5]).all()
    model.save(tmp_path / "lenet.keras")
    again = keras.saving.load_model(tmp_path / "lenet.keras")
    np.testing.assert_array_equal(again.predict_distribution(x[:5], 20).parameters, expected)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(model, tmp_path / "lenet", num_samples=20))
    p = model.predict_distribution(x[:5], 20).probabilities
    np.testing.assert_allclose(served.predict(x[:5])["probabilities"], p, atol=1e-6)


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: layers.Conv2DFlipout(4, (3, 3, 3)), "`kernel_size`.*2 of them"),
        (lambda: layers.Conv2DFlipout(4, 0), "`kernel_size`"),
        (lambda: layers.Conv2DFlipout(4, 3, padding="causal"), "`padding`"),
        (lambda: layers.Conv2DFlipout(4, 3, padding="sane"), "`padding`.*'same'"),
        (lambda: layers.Conv2DFlipout(4, 3, data_format="channels"), "`data_format`"),
        (lambda: layers.Conv2DFlipout(4, 3, strides=2, dilation_rate=2), "`dilation_rate`.*strides"),
        (lambda: layers.Conv2DFlipout(4, 3, groups=3), "`groups`.*4 filters"),
        (lambda: layers.Conv2DFlipout(4, 3, groups=2).build((None, 8, 8, 3)), "`groups`.*3 channels"),
        (lambda: layers.Conv2DFlipout(4, 3).build((None, 8, 8, None)), "`inputs`.*channels"),
        (lambda: layers.Conv2DFlipout(0, 3), "`filters`"),
        (lambda: layers.DepthwiseConv2DFlipout(3, depth_multiplier=0), "`depth_multiplier`"),
        (lambda: layers.Conv1DFlipout(2, 3, kernel_posterior_fn="FullCovariance").build((None, 8, 2)), "flipout"),
    ],
)
def test_arguments_that_cannot_be_are_refused(make, told):
    with pytest.raises(InvalidInput, match=told):
        make()


def test_inputs_of_another_rank_are_refused():
    layer = layers.Conv2DFlipout(4, 3)
    with pytest.raises(ValueError, match="ndim"):
        layer(np.ones([2, 8, 3], "f"))
