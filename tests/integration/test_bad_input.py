"""What a mistake gets: an error that names the argument, what was expected, what came and how to mend it."""

from __future__ import annotations

import re

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.core.checks import InvalidInput

N = 24
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype("float32")
Y = X.sum(axis=1)


@pytest.fixture(autouse=True)
def _same_start():
    keras.utils.set_random_seed(1)


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match=r"(?s)" + ".*".join(map(re.escape, parts)))


def network(units=1, **kwargs):
    layers = [tfbnn.layers.DenseFlipout(4, activation="tanh", **kwargs), tfbnn.layers.DenseFlipout(units, **kwargs)]
    return keras.Sequential([keras.Input((3,)), *layers])


def model_of(likelihood="Normal", units=1, learning_rate=0.01):
    model = tfbnn.BayesianModel(network(units), likelihood, seed=3, num_samples=10)
    model.compile(keras.optimizers.Adam(learning_rate))
    return model


def spoilt(array, value, index=(2,)):
    array = np.array(array, np.float32)
    array[index] = value
    return array


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(value):
    with refuses("`x`", "finite", "[2, 1]", "Drop or fill"):
        model_of().fit(spoilt(X, value, (2, 1)), Y, verbose=0)
    with refuses("`y`", "finite", "[2]"):
        model_of().fit(X, spoilt(Y, value), verbose=0)
    for ask in ("predict", "predict_distribution"):
        with refuses("`x`", "finite"):
            getattr(model_of(), ask)(spoilt(X, value, (2, 1)))
    with refuses("`y`", "finite"):
        model_of().evaluate(X, spoilt(Y, value), verbose=0)


def test_weights_are_not_touched_by_what_is_refused():
    model = model_of()
    before = model.get_weights()
    with refuses("`y`"):
        model.fit(X, spoilt(Y, np.nan), verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_frames_name_the_column():
    frame = pd.DataFrame(X, columns=["age", "height", "city"])
    frame["city"] = ["here"] * N
    with refuses("x['city']", "numbers", "Encode text first"):
        model_of().fit(frame, Y, verbose=0)
    with refuses("x['city']", "numbers"):
        model_of().predict(frame)
    with refuses("`y`", "numbers"):
        model_of().fit(X, pd.Series(["a"] * N), verbose=0)


def test_validation_data_is_checked_and_named():
    with refuses("validation_data[0]", "finite"):
        model_of().fit(X, Y, validation_data=(spoilt(X, np.nan, (0, 0)), Y), verbose=0)
    with refuses("validation_data[1]", "finite"):
        model_of().fit(X, Y, validation_data=(X, spoilt(Y, np.nan)), verbose=0)
    with refuses("validation_data[1]", "5 rows"):
        model_of().fit(X, Y, validation_data=(X[:5], Y), verbose=0)
    with refuses("validation_data", "(x, y)"):
        model_of().fit(X, Y, validation_data=(X,), verbose=0)


@pytest.mark.parametrize("weight", [np.full(N, -1.0), np.zeros(N), np.ones(N - 1), np.full(N, np.nan), np.ones((N, 2))])
def test_sample_weights(weight):
    with refuses("sample_weight"):
        model_of().fit(X, Y, sample_weight=weight, verbose=0)


def test_class_indices_out_of_range():
    classes = {"class": "Categorical", "num_classes": 3}
    with refuses("`y`", "class indices 0 ... 2"):
        model_of(classes, 3).fit(X, np.full(N, 3), verbose=0)
    with refuses("`y`", "class indices 0 ... 2"):
        model_of(classes, 3).fit(X, np.full(N, 0.5), verbose=0)
    with refuses("`y`", "class indices 0 ... 1"):
        model_of("Bernoulli").fit(X, np.full(N, -1), verbose=0)


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_targets_of_another_width():
    with refuses("`y`", "[N, 1] or [N]", "Normal", "2]"):
        model_of().fit(X, np.zeros((N, 2)), verbose=0)
    with refuses("`y`", "[N, 2]", "HeteroscedasticNormal"):
        model_of(tfbnn.likelihoods.HeteroscedasticNormal(num_targets=2), 4).fit(X, Y, verbose=0)
    with refuses("`y`", "argmax"):
        model_of({"class": "Categorical", "num_classes": 3}, 3).fit(X, np.eye(3)[np.zeros(N, int)], verbose=0)


def test_targets_of_a_dataset_of_another_width():
    wrong = tf.data.Dataset.from_tensor_slices((X, np.zeros((N, 2), np.float32))).batch(8, drop_remainder=True)
    with refuses("`y`", "[N, 1] or [N]"):
        model_of().fit(wrong, verbose=0)
    without = tf.data.Dataset.from_tensor_slices(X).batch(8, drop_remainder=True)
    with refuses("`x`", "a dataset that yields (x, y)"):
        model_of().fit(without, verbose=0)


def test_y_of_one_axis_gains_one():
    one, other = model_of(), model_of()
    other.set_weights(one.get_weights())
    assert one.evaluate(X, Y, verbose=0) == other.evaluate(X, Y[:, None], verbose=0)
    one.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(
        one.predict_distribution(X).log_prob(Y), one.predict_distribution(X).log_prob(Y[:, None])
    )
    assert one.predict_distribution(X).log_prob(Y).shape == (N,)


def test_lengths_that_differ():
    with refuses("`y`", f"{N} rows", f"{N - 1} rows"):
        model_of().fit(X, Y[:-1], verbose=0)
    with refuses("`y`", f"{N} rows", f"{N - 1} rows"):
        model_of().evaluate(X, Y[:-1], verbose=0)
    with refuses("`y`", "5 rows", f"{N} rows"):
        model_of().predict_distribution(X[:5]).log_prob(Y)
    for wrong in (Y, Y[:1]):  # one row would broadcast
        with refuses("`y`", "5 rows", f"{len(wrong)} rows"):
            model_of().predict_distribution(X[:5]).cdf(wrong)


def test_no_rows_and_no_targets():
    with refuses("`x`", "one row or more", "0 rows"):
        model_of().fit(X[:0], Y[:0], verbose=0)
    with refuses("`x`", "one row or more"):
        model_of().predict_distribution(X[:0])
    with refuses("`y`", "targets"):
        model_of().fit(X, verbose=0)


def test_one_row_trains():
    model = model_of()
    model.fit(X[:1], Y[:1], epochs=2, verbose=0)
    assert model.num_data == 1
    assert model.predict(X[:1], verbose=0).shape == (1, 1)


def test_a_network_with_the_wrong_number_of_outputs():
    with refuses("`network`", "[B, 1]", "Normal", "1 unit."):
        model_of(units=2).fit(X, Y, verbose=0)
    with refuses("`network`", "[B, 2]", "HeteroscedasticNormal", "2 units."):
        model_of("HeteroscedasticNormal", units=1).fit(X, Y, verbose=0)
    for ask in ("predict", "predict_distribution"):
        with refuses("`network`", "[B, 1]", "Normal"):
            getattr(model_of(units=2), ask)(X)
    with refuses("`network`", "[B, 1]", "Normal"):
        model_of(units=2).elbo_terms(X, Y)


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "10"])
def test_num_samples(wrong):
    model = model_of()
    with refuses("num_samples", "1 or more"):
        model.predict_distribution(X, num_samples=wrong)
    with refuses("num_samples", "1 or more"):
        model.elbo_terms(X, Y, num_samples=wrong)
    with refuses("num_samples", "1 or more"):
        tfbnn.BayesianModel(network(), "Normal", num_samples=wrong)
    with refuses("train_samples", "1 or more"):
        tfbnn.BayesianModel(network(), "Normal", train_samples=wrong)


def test_num_samples_of_zero_inside_a_graph():
    draws = model_of().posterior_draws()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)num_samples.*must be 1 or more"):
        tf.function(draws.apply)(X, 0, 0, tf.constant(0))


@pytest.mark.parametrize("wrong", [1.5, 2**31, "seed", True])
def test_seeds(wrong):
    for ask in (lambda m: m.predict_distribution(X, seed=wrong), lambda m: m.elbo_terms(X, Y, seed=wrong)):
        with refuses("seed", "whole number"):
            ask(model_of())


def test_unknown_names_get_the_nearest():
    with refuses("coupling", "Did you mean 'marginal'"):
        model_of().predict_distribution(X, coupling="marginl")
    with refuses("likelihood", "Did you mean 'HeteroscedasticNormal'"):
        tfbnn.BayesianModel(network(2), "HeteroskedasticNormal")
    with refuses("beta", "Did you mean 'Linear'"):
        tfbnn.BayesianModel(network(), "Normal", beta={"class": "Linaer", "steps": 10})


def test_layers_that_scale_their_kl():
    with refuses("kl_weight of layer", "twice", "Leave kl_weight out"):
        tfbnn.BayesianModel(network(kl_weight=0.1), "Normal")
    with refuses("kl_weight of layer", "twice"):
        tfbnn.BayesianModel(network(kl_weight=0.0), "Normal")


def test_questions_for_the_other_kind_of_target():
    regression = model_of().predict_distribution(X, 10)
    for ask in ("probabilities", "predictive_entropy", "mutual_information", "expected_entropy"):
        with refuses("classes", "Normal", "A regression has `mean`"):
            getattr(regression, ask)
    classes = model_of("Bernoulli").predict_distribution(X, 10)
    for ask in (lambda: classes.quantile(0.5), lambda: classes.cdf(Y), lambda: classes.interval()):
        with refuses("regression", "probabilities"):
            ask()
    for level in (0.0, 1.0, 1.5, "90%", True, np.nan, 1e-9, 1 - 1e-9, 9e-7, 1 - 9e-7):
        for ask in (regression.interval, regression.to_frame):
            with refuses("`level`", "between 0 and 1", "1e-06"):
                ask(level)
    for level in (1e-6, 0.5, np.float32(0.5), 1 - 1e-6):
        lower, upper = regression.interval(level)
        assert (np.isfinite(lower) & np.isfinite(upper) & (lower < upper)).all()
    with refuses("`q`", "between 0 and 1"):
        regression.quantile([0.1, 1.0])


# --- a loss that turns NaN --------------------------------------------------------------------------------------------


class Poison(keras.callbacks.Callback):
    """Puts a NaN into a weight after a step of an epoch."""

    def __init__(self, epoch, weight="network", value=np.nan, at="batch"):
        super().__init__()
        self.epoch, self.value, self.at, self.which = epoch, value, at, weight
        self.now = None

    def poison(self):
        variable = self.model.network.trainable_variables[0]
        if self.which == "rho":
            variable = next(v for v in self.model.network.trainable_variables if "rho" in v.name)
        variable.assign(np.full(variable.shape, self.value))

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.at == "batch" and self.now == self.epoch and batch == 0:
            self.poison()

    def on_epoch_end(self, epoch, logs=None):
        if self.at == "epoch" and epoch == self.epoch:
            self.poison()


class Weights(keras.callbacks.Callback):
    """What the weights were at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(self.model.get_weights())


def assert_weights(model, expected):
    for one, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all()


def assert_trains_on(model):
    history = model.fit(X, Y, epochs=10, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize(
    ("poison", "term"),
    [
        (Poison(2), "log_likelihood = nan"),
        (Poison(2, "rho", np.inf), "kl = "),
        (Poison(1, at="epoch"), "log_likelihood = nan"),
    ],
    ids=["loc", "rho", "epoch"],
)
def test_a_loss_that_turns_nan_stops_and_keeps_the_last_good_weights(poison, term):
    model, weights = model_of(), Weights()
    with pytest.raises(FloatingPointError, match=f"epoch 3, step [12].*{re.escape(term)}.*end of epoch 2"):
        model.fit(X, Y, epochs=6, batch_size=8, verbose=0, callbacks=[weights, poison])
    assert_weights(model, weights.ends[1])
    assert len(model.history.history["loss"]) == 3
    assert_trains_on(model)


def test_what_is_poisoned_at_the_very_end_is_seen():
    model, weights = model_of(), Weights()
    with pytest.raises(FloatingPointError, match=r"epoch 3: weights .*kernel.* = nan"):
        model.fit(X, Y, epochs=3, batch_size=8, verbose=0, callbacks=[weights, Poison(2, at="epoch")])
    assert_weights(model, weights.ends[2])
    model = model_of()
    with pytest.raises(FloatingPointError, match=r"epoch 1: weights .* = nan or inf.*before training"):
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[_PoisonAfterLastStep()])
    assert_trains_on(model)


class _PoisonAfterLastStep(Poison):
    def __init__(self):
        super().__init__(0)

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            self.poison()


def test_a_learning_rate_out_of_bounds():
    model = model_of(learning_rate=1e20)
    model.num_data = N
    before = model.get_weights()
    with pytest.raises(FloatingPointError, match=r"epoch 1.*before training.*learning rate"):
        model.fit(X, Y, epochs=3, batch_size=8, verbose=0)
    assert_weights(model, before)
    model.compile(keras.optimizers.Adam(0.01))
    assert_trains_on(model)


def test_a_network_that_is_built_by_fit_gets_its_first_weights_back():
    layers = [tfbnn.layers.DenseFlipout(4), tfbnn.layers.DenseFlipout(1)]
    model = tfbnn.BayesianModel(keras.Sequential(layers), "Normal", seed=0)
    model.compile("adam")
    with pytest.raises(FloatingPointError, match="before training"):
        model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=Poison(0))
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert_trains_on(model)


def test_the_optimizer_is_as_good_as_the_weights():
    model = model_of()
    with pytest.raises(FloatingPointError):
        model.fit(X, Y, epochs=6, batch_size=8, verbose=0, callbacks=Poison(2))
    for variable in model.optimizer.variables:
        assert np.isfinite(variable.numpy()).all(), variable.path
    assert int(model.optimizer.iterations) == 6  # two good epochs of three steps


def test_no_checkpoint_of_what_is_not_finite(tmp_path):
    model = model_of()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "last.keras", save_best_only=False)
    with pytest.raises(FloatingPointError):
        model.fit(X, Y, epochs=6, batch_size=8, verbose=0, callbacks=[checkpoint, Poison(2)])
    assert_weights(keras.saving.load_model(tmp_path / "last.keras"), model.get_weights())


def test_early_stopping_leaves_the_last_good_weights():
    model, weights = model_of(), Weights()
    stop = keras.callbacks.EarlyStopping("loss", restore_best_weights=True, start_from_epoch=0)
    with pytest.raises(FloatingPointError):
        model.fit(X, Y, epochs=6, batch_size=8, verbose=0, callbacks=[weights, stop, Poison(2)])
    assert_weights(model, weights.ends[1])


def test_nan_in_a_dataset_is_found_while_training():
    data = tf.data.Dataset.from_tensor_slices((spoilt(X, np.nan, (0, 0)), Y)).batch(8, drop_remainder=True)
    model = model_of()
    with pytest.raises(FloatingPointError, match="epoch 1, step 1: log_likelihood = nan"):
        model.fit(data, verbose=0)


def test_nan_in_several_steps_at_once():
    model, weights = model_of(), Weights()
    model.compile(keras.optimizers.Adam(0.01), steps_per_execution=3)
    with pytest.raises(FloatingPointError, match=r"epoch 3.*end of epoch 2"):
        model.fit(X, Y, epochs=5, batch_size=8, verbose=0, callbacks=[weights, Poison(1, at="epoch")])
    assert_weights(model, weights.ends[1])


def test_rows_of_another_width_are_refused_at_prediction():
    model = tfbnn.BayesianModel(network(), "Normal", seed=0)
    for wrong in (np.ones((5, 2), "float32"), np.ones(3, "float32")):
        with pytest.raises(tfbnn.core.checks.InvalidInput, match=r"`x`.*rows of shape \[3\]"):
            model.predict_distribution(wrong)


def test_keras_own_export_names_ours(tmp_path):
    with pytest.raises(tfbnn.core.checks.InvalidInput, match="export_saved_model"):
        tfbnn.BayesianModel(network(), "Normal", seed=0).export(tmp_path / "model")


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(
    "make",
    [
        lambda: tfbnn.layers.DenseFlipout(3, activation=lambda t: t, name="own"),
        lambda: keras.layers.Lambda(lambda t: t, name="own"),
        lambda: tfbnn.layers.Variational(keras.layers.Dense(3, activation=lambda t: t, name="own")),
    ],
)
def test_a_lambda_is_refused_before_a_file_is_written_that_could_not_be_loaded(make, tmp_path):
    model = tfbnn.BayesianModel(keras.Sequential([keras.Input((3,)), make(), *network().layers]), "Normal", seed=0)
    for saved in (model, model.posterior_draws()):
        with pytest.raises(InvalidInput, match=r"`layer own`.*a lambda.*register_keras_serializable"):
            saved.save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())
