"""Dense layers: points equal Keras' Dense, who scales the KL, TFP's factories, what is refused, mixed precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from gaussian import plain_model, randomised, variable
from tfbnn import posteriors, priors
from tfbnn.core.checks import InvalidInput
from tfbnn.layers import DenseFlipout, DenseLocalReparameterization, DenseReparameterization, DenseVariational
from tfbnn.layers.base import kl_owned_by

tfd = tfp.distributions

SEPARATE = [DenseReparameterization, DenseLocalReparameterization, DenseFlipout]
LAYERS = [*SEPARATE, DenseVariational]
X = np.random.default_rng(0).standard_normal((8, 3)).astype("f")
Y = X[:, :1]


def made(cls, units=1, posterior="MeanField", prior="Normal", **arguments):
    """A layer of any class with the same posterior and prior for all its tensors."""
    if cls is DenseVariational:
        return cls(units, make_posterior_fn=posterior, make_prior_fn=prior, **arguments)
    factories = {f"{name}_posterior_fn": posterior for name in ("kernel", "bias")}
    factories |= {f"{name}_prior_fn": prior for name in ("kernel", "bias")}
    return cls(units, **factories, **arguments)


def with_weights(cls, kernel, bias, **arguments):
    """A Deterministic layer that has these weights."""
    layer = made(cls, kernel.shape[1], "Deterministic", use_bias=bias is not None, kl_weight=0, **arguments)
    layer.build((None, kernel.shape[0]))
    if cls is DenseVariational:
        rows = [kernel] if bias is None else [kernel, bias[None]]
        variable(layer, "weights_loc").assign(np.concatenate(rows))
        return layer
    variable(layer, "kernel_loc").assign(kernel)
    if bias is not None:
        variable(layer, "bias_loc").assign(bias)
    return layer


# --- points -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 3), (8, 4, 3)], ids=["rank 2", "rank 3"])
@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("cls", LAYERS)
def test_deterministic_equals_dense(cls, use_bias, shape):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype("f")
    plain = keras.layers.Dense(5, "tanh", use_bias=use_bias)
    plain.build(shape)
    weights = [rng.standard_normal(weight.shape).astype("f") for weight in plain.weights]
    plain.set_weights(weights)
    layer = with_weights(cls, weights[0], weights[1] if use_bias else None, activation="tanh")
    np.testing.assert_array_equal(layer(x), plain(x))
    np.testing.assert_array_equal(layer(x, training=True), plain(x))


@pytest.mark.parametrize("cls", LAYERS)
def test_a_point_with_a_prior_has_a_penalty_and_no_kl(cls):
    kernel, bias = np.array([[0.5], [-1.0]], np.float32), np.array([2.0], np.float32)
    layer = with_weights(cls, kernel, bias, prior=priors.Normal(0.1, 0.7))
    w = np.array([0.5, -1.0, 2.0])
    log_prior = (-0.5 * ((w - 0.1) / 0.7) ** 2 - np.log(0.7 * np.sqrt(2 * np.pi))).sum()
    np.testing.assert_allclose(layer.penalty(), -log_prior, rtol=1e-6)
    assert float(layer.kl_divergence()) == 0.0


@pytest.mark.parametrize("cls", LAYERS)
def test_a_point_without_a_prior_is_a_plain_weight(cls):
    layer = made(cls, 1, "Deterministic", None, kl_weight=0.5)
    layer(X)
    assert float(layer.penalty()) == float(layer.kl_divergence()) == sum(map(float, layer.losses)) == 0.0


@pytest.mark.parametrize("cls", LAYERS)
def test_a_distribution_has_a_kl_and_no_penalty(cls):
    layer = randomised(made(cls), (None, 3))
    assert float(layer.penalty()) == 0.0
    assert float(layer.kl_divergence()) > 0.1


# --- who scales the KL ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", LAYERS)
def test_in_a_plain_model_the_loss_gets_exactly_kl_weight_times_the_kl(cls):
    layer = made(cls, kl_weight=1 / 50)
    model = plain_model(layer)
    model(X, training=True)
    assert [float(loss) for loss in model.losses] == [float(layer.kl_weight * layer.kl_divergence())]


@pytest.mark.parametrize("cls", LAYERS)
def test_a_kl_weight_of_zero_adds_nothing(cls):
    model = plain_model(made(cls, kl_weight=0.0))
    model(X, training=True)
    assert model.losses == []
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("cls", LAYERS)
def test_a_plain_model_without_kl_weight_is_refused_before_a_step(cls):
    layer = made(cls, name="forgotten")
    model = plain_model(layer)
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(InvalidInput, match=r"kl_weight of layer forgotten(.|\n)*BayesianModel(.|\n)*kl_weight=1/N"):
        model.fit(X, Y, verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert int(model.optimizer.iterations) == 0


def test_a_frozen_layer_and_prediction_need_no_kl_weight():
    model = plain_model(DenseFlipout(1))
    model.predict(X, verbose=0)
    model(X, training=False)
    model.trainable = False
    model(X, training=True)


def test_under_an_owner_a_layer_adds_nothing_and_kl_weight_is_refused():
    silent, doubled = DenseFlipout(1), DenseFlipout(1, kl_weight=0.5, name="doubled")
    with kl_owned_by("BayesianModel m"):
        silent(X, training=True)
        assert silent.losses == []
        with pytest.raises(InvalidInput, match=r"doubled(.|\n)*BayesianModel m"):
            doubled(X, training=True)


def test_the_kl_of_a_layer_without_weights_is_refused_not_zero():
    with pytest.raises(InvalidInput, match="no weights yet"):
        DenseFlipout(1).kl_divergence()


@pytest.mark.parametrize("cls", SEPARATE)
def test_a_users_divergence_replaces_the_kl_of_its_tensor_alone(cls):
    layer = randomised(cls(2, kernel_divergence_fn=lambda q, p, ignored: tf.constant([1.0, 2.0])), (None, 3))
    bias = layer.weight_terms[1]
    expected = 3.0 + float(tfd.kl_divergence(bias.q.distribution(), bias.p.distribution()))
    np.testing.assert_allclose(layer.kl_divergence(), expected, rtol=1e-6)


# --- TFP's factories --------------------------------------------------------------------------------------------------

DEFAULT_POSTERIOR = tfp.layers.default_mean_field_normal_fn()
DEFAULT_PRIOR = tfp.layers.default_multivariate_normal_fn


def snapshot(dtype, shape, name, trainable, add_variable_fn):
    rho = add_variable_fn(name=name + "_rho", shape=shape, dtype=dtype, trainable=trainable)
    return tfd.Independent(tfd.Normal(tf.zeros(shape), tf.nn.softplus(rho)), len(shape))


def follows(dtype, shape, name, trainable, add_variable_fn):
    rho = add_variable_fn(name=name + "_rho", shape=shape, dtype=dtype, trainable=trainable)
    return tfd.Independent(tfd.Normal(tf.zeros(shape), tfp.util.DeferredTensor(rho, tf.nn.softplus)), len(shape))


def student(dtype, shape, name, trainable, add_variable_fn):
    loc = add_variable_fn(name=name + "_loc", shape=shape, dtype=dtype, trainable=trainable)
    return tfd.Independent(tfd.StudentT(5.0, loc, 0.1), len(shape))


@keras.saving.register_keras_serializable("test_dense")
def registered(dtype, shape, name, trainable, add_variable_fn):
    return follows(dtype, shape, name, trainable, add_variable_fn)


def empirical_bayes(dtype, shape, name, trainable, add_variable_fn):
    rho = add_variable_fn(name=name + "_rho", shape=(), dtype=dtype, trainable=trainable)
    scale = tfp.util.DeferredTensor(rho, tf.nn.softplus)
    return tfd.Independent(tfd.Normal(tf.zeros(shape), scale), len(shape))


def changed_by_training(layer, lazy=False):
    """Names of the weights without a gradient, and of those that three steps left as they were."""
    model = plain_model(layer) if not lazy else keras.Sequential([layer])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    if lazy:
        model.fit(X, Y, verbose=0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(X, training=True) - Y) ** 2) + sum(model.losses)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    named = list(zip(model.trainable_weights, gradients, strict=True))
    before = {weight.path: weight.numpy() for weight in model.trainable_weights}
    model.fit(X, Y, epochs=3, verbose=0)
    unmoved = [w.name for w in model.trainable_weights if (w.numpy() == before[w.path]).all()]
    return [weight.name for weight, gradient in named if gradient is None], unmoved


@pytest.mark.parametrize("lazy", [False, True], ids=["built before", "built by fit"])
@pytest.mark.parametrize("cls", LAYERS)
def test_tfps_default_factories_train(cls, lazy):
    layer = made(cls, 1, DEFAULT_POSTERIOR, DEFAULT_PRIOR, kl_weight=0.1)
    assert changed_by_training(layer, lazy) == ([], [])
    assert len(layer.trainable_weights) == (2 if cls is DenseVariational else 4)
    assert all(weight.dtype == "float32" for weight in layer.weights)


class WithIdleWeight(DenseFlipout):
    def build(self, input_shape):
        super().build(input_shape)
        self.add_weight(name="idle", shape=())


def test_twin_a_weight_without_a_gradient_is_told_apart():
    layer = WithIdleWeight(1, kl_weight=0.0)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        assert changed_by_training(layer) == (["idle"], ["idle"])


@pytest.mark.parametrize("kind", ["posterior", "prior"])
@pytest.mark.parametrize("tensor", ["kernel", "bias"])
@pytest.mark.parametrize("cls", SEPARATE)
def test_every_argument_takes_a_factory(cls, tensor, kind):
    factory = DEFAULT_POSTERIOR if kind == "posterior" else empirical_bayes
    layer = cls(1, **{f"{tensor}_{kind}_fn": factory}, kl_weight=0.1)
    assert changed_by_training(layer) == ([], [])


def test_the_kl_follows_an_empirical_bayes_prior():
    layer = DenseReparameterization(1, kernel_prior_fn=empirical_bayes, kl_weight=0.1)
    layer.build((None, 3))
    before = float(layer.kl_divergence())
    variable(layer, "kernel_prior_rho").assign(3.0)
    assert float(layer.kl_divergence()) != before


@pytest.mark.parametrize("cls", [DenseReparameterization, DenseVariational])
def test_a_factory_of_any_distribution_trains_where_the_estimator_allows(cls):
    assert changed_by_training(made(cls, 1, student, kl_weight=0.1)) == ([], [])


@pytest.mark.parametrize("cls", [DenseFlipout, DenseLocalReparameterization])
def test_a_factory_of_no_gaussian_is_refused_by_the_others(cls):
    with pytest.raises(InvalidInput, match="DenseReparameterization"):
        made(cls, 1, student).build((None, 3))


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("factory", [snapshot, follows])
def test_what_a_factory_computes_from_its_variables_follows_them(cls, factory):
    layer = made(cls, 1, factory, kl_weight=0.1)
    assert changed_by_training(layer) == ([], [])
    scale = layer.weight_posteriors[0].factorised_gaussian[1]
    np.testing.assert_allclose(scale, tf.nn.softplus(layer.trainable_variables[0].value), rtol=1e-6)


class Block(keras.layers.Layer):
    """A layer of a user's own that holds one of ours and builds it when it is called."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x, training=None):
        return self.inner(x, training=training)


@pytest.mark.parametrize("factory", [DEFAULT_POSTERIOR, student])
@pytest.mark.parametrize("first", ["fit", "call", "functional"])
def test_tfp_factories_inside_a_users_own_layer(factory, first):
    block = Block(DenseReparameterization(1, kernel_posterior_fn=factory, kl_weight=0.1))
    network = keras.Sequential([keras.Input((3,)), block] if first == "functional" else [block])
    if first == "call":
        network(X)
    network.compile(keras.optimizers.Adam(0.1), "mse")
    network.fit(X, Y, verbose=0)
    names = [weight.name for weight in block.inner.trainable_weights]
    assert len(names) == len(set(names))
    before = [weight.numpy() for weight in block.inner.trainable_weights]
    network.fit(X, Y, verbose=0)
    assert all((a.numpy() != b).any() for a, b in zip(block.inner.trainable_weights, before, strict=True))


@pytest.mark.parametrize("cls", LAYERS)
def test_a_prior_with_trainable_mean_and_scale_is_refused(cls):
    argument = "make_prior_fn" if cls is DenseVariational else "kernel_prior_fn"
    with pytest.raises(InvalidInput, match=f"`{argument}`.*KL optimum is 0"):
        made(cls, 1, prior=DEFAULT_POSTERIOR).build((None, 3))
    made(cls, 1, prior=empirical_bayes).build((None, 3))  # twin


def test_a_singular_factory_is_a_point():
    layer = made(DenseFlipout, 1, tfp.layers.default_mean_field_normal_fn(is_singular=True), kl_weight=0.1)
    assert changed_by_training(layer) == ([], [])
    assert float(layer.kl_divergence()) == 0.0
    np.testing.assert_array_equal(layer(X), layer(X))


def test_factories_that_return_something_else_are_refused():
    with pytest.raises(InvalidInput, match=r"`kernel_posterior_fn`.*tfp\.distributions"):
        made(DenseFlipout, 1, lambda dtype, shape, name, trainable, add_variable_fn: 3.0).build((None, 3))
    with pytest.raises(InvalidInput, match=r"shape \[3, 1\]"):
        made(DenseFlipout, 1, lambda dtype, shape, name, trainable, add_variable_fn: tfd.Normal(0.0, 1.0)).build(
            (None, 3)
        )
    with pytest.raises(InvalidInput, match=r"`posterior`.*dtype, shape, name"):
        made(DenseFlipout, 1, lambda shape: None)


def test_a_layer_frozen_when_it_is_built_can_be_thawed():
    layer = made(DenseFlipout, 1, DEFAULT_POSTERIOR, trainable=False)
    layer.build((None, 3))
    assert layer.trainable_weights == []
    layer.trainable = True
    assert len(layer.trainable_weights) == 4


def test_the_shared_initializer_of_tfps_default_gives_each_tensor_its_own_numbers():
    layer = DenseFlipout(3, kernel_posterior_fn=DEFAULT_POSTERIOR, bias_posterior_fn=DEFAULT_POSTERIOR)
    layer.build((None, 1))
    kernel = variable(layer, "kernel_posterior_untransformed_scale").numpy()
    bias = variable(layer, "bias_posterior_untransformed_scale").numpy()
    assert not np.isin(kernel, bias).any()


# --- functions of a whole layer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fn",
    [
        lambda kernel_size, bias_size, dtype: posteriors.MeanField(initial_rho=-1.0 * kernel_size / bias_size),
        lambda kernel_size, bias_size=0, dtype=None: posteriors.MeanField(initial_rho=-1.0 * kernel_size / bias_size),
    ],
    ids=["required", "defaults, as in TFP's tutorials"],
)
def test_a_function_of_the_sizes_makes_a_posterior(fn):
    layer = DenseVariational(2, fn, lambda kernel_size, bias_size, dtype: priors.Normal(scale=kernel_size))
    layer.build((None, 3))
    np.testing.assert_array_equal(variable(layer, "weights_rho"), np.full((4, 2), -3.0, "f"))
    np.testing.assert_array_equal(layer.weight_terms[0].p.distribution().stddev(), np.full((4, 2), 6.0, "f"))


def of_tfp_layers(kernel_size, bias_size=0, dtype=None):
    n = kernel_size + bias_size
    return keras.Sequential([tfp.layers.VariableLayer(n, dtype=dtype), tfp.layers.DistributionLambda(lambda t: t)])


def of_keras(kernel_size, bias_size, dtype):
    return keras.Sequential([keras.layers.Dense(1)])


def of_tf_keras(kernel_size, bias_size, dtype):
    return tfp.layers.VariableLayer(kernel_size + bias_size)


@pytest.mark.parametrize("fn", [of_tfp_layers, of_keras, of_tf_keras])
def test_a_function_that_makes_layers_is_refused_and_the_replacement_named(fn):
    with pytest.raises(InvalidInput, match=r"`make_posterior_fn`.*return tfbnn\.posteriors\.MeanField\(\)"):
        DenseVariational(2, make_posterior_fn=fn).build((None, 3))
    with pytest.raises(InvalidInput, match=r"`make_prior_fn`.*return tfbnn\.priors\.Normal\(\)"):
        DenseVariational(2, make_prior_fn=fn).build((None, 3))


# --- saving functions -------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("test_dense")
def registered_of_sizes(kernel_size, bias_size, dtype):
    return posteriors.MeanField(initial_rho=-2.0)


@keras.saving.register_keras_serializable("test_dense")
def registered_divergence(q, p):
    return 2 * tfd.kl_divergence(q, p)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: made(DenseFlipout, 1, registered, kl_weight=0.5),
        lambda: made(DenseVariational, 1, registered, kl_weight=0.5),
        lambda: made(DenseVariational, 1, registered_of_sizes, kl_weight=0.5),
        lambda: DenseFlipout(1, kernel_divergence_fn=registered_divergence, kl_weight=0.5),
    ],
    ids=["tensor", "joint tensor", "sizes", "divergence"],
)
def test_registered_functions_are_saved_and_loaded(layer, tmp_path):
    model = plain_model(layer())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.layers[0].kl_divergence()) == float(model.layers[0].kl_divergence())
    assert loaded.layers[0].get_config() == model.layers[0].get_config()


@pytest.mark.parametrize(
    ("layer", "argument"),
    [
        (lambda: made(DenseFlipout, 1, follows, kl_weight=0.5), "fn"),
        (lambda: made(DenseVariational, 1, lambda k, b, dtype: posteriors.MeanField(), kl_weight=0.5), "posterior"),
        (lambda: DenseFlipout(1, bias_divergence_fn=lambda q, p: 0.0, kl_weight=0.5), "bias_divergence_fn"),
    ],
    ids=["tensor", "sizes", "divergence"],
)
def test_functions_that_could_not_be_loaded_are_refused_when_saving(layer, argument, tmp_path):
    model = plain_model(layer())
    with pytest.raises(InvalidInput, match=rf"{argument}`.*register_keras_serializable\(\)"):
        model.save(tmp_path / "model.keras")


# --- what else is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseFlipout(0), "`units`"),
        (lambda: DenseFlipout(2, kl_weight=-1.0), "`kl_weight`"),
        (lambda: DenseFlipout(2, kl_weight=float("nan")), "`kl_weight`"),
        (lambda: DenseFlipout(2, seed=0.5), "`seed`"),
        (lambda: DenseFlipout(2, kernel_posterior_fn="Meanfield2"), "Did you mean 'MeanField'"),
        (lambda: DenseFlipout(2, kernel_divergence_fn=lambda q: q), "`kernel_divergence_fn`"),
        (lambda: DenseFlipout(2, kernel_divergence_fn=3), "`kernel_divergence_fn`"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize(("posterior", "prior", "kind"), [("MeanField", None, "prior"), (None, "Normal", "posterior")])
def test_a_missing_prior_or_posterior_is_refused(cls, posterior, prior, kind):
    argument = f"make_{kind}_fn" if cls is DenseVariational else f"kernel_{kind}_fn"
    with pytest.raises(InvalidInput, match=f"`{argument}`"):
        made(cls, 1, posterior, prior).build((None, 3))


@pytest.mark.parametrize(
    ("cls", "argument"), [(DenseVariational, "make_posterior_fn"), (DenseReparameterization, "kernel_posterior_fn")]
)
def test_a_full_covariance_too_big_is_refused_with_its_size(cls, argument):
    with pytest.raises(InvalidInput, match=f"`{argument}`.*8,192.*GiB.*MeanField"):
        cls(1000, **{argument: "FullCovariance"}).build((None, 1000))


def test_inputs_of_unknown_or_other_size_are_refused():
    with pytest.raises(InvalidInput, match="last axis"):
        DenseFlipout(2).build((None, None))
    layer = DenseFlipout(2)
    layer(X)
    with pytest.raises(ValueError, match="axis -1"):
        layer(np.ones((2, 4), "f"))


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("cls", LAYERS)
def test_mixed_precision_keeps_weights_and_kl_in_float32(cls, policy):
    def build(dtype):
        return randomised(made(cls, 512, kl_weight=0.0, dtype=dtype), (None, 512))

    full, mixed = build("float32"), build(policy)
    assert {weight.dtype for weight in mixed.trainable_weights} == {"float32"}
    with tf.GradientTape() as tape:
        y, kl = mixed(np.ones((4, 512), "f"), training=True), mixed.kl_divergence()
        loss = tf.reduce_mean(tf.cast(y, tf.float32) ** 2) + 1e-6 * kl
    gradients = tape.gradient(loss, [weight.value for weight in mixed.trainable_weights])
    assert y.dtype == policy.removeprefix("mixed_")
    assert kl.dtype == tf.float32
    assert float(kl) == float(full.kl_divergence())
    assert np.isfinite(np.asarray(y, "f")).all()
    assert all(gradient.dtype == tf.float32 and np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_twin_a_kl_in_half_precision_would_be_infinite_or_coarse(policy):
    kl = randomised(made(DenseFlipout, 512), (None, 512)).kl_divergence()
    assert float(tf.cast(kl, policy.removeprefix("mixed_"))) != float(kl)
