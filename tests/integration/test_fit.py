"""BayesianModel in every Keras way: what fit, evaluate and predict take, report and leave behind."""

from __future__ import annotations

import math

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.core.noise import Tape, noise_scope
from tfbnn.core.traversal import sublayers

N = 48
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype("float32")
Y = (X @ [1.0, -2.0, 0.5] + 0.3 * RNG.normal(size=N)).astype("float32")


@pytest.fixture(autouse=True)
def _same_start():
    keras.utils.set_random_seed(1)


def network(layer=tfbnn.layers.DenseFlipout, units=1, **kwargs) -> keras.Model:
    return keras.Sequential([keras.Input((3,)), layer(4, activation="tanh", **kwargs), layer(units, **kwargs)])


def point_network() -> keras.Model:
    """No noise and no prior, and the same weights each time: its loss is one number."""
    values = tfbnn.posteriors.Deterministic(loc_initializer=keras.initializers.GlorotUniform(seed=1))
    point = {"kernel_posterior_fn": values, "kernel_prior_fn": None}
    return network(tfbnn.layers.DenseReparameterization, use_bias=False, **point)


def model_of(net=None, likelihood="Normal", learning_rate=0.01, compiled=None, **kwargs) -> tfbnn.BayesianModel:
    model = tfbnn.BayesianModel(net or network(), likelihood, **{"seed": 3, "num_samples": 10, **kwargs})
    model.compile(keras.optimizers.Adam(learning_rate), **(compiled or {}))
    return model


def still(net=None, **kwargs) -> tfbnn.BayesianModel:
    """A model whose weights stay where they are."""
    return model_of(net, learning_rate=0.0, **kwargs)


def fit(model, x=X, y=Y, **kwargs) -> dict[str, list[float]]:
    return model.fit(x, y, **{"verbose": 0, "batch_size": N, **kwargs}).history


# --- what is reported -------------------------------------------------------------------------------------------------


def test_history_has_the_documented_keys():
    model = model_of(compiled={"metrics": ["mae"]})
    history = fit(model, validation_data=(X, Y))
    layers = [f"kl/{layer.name}" for layer in model.variational_layers]
    terms = {"loss", "elbo", "log_likelihood", "kl", "beta", *layers}
    assert set(history) == {*terms, "mae", "val_loss", "val_log_likelihood", "val_mae"}
    for name in ("elbo", "log_likelihood", "kl", "beta", "loss"):
        assert f"`{name}`" in tfbnn.BayesianModel.__doc__


@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_loss_is_made_of_the_reported_terms(beta):
    history = fit(model_of(beta=beta), epochs=3, batch_size=16)
    loss, elbo, log_likelihood, kl = (np.array(history[name]) for name in ("loss", "elbo", "log_likelihood", "kl"))
    np.testing.assert_allclose(loss, (beta * kl - log_likelihood) / N, rtol=1e-5)
    np.testing.assert_allclose(elbo, log_likelihood - kl, rtol=1e-5)
    assert history["beta"] == [beta] * 3


def test_penalty_of_a_point_with_a_prior_is_reported_and_in_the_loss():
    point = {"kernel_posterior_fn": "Deterministic", "bias_posterior_fn": "Deterministic"}
    model = still(network(**point))
    history = fit(model)
    weights = [w.numpy() for w in model.network.trainable_variables]
    expected = sum(0.5 * (w**2).sum() + 0.5 * w.size * math.log(2 * math.pi) for w in weights)
    assert history["penalty"][0] == pytest.approx(expected, rel=1e-5)
    assert history["kl"][0] == 0.0
    expected_loss = (history["penalty"][0] - history["log_likelihood"][0]) / N
    assert history["loss"][0] == pytest.approx(expected_loss, rel=1e-5)


def test_kl_per_layer_sums_to_kl():
    model = still()
    history = fit(model)
    parts = [history[f"kl/{layer.name}"][0] for layer in model.variational_layers]
    assert len(parts) == 2
    assert sum(parts) == pytest.approx(history["kl"][0], rel=1e-6)
    assert history["kl"][0] == pytest.approx(float(model.kl_divergence()), rel=1e-6)


def test_layers_of_one_name_in_nested_networks_are_all_counted():
    def block(size, units, name):
        layers = [keras.Input((size,)), tfbnn.layers.DenseFlipout(units, name="dense")]
        return keras.Sequential(layers, name=name)

    model = still(keras.Sequential([keras.Input((3,)), block(3, 4, "first"), block(4, 1, "second")]))
    history = fit(model)
    kls = [float(layer.kl_divergence()) for layer in model.variational_layers]
    assert len(kls) == 2
    assert history["kl"][0] == pytest.approx(sum(kls), rel=1e-6)
    assert [history["kl/dense"][0], history["kl/dense_1"][0]] == pytest.approx(kls, rel=1e-6)


def test_terms_are_means_over_the_steps_of_the_epoch():
    """Three equal batches of a point network with still weights: their mean is the log likelihood of all rows."""
    model = still(point_network())
    history = fit(model, batch_size=16)
    parameters = model(X)
    expected = float(tf.reduce_sum(model.likelihood.log_prob(parameters, Y[:, None])))
    assert history["log_likelihood"][0] == pytest.approx(expected, rel=1e-5)


# --- beta -------------------------------------------------------------------------------------------------------------


def test_beta_is_read_at_each_step():
    """8 steps of a ramp of 10, 4 an epoch: means of 0, .1, .2, .3 and of .4, .5, .6, .7."""
    history = fit(model_of(beta=tfbnn.objectives.Linear(steps=10)), batch_size=12, epochs=2)
    assert history["beta"] == pytest.approx([0.15, 0.55], rel=1e-5)


def test_weights_of_batches_begin_anew_with_each_epoch():
    history = fit(model_of(beta=tfbnn.objectives.Blundell(num_batches=4)), batch_size=12, epochs=3)
    assert history["beta"] == pytest.approx([1.0] * 3, rel=1e-5)


def test_twin_another_number_of_batches_is_seen():
    history = fit(model_of(beta=tfbnn.objectives.Blundell(num_batches=5)), batch_size=12, epochs=2)
    assert abs(history["beta"][1] - 1) > 0.1


def test_beta_is_read_at_each_step_under_a_scaled_loss():
    net = network(dtype="mixed_float16")
    history = fit(model_of(net, beta=tfbnn.objectives.Linear(steps=10)), batch_size=12, epochs=2)
    assert history["beta"] == pytest.approx([0.15, 0.55], rel=1e-5)


# --- sample weights ---------------------------------------------------------------------------------------------------


def rows_of(model) -> np.ndarray:
    """log p(y|x) of each row under the still weights of a point network."""
    return model.likelihood.log_prob(model(X), Y[:, None]).numpy()


@pytest.mark.parametrize("kind", [np.asarray, pd.Series, lambda w: w.reshape(-1, 1)], ids=["array", "series", "column"])
def test_sample_weight_is_a_weighted_mean_times_n(kind):
    weight = np.ones(N, np.float32)
    weight[5] = 2.0
    weight[7:11] = 0.0
    model = still(point_network())
    history = fit(model, sample_weight=kind(weight))
    expected = N * (weight * rows_of(model)).sum() / weight.sum()
    assert history["log_likelihood"][0] == pytest.approx(expected, rel=1e-5)
    assert model.num_data == N


def test_rows_of_weight_zero_do_not_matter():
    weight = np.ones(N, np.float32)
    weight[:10] = 0.0
    spoilt = Y.copy()
    spoilt[:10] += 1e6
    one, other = (fit(still(point_network()), y=y, sample_weight=weight) for y in (Y, spoilt))
    assert other["log_likelihood"][0] == pytest.approx(one["log_likelihood"][0], rel=1e-6)


def test_equal_weights_change_nothing():
    assert fit(still(point_network()), sample_weight=np.full(N, 3.0))["loss"][0] == pytest.approx(
        fit(still(point_network()))["loss"][0], rel=1e-6
    )


def test_evaluate_and_validation_take_sample_weights():
    weight = np.linspace(0, 2, N).astype("float32")
    model = still(point_network())
    history = fit(model, validation_data=(X, Y, weight))
    rows = rows_of(model)
    expected = (weight * rows).sum() / weight.sum()
    assert history["val_log_likelihood"][0] == pytest.approx(expected, rel=1e-5)
    evaluated = model.evaluate(X, Y, sample_weight=weight, verbose=0, return_dict=True)
    assert evaluated["log_likelihood"] == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(rows.mean(), rel=1e-3)


# --- N ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [0.1, 0.2, 0.33, 0.8])
@pytest.mark.parametrize("rows", [10, 7])
def test_validation_split_counts_the_rows_that_keras_keeps(rows, split, monkeypatch):
    seen = {}

    class Rows(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen["steps"] = self.params["steps"]

    model = model_of()
    fit(model, X[:rows], Y[:rows], batch_size=1, validation_split=split, callbacks=Rows())
    assert model.num_data == seen["steps"]  # with batches of one row the steps are the rows


def test_n_is_not_frozen_in_the_trained_graph():
    model = still(point_network())
    first = fit(model, batch_size=16)
    second = fit(model, np.tile(X, (2, 1)), np.tile(Y, 2), batch_size=16)  # batches of one shape: no new trace
    assert model.num_data == 2 * N
    assert second["log_likelihood"][0] == pytest.approx(2 * first["log_likelihood"][0], rel=1e-5)


def dataset(batch=16, **kwargs):
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(batch, **kwargs)


def test_dataset_that_drops_the_remainder_tells_n():
    model = model_of()
    model.fit(dataset(10, drop_remainder=True), verbose=0)
    assert model.num_data == 40


def test_dataset_of_unknown_length_is_refused_with_the_way_out():
    with pytest.raises(tfbnn.core.checks.InvalidInput, match=r"num_data.*fit\(dataset, num_data=N\)"):
        model_of().fit(dataset(), verbose=0)


def test_n_may_be_told():
    model = model_of()
    model.fit(dataset(), num_data=N, verbose=0)
    assert model.num_data == N
    told_before = model_of(num_data=N)
    told_before.fit(dataset(), verbose=0)
    assert told_before.num_data == N


def test_n_of_an_earlier_fit_is_not_taken_for_another_dataset():
    model = model_of()
    model.fit(X, Y, verbose=0)
    with pytest.raises(tfbnn.core.checks.InvalidInput, match="num_data"):
        model.fit(dataset(), verbose=0)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_n_must_be_a_number_of_rows(wrong):
    with pytest.raises(tfbnn.core.checks.InvalidInput, match="num_data"):
        model_of().fit(dataset(), num_data=wrong, verbose=0)


# --- kinds of data ----------------------------------------------------------------------------------------------------


def of_pandas():
    return pd.DataFrame(X, columns=list("abc")), pd.Series(Y)


def of_pandas_frames():
    return pd.DataFrame(X, columns=list("abc")).astype("float64"), pd.DataFrame({"y": Y})


def of_tensors():
    return tf.constant(X), tf.constant(Y)


def of_lists():
    return X.tolist(), Y.tolist()


def of_columns():
    return X.astype("float64"), Y.astype("float64")[:, None]


@pytest.mark.parametrize("given", [of_pandas, of_pandas_frames, of_tensors, of_lists, of_columns])
def test_arrays_of_every_kind_are_the_same_data(given):
    expected = fit(still(point_network()), epochs=1)
    x, y = given()
    model = still(point_network())
    assert fit(model, x, y)["loss"][0] == pytest.approx(expected["loss"][0], rel=1e-6)
    np.testing.assert_allclose(model.predict(x, verbose=0), model.predict(X, verbose=0), rtol=1e-6)
    assert model.evaluate(x, y, verbose=0, batch_size=N)[0] == pytest.approx(
        model.evaluate(X, Y, verbose=0, batch_size=N)[0], rel=1e-6
    )


def test_datasets_train_as_arrays_do():
    expected = fit(still(point_network()))
    model = still(point_network())
    history = model.fit(dataset(N), num_data=N, verbose=0, validation_data=dataset()).history
    assert history["loss"][0] == pytest.approx(expected["loss"][0], rel=1e-6)
    assert history["val_log_likelihood"][0] == pytest.approx(rows_of(model).mean(), rel=1e-5)
    assert model.evaluate(dataset(), verbose=0, return_dict=True)["log_likelihood"] == pytest.approx(
        rows_of(model).mean(), rel=1e-5
    )
    np.testing.assert_allclose(model.predict(dataset().map(lambda x, y: x), verbose=0), model.predict(X, verbose=0))


def test_integer_and_boolean_inputs_train():
    fit(model_of(), np.round(X).astype("int64"), Y)
    fit(model_of(), X > 0, Y)


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_early_stopping_watches_the_validation_log_likelihood():
    stop = keras.callbacks.EarlyStopping("val_log_likelihood", mode="max", patience=1)
    history = fit(still(point_network()), epochs=10, validation_data=(X, Y), callbacks=[stop])
    assert len(history["loss"]) == 2  # nothing moves, so that the second epoch is no better
    stop = keras.callbacks.EarlyStopping("val_log_likelihood", mode="max", patience=3)
    history = fit(model_of(learning_rate=0.02), epochs=10, validation_data=(X, Y), callbacks=[stop])
    assert len(history["loss"]) == 10
    assert history["val_log_likelihood"][-1] > history["val_log_likelihood"][0]


def test_usual_callbacks(tmp_path):
    model = still(point_network())
    model.optimizer.learning_rate = 1e-12
    plateau = keras.callbacks.ReduceLROnPlateau("val_log_likelihood", mode="max", patience=1, factor=0.5, min_delta=1.0)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", monitor="val_loss")
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    fit(model, epochs=3, validation_data=(X, Y), callbacks=[plateau, checkpoint, log])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.25e-12, rel=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.keras", "2.keras", "3.keras", "log.csv"]
    logged = pd.read_csv(tmp_path / "log.csv")
    assert len(logged) == 3
    assert {"epoch", "loss", "elbo", "kl", "val_log_likelihood"} <= set(logged.columns)
    loaded = keras.saving.load_model(tmp_path / "3.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_callback_list_and_a_single_callback_are_taken():
    class Count(keras.callbacks.Callback):
        epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

    model, count = model_of(), Count()
    fit(model, callbacks=count)
    fit(model, callbacks=keras.callbacks.CallbackList([count], model=model))
    assert count.epochs == 2


# --- evaluate, predict, metrics ---------------------------------------------------------------------------------------


def test_evaluate_lists_each_value_once():
    model = model_of(compiled={"metrics": ["mae"]})
    named = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert list(model.evaluate(X, Y, verbose=0)) == [named["loss"], named["mae"], named["log_likelihood"]]
    assert named["loss"] == -named["log_likelihood"]


def test_evaluate_is_the_log_probability_of_the_prediction():
    model = model_of(compiled={"metrics": ["mae", "mse"]})
    prediction = model.predict_distribution(X, num_samples=10)
    named = model.evaluate(X, Y, verbose=0, return_dict=True, batch_size=7)
    assert named["log_likelihood"] == pytest.approx(prediction.log_prob(Y).mean(), rel=1e-5)
    assert named["mae"] == pytest.approx(np.abs(prediction.mean[:, 0] - Y).mean(), rel=1e-5)
    assert named["mse"] == pytest.approx(((prediction.mean[:, 0] - Y) ** 2).mean(), rel=1e-5)
    np.testing.assert_allclose(model.predict(X, verbose=0, batch_size=7), prediction.mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("likelihood", ["Normal", "HeteroscedasticNormal"])
def test_metrics_with_a_state_for_each_output(likelihood):
    """The network's parameters have another width than the mean that R2Score is given."""
    model = model_of(network(units=1 if likelihood == "Normal" else 2), likelihood,
                     compiled={"metrics": [keras.metrics.R2Score()]})  # fmt: skip
    assert "r2_score" in fit(model)
    evaluated = model.evaluate(X, Y, verbose=0, return_dict=True)
    mean = model.predict(X, verbose=0)[:, 0]
    assert evaluated["r2_score"] == pytest.approx(1 - ((Y - mean) ** 2).sum() / ((Y - Y.mean()) ** 2).sum(), rel=1e-4)


@pytest.mark.parametrize(("likelihood", "units"), [("Bernoulli", 1), ({"class": "Categorical", "num_classes": 3}, 3)])
def test_accuracy_of_classes(likelihood, units):
    y = np.digitize(Y, [-1.0, 1.0]) if units == 3 else (Y > 0).astype("int64")
    model = model_of(network(units=units), likelihood, learning_rate=0.1, compiled={"metrics": ["accuracy"]})
    fit(model, y=y, epochs=20)
    accuracy = model.evaluate(X, y, verbose=0, return_dict=True)["accuracy"]
    probabilities = model.predict_distribution(X, num_samples=10).probabilities
    expected = (probabilities.argmax(1) == y).mean()
    assert accuracy == pytest.approx(expected, abs=1e-6)
    assert expected > 0.8


def test_metrics_in_training_are_on_the_mean_over_draws():
    """E (mean over S draws - y)^2 = (E f - y)^2 + Var f / S, here with Var f made large."""
    wide = {"kernel_posterior_fn": tfbnn.posteriors.MeanField(initial_rho=1.0)}
    model = still(network(tfbnn.layers.DenseReparameterization, **wide), train_samples=4, compiled={"metrics": ["mse"]})
    mse = fit(model, np.tile(X[:4], (100, 1)), np.tile(Y[:4], 100), batch_size=4, shuffle=False)["mse"][0]
    prediction = model.predict_distribution(X[:4], num_samples=2000)
    noise = float((prediction.epistemic_stddev**2).mean())
    of_mean = float(((prediction.mean[:, 0] - Y[:4]) ** 2).mean())
    # one draw's squared error, not the mean's, would be of_mean + noise
    assert mse == pytest.approx(of_mean + noise / 4, abs=0.2 * noise)
    assert noise > of_mean


# --- several draws a step, extra losses -------------------------------------------------------------------------------


def test_train_samples_average_the_log_likelihood():
    """Stddev of the log likelihood of one draw falls as 1 / sqrt(S): 1 against 8, over 200 still steps each.

    Small noise keeps the log likelihood nearly linear in the weights, so nearly Gaussian: the ratio of two sample
    deviations is 2.8 with a relative standard error of sqrt(1 / 200) = 7 %, and the bounds are 30 % away (false alarms
    below 1e-4). A sum over draws would give 1/2.8, the first draw alone 1.
    """

    def stddev(train_samples):
        keras.utils.set_random_seed(1)
        model = still(network(tfbnn.layers.DenseReparameterization), train_samples=train_samples)
        one_row_a_step = np.tile(X[:1], (200, 1)), np.tile(Y[:1], 200)
        steps = []
        record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: steps.append(logs["log_likelihood"]))
        fit(model, *one_row_a_step, batch_size=1, callbacks=record)
        sums = np.array(steps) * np.arange(1, 201)  # logs are means over the steps so far
        return np.diff(sums, prepend=0.0).std()

    assert 8**0.5 / 1.3 < stddev(1) / stddev(8) < 8**0.5 * 1.3


def test_regularizers_of_plain_layers_are_in_the_loss():
    def with_plain_layer(regularizer):
        layers = [keras.layers.Dense(4, kernel_regularizer=regularizer), tfbnn.layers.DenseFlipout(1)]
        return keras.Sequential([keras.Input((3,)), *layers])

    model = still(with_plain_layer(keras.regularizers.L2(0.5)), train_samples=2)
    history = fit(model)
    kernel = model.network.layers[0].kernel.numpy()
    without = (history["kl"][0] - history["log_likelihood"][0]) / N
    assert history["loss"][0] - without == pytest.approx(0.5 * (kernel**2).sum(), rel=1e-4)


def test_activity_regularizers_count_once_whatever_train_samples():
    def model(train_samples):
        layers = [keras.layers.Dense(4, activity_regularizer=keras.regularizers.L2(0.5), kernel_initializer="ones")]
        net = keras.Sequential([keras.Input((3,)), *layers, tfbnn.layers.DenseFlipout(1)])
        return still(net, train_samples=train_samples)

    def extra(history):
        return history["loss"][0] - (history["kl"][0] - history["log_likelihood"][0]) / N

    assert extra(fit(model(3))) == pytest.approx(extra(fit(model(1))), rel=1e-4)
    assert extra(fit(model(1))) > 0.1


# --- how it runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compiled", [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 2}, {"steps_per_execution": 5}]
)
def test_ways_to_run(compiled):
    history = fit(model_of(learning_rate=0.05, compiled=compiled), epochs=4, batch_size=16, validation_data=(X, Y))
    assert history["loss"][-1] < history["loss"][0]
    assert np.isfinite(history["val_log_likelihood"]).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("layer", ["DenseFlipout", "DenseLocalReparameterization", "DenseReparameterization",
                                   "DenseVariational"])  # fmt: skip
def test_mixed_precision_trains_with_the_kl_in_float32(policy, layer):
    net = network(getattr(tfbnn.layers, layer), dtype=policy)
    model = model_of(net, learning_rate=0.05)
    assert net.layers[0].compute_dtype == policy.removeprefix("mixed_")
    assert all(variable.dtype == "float32" for variable in model.trainable_variables)
    history = fit(model, epochs=15)
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert model.kl_divergence().dtype == tf.float32
    assert all(layer.kl_divergence().dtype == tf.float32 for layer in model.variational_layers)


def test_global_mixed_policy_trains_with_a_scaled_loss():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = model_of(network(), learning_rate=0.05)
        history = fit(model, epochs=15, validation_data=(X, Y))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert model.predict_distribution(X[:2]).parameters.dtype == np.float32


def test_gradient_clipping_bounds_the_step():
    model = model_of(point_network())
    model.compile(keras.optimizers.SGD(1.0, global_clipnorm=1e-3))
    before = [w.numpy() for w in model.trainable_variables]
    fit(model)
    change = [w.numpy() - b for w, b in zip(model.trainable_variables, before, strict=True)]
    assert math.sqrt(sum((c**2).sum() for c in change)) == pytest.approx(1e-3, rel=1e-3)


def test_learning_rate_schedules():
    model = model_of()
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.1, 0.0])))
    fit(model, batch_size=16)
    after_three = model.get_weights()
    fit(model, batch_size=16)
    moved = [np.abs(a - b).max() for a, b in zip(after_three, model.get_weights(), strict=True)]
    assert max(moved) < 0.2  # step 3 itself still has rate 0.1
    settled = model.get_weights()
    fit(model)
    for before, after in zip(settled, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_compile_refuses_a_loss():
    with pytest.raises(tfbnn.core.checks.InvalidInput, match=r"loss.*negative ELBO"):
        model_of().compile("adam", loss="mse")


def test_fit_without_compile_is_keras_error():
    model = tfbnn.BayesianModel(network(), "Normal", seed=0)
    with pytest.raises(ValueError, match="compile"):
        model.fit(X, Y, verbose=0)


def test_networks_that_are_built_late_train():
    fit(model_of(keras.Sequential([tfbnn.layers.DenseFlipout(4), tfbnn.layers.DenseFlipout(1)])))


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = tfbnn.layers.DenseFlipout(4)
        self.out = tfbnn.layers.DenseFlipout(1)

    def call(self, inputs, training=None):
        return self.out(self.hidden(inputs, training=training), training=training)


class MadeInBuild(Subclassed):
    def __init__(self, **kwargs):
        keras.Model.__init__(self, **kwargs)

    def build(self, input_shape):
        self.hidden = tfbnn.layers.DenseFlipout(4)
        self.out = tfbnn.layers.DenseFlipout(1)
        self.hidden.build(input_shape)
        self.out.build((None, 4))
        self.built = True


@pytest.mark.parametrize("kind", [Subclassed, MadeInBuild])
def test_subclassed_networks_train(kind):
    model = model_of(kind())
    history = fit(model, epochs=2)
    assert history["kl"][0] > 1
    assert sum(name.startswith("kl/") for name in history) == 2
    assert model.predict(X[:5], verbose=0).shape == (5, 1)


# --- the gradient -----------------------------------------------------------------------------------------------------


def test_a_step_is_the_gradient_of_the_elbo():
    """SGD(1) moves the weights by -d loss / d weights, computed here from the formula with the same noise."""
    model = model_of(network(tfbnn.layers.DenseReparameterization), beta=0.3, num_data=1000)
    layers = sublayers(model)
    rng = np.random.default_rng(2)
    noise = {
        (i, term.q.name): tf.constant(rng.normal(size=term.q.shape), tf.float32)
        for i, layer in enumerate(layers)
        for term in getattr(layer, "weight_terms", ())
    }
    with noise_scope(Tape(noise, layers)), tf.GradientTape() as tape:
        log_likelihood = 1000 * tf.reduce_mean(model.likelihood.log_prob(model(X), Y[:, None]))
        loss = (0.3 * model.kl_divergence() - log_likelihood) / 1000
    expected = tape.gradient(loss, [v.value for v in model.trainable_variables])
    before = [v.numpy() for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(1.0))
    with noise_scope(Tape(noise, layers)):
        model.train_step((tf.constant(X), tf.constant(Y)))
    for variable, start, gradient in zip(model.trainable_variables, before, expected, strict=True):
        np.testing.assert_allclose(start - variable.numpy(), gradient, rtol=1e-4, atol=1e-5)
