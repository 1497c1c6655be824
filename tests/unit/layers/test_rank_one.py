"""Rank-one factors around a kernel: each member is a plain layer, all layers have one member, the KL, the moments."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, Tape, noise_scope, seed_pair
from tfbnn.layers import BatchEnsemble, RankOne

RNG = np.random.default_rng(0)
M = 3
# A layer of each kind, and the shape of a row.
KINDS = {
    "Dense": (lambda: keras.layers.Dense(4, "tanh"), (5,)),
    "Dense of positions": (lambda: keras.layers.Dense(4, "tanh"), (2, 5)),
    "no bias": (lambda: keras.layers.Dense(4, use_bias=False), (5,)),
    "Conv1D": (lambda: keras.layers.Conv1D(4, 2, padding="causal", dilation_rate=2, activation="relu"), (6, 2)),
    "Conv2D": (lambda: keras.layers.Conv2D(4, 2, strides=2, groups=2, padding="same"), (5, 4, 2)),
    "Conv3D": (lambda: keras.layers.Conv3D(2, 2), (3, 3, 3, 2)),
}


def made(kind, cls=BatchEnsemble, rows=7, **arguments):
    """The layer, built, with all its weights away from where they begin, and inputs."""
    make, shape = KINDS[kind]
    layer = cls(make(), M, seed=1, **arguments)
    x = RNG.standard_normal((rows, *shape)).astype("f")
    layer(x)
    for variable in layer.trainable_variables:
        variable.assign_add(0.3 * RNG.standard_normal(variable.shape))
    return layer, x


def with_weights(kind, x, kernel, bias):
    """What the plain layer makes of x with these weights."""
    plain = KINDS[kind][0]()
    plain(x)
    plain.set_weights([kernel] if bias is None else [kernel, bias])
    return plain(x).numpy()


def around(kernel, r, s, groups=1):
    """W * r s^T: entries of the kernel times r of their input and s of their output; of groups each its own inputs."""
    if groups == 1:
        return kernel * np.outer(r, s)
    inputs, outputs = np.split(r, groups), np.split(s, groups)
    scaled = np.split(kernel, groups, axis=-1)
    parts = [k * np.outer(i, o) for k, i, o in zip(scaled, inputs, outputs, strict=True)]
    return np.concatenate(parts, axis=-1)


def of_member(kind, layer, x, k):
    kernel, r, s = (np.asarray(part) for part in (layer.kernel, layer.r, layer.s))
    groups = getattr(layer.layer, "groups", 1)
    bias = None if layer.bias is None else np.asarray(layer.bias)[k]
    return with_weights(kind, x, around(kernel, r[k], s[k], groups), bias)


def draw(layer, x, values, coupling="coherent"):
    with noise_scope(Tape({(0, name): value for name, value in values.items()}, [layer], lambda index: coupling)):
        return layer(x).numpy()


# --- BatchEnsemble ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_member_is_a_plain_layer_of_its_own_weights(kind):
    layer, x = made(kind)
    for k in range(M):
        found = draw(layer, x, {"member": tf.constant(k)})
        np.testing.assert_allclose(found, of_member(kind, layer, x, k), atol=2e-5)
        other = of_member(kind, layer, x, (k + 1) % M)
        assert np.abs(found - other).max() > 1e-2  # twin
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *found.shape[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_in_training_row_b_is_member_b_mod_m(kind):
    layer, x = made(kind)
    found = layer(x, training=True).numpy()
    expected = np.stack([of_member(kind, layer, x[b : b + 1], b % M)[0] for b in range(len(x))])
    np.testing.assert_allclose(found, expected, atol=2e-5)
    swapped = np.stack([of_member(kind, layer, x[b : b + 1], (b + 1) % M)[0] for b in range(len(x))])
    assert np.abs(found - swapped).max() > 1e-2  # twin


def two_layers(cls=BatchEnsemble):
    first, second = (keras.initializers.GlorotUniform(seed=seed) for seed in (1, 2))
    network = keras.Sequential(
        [keras.Input((3,)), cls(keras.layers.Dense(5, "tanh", kernel_initializer=first), M, seed=1),
         cls(keras.layers.Dense(1, kernel_initializer=second), M, seed=2)]
    )  # fmt: skip
    for variable in network.trainable_variables:
        variable.assign_add(0.3 * np.random.default_rng(1).standard_normal(variable.shape))
    return network


def model_of(network, **arguments):
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=1.0), num_data=toy.N, seed=0, **arguments)


def member_of_network(network, first, second):
    """The network of member `first` in the first layer and `second` in the other, by NumPy."""
    h = toy.X
    for layer, k in zip(network.layers, (first, second), strict=True):
        kernel, r, s, bias = (np.asarray(part) for part in (layer.kernel, layer.r, layer.s, layer.bias))
        h = np.asarray(layer.layer.activation(tf.constant(((h * r[k]) @ kernel) * s[k] + bias[k])))
    return h[:, 0]


@pytest.mark.parametrize("coupling", ["marginal", "coherent"])
def test_all_layers_of_a_draw_have_one_member_in_turn(coupling):
    network = two_layers()
    found = model_of(network).predict_distribution(toy.X, 25, coupling=coupling).parameters[..., 0]
    assert len(np.unique(found, axis=0)) == M  # M^2 where layers chose for themselves
    for i, values in enumerate(found):
        np.testing.assert_allclose(values, member_of_network(network, i % M, i % M), atol=1e-5)
    mixed = [member_of_network(network, a, b) for a in range(M) for b in range(M) if a != b]
    assert min(np.abs(found[0] - values).max() for values in mixed) > 1e-2  # twin


def test_as_many_draws_as_members_or_a_multiple_average_the_ensemble():
    network = two_layers()
    model = model_of(network)
    expected = np.mean([member_of_network(network, k, k) for k in range(M)], axis=0)
    for num_samples in (M, 4 * M):
        np.testing.assert_allclose(model.predict_distribution(toy.X, num_samples).mean[:, 0], expected, atol=1e-5)
    assert np.abs(model.predict_distribution(toy.X, M + 1).mean[:, 0] - expected).max() > 1e-3  # twin


def test_draws_have_prefixes_of_any_seed_and_a_row_alone_is_as_in_its_batch():
    model = model_of(two_layers())
    found = model.predict_distribution(toy.X, 25).parameters
    np.testing.assert_array_equal(model.predict_distribution(toy.X, 7).parameters, found[:7])
    np.testing.assert_array_equal(model.predict_distribution(toy.X, 25, seed=9).parameters, found)
    np.testing.assert_allclose(model.predict_distribution(toy.X[2:3], 25).parameters[:, 0], found[:, 2], rtol=1e-5)
    later = model.posterior_draws().apply(tf.constant(toy.X), 0, 8, 9)
    np.testing.assert_array_equal(later, found[8:17])


@pytest.mark.parametrize("cls", [BatchEnsemble, RankOne])
def test_saved_exported_and_loaded_it_answers_the_same(cls, tmp_path):
    model = model_of(two_layers(cls))
    expected = model.predict_distribution(toy.X, 2 * M)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict_distribution(toy.X, 2 * M).parameters, expected.parameters)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(model, tmp_path / "model", num_samples=2 * M))
    np.testing.assert_allclose(served.predict(toy.X)["mean"], expected.mean, atol=1e-6)


@pytest.mark.parametrize("cls", [BatchEnsemble, RankOne])
def test_training_by_fit_in_graph_and_of_many_models_moves_all_members(cls):
    models = [toy.model_of(two_layers(cls)) for _ in range(3)]
    before = [variable.numpy() for variable in models[0].trainable_variables]
    alone = toy.train(models[0])
    together = tfbnn.train_many(models[1:], (toy.X, toy.Y), epochs=2, batch_size=8, verbose=0, jit_compile=False)
    for variable, old in zip(models[0].trainable_variables, before, strict=True):
        assert np.abs(variable.numpy() - old).max(axis=-1).min() > 0
    assert alone["loss"] == pytest.approx(list(together[0].history["loss"]), rel=1e-4)
    assert ("penalty" in alone) == (cls is RankOne)
    by_fit = toy.model_of(two_layers(cls)).fit(toy.X, toy.Y, verbose=0).history
    assert np.isfinite(by_fit["loss"]).all()


def test_signs_or_numbers_about_one_are_where_members_begin():
    x = np.ones((2, 200), "f")
    for initial in ("signs", "normal"):
        layer = BatchEnsemble(keras.layers.Dense(200), 4, initial, seed=1)
        layer(x)
        r, s = layer.r.numpy(), layer.s.numpy()
        assert np.abs(r - s).max() > 0.1
        if initial == "signs":
            assert set(np.unique([r, s])) == {-1.0, 1.0}
            assert abs(r.mean()) < 5 / 800**0.5  # 800 signs: 5 standard errors
        else:
            assert r.mean() == pytest.approx(1.0, abs=5 * 0.5 / 800**0.5)
            assert r.std() == pytest.approx(0.5, abs=5 * 0.5 / 1600**0.5)


@pytest.mark.parametrize("cls", [BatchEnsemble, RankOne])
def test_a_layer_that_is_built_gives_its_weights_and_is_not_changed(cls):
    plain = keras.layers.Dense(4, "tanh")
    expected = plain(toy.X).numpy()
    layer = cls(plain, 2)
    layer(toy.X)
    for table in (layer.weight_posteriors[1].loc, layer.weight_posteriors[2].loc) if cls is RankOne else (
        layer.r, layer.s
    ):  # fmt: skip
        table.assign(tf.ones_like(table))
    values = {"member": tf.constant(1), "r": tf.zeros([1, 3]), "s": tf.zeros([1, 4])}
    np.testing.assert_allclose(draw(layer, toy.X, values), expected, atol=1e-6)
    layer.trainable_variables[0].assign_add(tf.ones([3, 4]))
    np.testing.assert_array_equal(plain(toy.X), expected)


def test_rows_that_are_folded_are_refused_in_training():
    inputs = keras.Input((2, 3))
    folded = BatchEnsemble(keras.layers.Dense(3), 2)(keras.ops.reshape(inputs, (-1, 3)))
    pooled = keras.ops.max(keras.ops.reshape(folded, (-1, 2, 3)), axis=1)
    network = keras.Model(inputs, BatchEnsemble(keras.layers.Dense(1), 2)(pooled))
    with pytest.raises(InvalidInput, match="the same rows"):
        toy.train(toy.model_of(network), np.ones((8, 2, 3), "float32"), toy.Y[:8])


@pytest.mark.parametrize("cls", [BatchEnsemble, RankOne])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda cls: cls(keras.layers.LSTM(3), 2), "`layer`.*LowRankAdapter"),
        (lambda cls: cls("dense", 2), "`layer`"),
        (lambda cls: cls(keras.layers.Conv2D(3, 2, data_format="channels_first"), 2), "channels last"),
        (lambda cls: cls(keras.layers.Dense(3), 2, initial="sign"), "`initial`.*'signs'"),
        (lambda cls: cls(keras.layers.Dense(3), 0), "1 or more"),
        (lambda cls: cls(keras.layers.Conv1D(3, 2), 2)(np.ones((2, 3), "f")), "`inputs`"),
        (lambda cls: cls(keras.layers.Dense(3), 2)(np.ones((2,), "f")), "`inputs`"),
        (lambda cls: RankOne(keras.layers.Dense(3), 2, prior_scale=0.0), "`prior_scale`"),
        (lambda cls: RankOne(keras.layers.Dense(3), 2, weight_scale=-1.0), "`weight_scale`"),
        (lambda cls: BatchEnsemble(keras.layers.Dense(3), 1), "the layer itself"),
    ],
)
def test_what_cannot_be_is_refused(cls, make, told):
    with pytest.raises(InvalidInput, match=told):
        make(cls)


# --- RankOne ----------------------------------------------------------------------------------------------------------


def tensors(layer):
    """Kernel; then means and scales of r and of s, [K, D] and [K, U]."""
    kernel, r, s = layer.weight_posteriors
    return [np.asarray(kernel.loc), *(np.asarray(part) for q in (r, s) for part in q.factorised_gaussian)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_is_a_plain_layer_of_the_weights_that_its_noise_gives(kind):
    layer, x = made(kind, RankOne)
    kernel, r_loc, r_scale, s_loc, s_scale = tensors(layer)
    eps_r, eps_s = (RNG.standard_normal((1, scale.shape[1])).astype("f") for scale in (r_scale, s_scale))
    groups, bias = getattr(layer.layer, "groups", 1), None if layer.bias is None else np.asarray(layer.bias)
    for k in range(M):
        r, s = (r_loc[k] + r_scale[k] * eps_r)[0], (s_loc[k] + s_scale[k] * eps_s)[0]
        expected = with_weights(kind, x, around(kernel, r, s, groups), bias)
        found = draw(layer, x, {"member": tf.constant(k), "r": eps_r, "s": eps_s})
        np.testing.assert_allclose(found, expected, atol=2e-5)
        twin = draw(layer, x, {"member": tf.constant(k), "r": -eps_r, "s": eps_s})
        assert np.abs(twin - expected).max() > 1e-3


@pytest.mark.parametrize("kind", ["Dense of positions", "Conv2D"])
def test_in_training_each_row_has_its_component_and_noise_of_its_own(kind):
    layer, x = made(kind, RankOne)
    kernel, r_loc, r_scale, s_loc, s_scale = tensors(layer)
    eps_r, eps_s = (RNG.standard_normal((len(x), scale.shape[1])).astype("f") for scale in (r_scale, s_scale))
    groups, bias = getattr(layer.layer, "groups", 1), np.asarray(layer.bias)
    found = draw(layer, x, {"r": eps_r, "s": eps_s}, coupling=None)
    for b in range(len(x)):
        r, s = r_loc[b % M] + r_scale[b % M] * eps_r[b], s_loc[b % M] + s_scale[b % M] * eps_s[b]
        expected = with_weights(kind, x[b : b + 1], around(kernel, r, s, groups), bias)[0]
        np.testing.assert_allclose(found[b], expected, atol=2e-5)


def test_equal_rows_differ_in_training_and_not_in_a_draw():
    network = keras.Sequential([keras.Input((3,)), RankOne(keras.layers.Dense(1), 1, initial_rho=0.0, seed=1)])
    model, x = model_of(network), np.ones((6, 3), "f")
    assert len(np.unique(model(x, training=True)[:, 0])) == 6
    found = model.predict_distribution(x, 8).parameters[..., 0]
    np.testing.assert_array_equal(found, np.repeat(found[:, :1], 6, axis=1))
    assert len(np.unique(found[:, 0])) == 8


def kl_of_normals(loc, scale, prior_scale):
    """sum KL(Normal(loc, scale^2) || Normal(1, prior_scale^2)), nats."""
    return np.sum(np.log(prior_scale / scale) + (scale**2 + (loc - 1) ** 2) / (2 * prior_scale**2) - 0.5)


def test_the_kl_is_the_mean_over_components_and_the_kernel_has_a_penalty():
    layer, _ = made("Dense", RankOne, prior_scale=0.4, weight_scale=0.7)
    kernel, *gaussians = (part.astype(np.float64) for part in tensors(layer))
    pairs = [gaussians[:2], gaussians[2:]]
    each = [sum(kl_of_normals(loc[k], scale[k], 0.4) for loc, scale in pairs) for k in range(M)]
    assert float(layer.kl_divergence()) == pytest.approx(np.mean(each), rel=1e-5)
    assert float(layer.kl_divergence()) != pytest.approx(np.sum(each), rel=1e-2)  # twin
    penalty = np.sum(0.5 * (kernel / 0.7) ** 2 + np.log(0.7) + 0.5 * np.log(2 * np.pi))
    assert float(layer.penalty()) == pytest.approx(penalty, rel=1e-5)


def test_the_kl_is_above_that_of_the_mixture_by_log_k_at_most():
    """Of one number: KL(q || p) by quadrature, for components near each other and far apart."""
    grid = np.linspace(-8.0, 10.0, 200_001)

    def density(loc, scale):
        return np.exp(-0.5 * ((grid - loc) / scale) ** 2) / (scale * np.sqrt(2 * np.pi))

    for locs in ([1.0, 1.1], [0.0, 2.0], [-2.0, 4.0]):
        q, p = np.mean([density(loc, 0.3) for loc in locs], axis=0), density(1.0, 0.8)
        exact = np.sum(np.where(q > 0, q * np.log(np.maximum(q, 1e-300) / p), 0.0)) * (grid[1] - grid[0])
        bound = np.mean([kl_of_normals(loc, 0.3, 0.8) for loc in locs])
        assert exact - 1e-6 <= bound <= exact + np.log(2) + 1e-6
    assert bound == pytest.approx(exact + np.log(2), abs=1e-6)  # far apart


DRAWS = 3000


@pytest.fixture(scope="module")
def moments():
    """Mean and spread of each row's output in 3,000 draws, and of 3,000 networks with weights drawn by NumPy."""
    layer = RankOne(keras.layers.Dense(2), M, initial_rho=-1.0, seed=1)
    network = keras.Sequential([keras.Input((3,)), layer])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(scale=1.0, num_targets=2), num_data=toy.N, seed=2)
    found = model.predict_distribution(toy.X[:5], DRAWS).parameters[..., :2]
    return layer, found


def explicit(layer, factor=1.0):
    kernel, r_loc, r_scale, s_loc, s_scale = tensors(layer)
    rng, drawn = np.random.default_rng(3), []
    for i in range(DRAWS):
        k = i % M
        r = r_loc[k] + factor * r_scale[k] * rng.standard_normal(3)
        s = s_loc[k] + factor * s_scale[k] * rng.standard_normal(2)
        drawn.append(toy.X[:5] @ (kernel * np.outer(r, s)) + np.asarray(layer.bias))
    return np.array(drawn)


def moments_off(found, expected):
    """The largest distance of means and of spreads, in standard errors of the difference (kurtosis of a product: 6)."""
    error = np.sqrt(2 / DRAWS) * expected.std(0)
    spread = np.sqrt(6 / 2) * error
    apart = np.abs(found.mean(0) - expected.mean(0)) / error, np.abs(found.std(0) - expected.std(0)) / spread
    return max(part.max() for part in apart)


def test_draws_have_the_moments_of_weights_drawn_explicitly(moments):
    """20 statistics, 5 standard errors: a false alarm in one of 10^5 choices of seeds; a spread off by 20 % is seen."""
    layer, found = moments
    assert moments_off(found, explicit(layer)) < 5


def test_twin_weights_of_another_spread_are_told_apart(moments):
    layer, found = moments
    assert moments_off(found, explicit(layer, factor=2.0)) > 5


def test_another_seed_gives_other_noise_of_the_same_components():
    layer, x = made("Dense", RankOne)

    def drawn(seed):
        with noise_scope(Seeded(seed_pair(seed), [layer])):
            return layer(x).numpy()

    np.testing.assert_array_equal(drawn(0), drawn(0))
    assert np.abs(drawn(0) - drawn(1)).max() > 1e-3


def test_a_summary_tells_of_the_factors():
    from tfbnn.training.posterior_summary import posterior_summary

    table = posterior_summary(model_of(two_layers(RankOne)))
    assert table["weights"].tolist() == [M * (3 + 5), M * (5 + 1)]
    assert np.isfinite(table["kl"]).all()
