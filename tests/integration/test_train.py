"""`tfbnn.train`: step by step the training of `fit`; its callbacks, early stops, refusals."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Tape, fold_in, noise_scope, seed_of_tensor, seed_pair
from tfbnn.core.traversal import sublayers
from tfbnn.training.stack import Stack, bits_for_stack
from tfbnn.training.steps import NOISE, Steps
from toy import N, W, X, Y, assert_close, assert_equal, differs, linear, model_of, network, train

BATCH = 8


# --- equal to fit, step by step ---------------------------------------------------------------------------------------


class InTurn:
    """A source that gives pass s of a step draw s of `noise`, and what the KL asks for after the passes draw 0."""

    def __init__(self, noise, layers, samples):
        self.passes = [Tape({key: value[s] for key, value in noise.items()}, layers) for s in range(samples)]
        self.calls = Counter()

    def for_layer(self, layer):
        s = self.calls[layer.name]
        self.calls[layer.name] += 1
        return self.passes[s % len(self.passes)].for_layer(layer)


def batches(x=X, y=Y, w=None, size=BATCH):
    """As Keras cuts them without shuffling."""
    for i in range(0, len(y), size):
        part = [keras.tree.map_structure(lambda rows, i=i: tf.constant(rows[i : i + size]), x), y[i : i + size]]
        yield (*part, w[i : i + size]) if w is not None else tuple(part)


def steps_of_fit(model, epochs=1, seed=None, w=None, x=X, y=Y, jit=False):
    """`train_step`s on the rows in their order, with the noise of the loop: drawn for a chunk of the full batches of an
    epoch, and one of the last; or, where it is compiled, counted for each step."""
    model.num_data = len(y)
    model.build_for(x)
    layers = sublayers(model)
    for _ in range(epochs):
        every = list(batches(x, y, w))
        full = [batch for batch in every if len(batch[1]) == BATCH]
        for chunk in filter(None, (full, every[len(full) :])):
            names = ("x", "y", "w")[: len(chunk[0])]
            one = dict(zip(names, chunk[0], strict=True)) | {"y": model.likelihood.match_target(chunk[0][1])}
            spec = keras.tree.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), one)
            plan, _ = Stack([model]).plan(spec)
            start = seed_of_tensor(seed_pair(model.seed if seed is None else seed), NOISE, "training")
            first = tf.cast(model.optimizer.variables[0].value, tf.int32)
            drawn = bits_for_stack(plan, [fold_in(start, first)], len(chunk), model.train_samples)
            for i, batch in enumerate(chunk):
                counted = plan.counted_bits(start, first + i, model.train_samples)
                noise = plan.noise(counted if jit else {key: bits[i] for key, bits in drawn.items()})
                source = InTurn(noise, layers, model.train_samples)
                with noise_scope(source):
                    logs = model.train_step(batch)
    return {name: float(value) for name, value in logs.items()}


def dense_variational(units, activation=None):
    return tfbnn.layers.DenseVariational(units, "MeanField", "Normal", activation=activation)


def masked(units, activation=None):
    return keras.Sequential([tfbnn.layers.MCDropout(0.4), keras.layers.Dense(units, activation)])


def concrete(units, activation=None):
    return tfbnn.layers.ConcreteDropout(keras.layers.Dense(units, activation))


def of_factors(units, activation=None):
    initializer = keras.initializers.GlorotUniform(seed=units)
    return tfbnn.layers.RankOne(keras.layers.Dense(units, activation, kernel_initializer=initializer), 3, seed=units)


CASES = [
    (of_factors, 2, None, False, 1),
    (masked, 2, None, False, 1),
    (concrete, 1, None, True, 1),
    (tfbnn.layers.DenseFlipout, 1, None, False, 2),
    (tfbnn.layers.DenseFlipout, 3, W, True, 1),
    (tfbnn.layers.DenseLocalReparameterization, 3, None, False, 1),
    (tfbnn.layers.DenseReparameterization, 1, W, False, 1),
    (dense_variational, 1, None, False, 1),
]


@pytest.mark.parametrize(("layer", "samples", "w", "jit", "epochs"), CASES)
def test_steps_are_those_of_fit_for_the_same_batches_and_noise(layer, samples, w, jit, epochs):
    alone, loop = (model_of(network(layer), train_samples=samples) for _ in range(2))
    rows = 22 if epochs > 1 else N  # 22: the last batch is smaller
    x, y, w = X[:rows], Y[:rows], None if w is None else w[:rows]
    steps_of_fit(alone, epochs, w=w, x=x, y=y, jit=jit)
    train(loop, x, y, epochs=epochs, sample_weight=w, shuffle=False, jit_compile=jit)
    assert_close(loop, alone)


def test_twin_other_noise_gives_other_weights():
    alone, loop = model_of(), model_of()
    steps_of_fit(alone, seed=4)
    train(loop, epochs=1, shuffle=False)
    assert differs(loop, alone)


def test_the_same_names_and_means_as_fit():
    """Of a point network whose weights stay, the KL and the penalty are the same numbers at every step."""
    values = tfbnn.posteriors.Deterministic(loc_initializer=keras.initializers.GlorotUniform(seed=1))
    nets = [linear(tfbnn.layers.DenseReparameterization, kernel_posterior_fn=values) for _ in range(2)]
    by_fit, by_loop = (model_of(net, optimizer=keras.optimizers.SGD(0.0)) for net in nets)
    names = {layer.name: other.name for layer, other in zip(by_fit.network.layers, by_loop.network.layers, strict=True)}
    expected = by_fit.fit(X, Y, batch_size=BATCH, epochs=1, shuffle=False, verbose=0).history
    found = train(by_loop, epochs=1, shuffle=False)
    expected = {"/".join(names.get(part, part) for part in name.split("/")): v for name, v in expected.items()}
    assert set(found) == set(expected)
    assert "penalty" in found
    for name in ("kl", "beta", "penalty"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name


def test_the_last_step_reports_what_fit_would():
    """One batch of all rows, so that an epoch is a step."""
    alone, loop = model_of(train_samples=2), model_of(train_samples=2)
    found = train(loop, X[:BATCH], Y[:BATCH], epochs=1, shuffle=False)
    expected = steps_of_fit(alone, epochs=1, x=X[:BATCH], y=Y[:BATCH])
    for name in ("loss", "elbo", "log_likelihood", "kl", "beta"):
        assert found[name][0] == pytest.approx(expected[name], rel=1e-5), name


def test_a_dataset_in_the_same_order_gives_the_weights_of_arrays():
    arrays, dataset = model_of(), model_of()
    x, y, w = X[:22], Y[:22], W[:22]  # the last batch is smaller
    train(arrays, x, y, sample_weight=w, shuffle=False)
    train(dataset, tf.data.Dataset.from_tensor_slices((x, y, w)).batch(BATCH), None, num_data=22)
    assert_close(dataset, arrays, 1e-6)


def test_an_endless_dataset_goes_on_where_it_was():
    """Epochs of one batch: the second is of rows that the first left out."""
    whole, parts = model_of(), model_of()
    endless = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH, drop_remainder=True).repeat()
    train(parts, endless, None, num_data=N, steps_per_epoch=1, epochs=2)
    for i in (0, BATCH):
        train(whole, X[i : i + BATCH], Y[i : i + BATCH], num_data=N, epochs=1, shuffle=False)
    assert_close(parts, whole, 1e-6)


def test_two_trainings_of_one_seed_are_equal_to_the_last_bit_and_another_seed_is_not():
    models = [model_of(seed=seed) for seed in (3, 3, 4)]
    for model in models:
        train(model)
    assert_equal(models[0], models[1])
    assert differs(models[0], models[2])


def test_every_epoch_has_every_row_once_in_another_order():
    model = model_of()
    model.build_for(X)
    steps, seen = Steps(Stack([model])), []
    for made in (0, 4, 8):
        model.optimizer.iterations.assign(made)
        seen.append(steps._order(N, True, True)[0].numpy())
        assert sorted(seen[-1]) == list(range(N))
    assert len({tuple(order) for order in seen}) == 3


# --- optimizers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), clipnorm=0.05),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.1, use_ema=True, ema_momentum=0.5),
        lambda: keras.optimizers.AdamW(0.05, clipvalue=0.01, gradient_accumulation_steps=2),
    ],
    ids=["schedule-clipnorm", "global_clipnorm-ema", "clipvalue-accumulation"],
)
def test_schedules_and_clipping_are_those_of_fit(optimizer):
    alone, loop = model_of(optimizer=optimizer()), model_of(optimizer=optimizer())
    steps_of_fit(alone)
    alone.optimizer.finalize_variable_values(alone.trainable_variables)
    train(loop, epochs=1, shuffle=False)
    assert_close(loop, alone)


# --- callbacks --------------------------------------------------------------------------------------------------------


class Weights(keras.callbacks.Callback):
    """Keeps the weights at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.of_epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.of_epochs.append([w.numpy() for w in self.model.network.variables])


def test_epoch_callbacks_are_honoured(tmp_path):
    ends, rates = [], []
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch:02d}.weights.h5", save_weights_only=True)
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append((epoch, logs["elbo"]))),
        keras.callbacks.LambdaCallback(on_train_end=lambda logs: rates.append(float(model.optimizer.learning_rate))),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.EarlyStopping(monitor="kl", mode="max", min_delta=1e9, patience=2),
        checkpoint,
    ]
    model = model_of()
    history = train(model, epochs=9, callbacks=callbacks)
    assert [epoch for epoch, _ in ends] == [0, 1, 2]
    assert [elbo for _, elbo in ends] == history["elbo"]
    assert history["learning_rate"] == pytest.approx([0.1, 0.05, 0.1 / 3], rel=1e-6)
    assert rates == pytest.approx([0.1 / 3], rel=1e-6)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == [f"0{e}.weights.h5" for e in (1, 2, 3)]
    again = model_of()
    again.build_for(X)
    again.load_weights(tmp_path / "03.weights.h5")
    for mine, its in zip(again.network.variables, model.network.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), its.numpy())


def test_tensorboard_is_written_by_the_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    train(model_of(), callbacks=[keras.callbacks.TensorBoard(tmp_path, write_graph=False)])
    assert list(tmp_path.rglob("events.out.tfevents.*"))


class OfBatches(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        """Would be called between batches."""


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        (OfBatches(), "OfBatches, which has on_train_batch_end"),
        (keras.callbacks.LambdaCallback(on_train_batch_end=print), "LambdaCallback, which has on_train_batch_end"),
        (keras.callbacks.ModelCheckpoint("x.keras", save_freq=10), "save_freq in batches"),
        (keras.callbacks.TensorBoard("x", update_freq=10), "update_freq in batches"),
        (keras.callbacks.BackupAndRestore("x"), "checkpoint=FOLDER"),
        (print, "Keras callbacks"),
    ],
)
def test_callbacks_of_batches_are_refused_with_the_reason(callback, reason):
    with pytest.raises(InvalidInput) as refused:
        train(model_of(), callbacks=[callback])
    assert reason in str(refused.value)


# --- validation and early stops ---------------------------------------------------------------------------------------


def test_patience_puts_the_weights_of_the_best_epoch_back():
    """A learning rate so high that the log likelihood soon falls."""
    kept = Weights()
    model = model_of(optimizer=keras.optimizers.Adam(0.3), compiled={"metrics": ["mae"]})
    history = train(model, epochs=30, validation_data=(X[::2], Y[::2], W[::2]), patience=2, callbacks=[kept])
    scores = history["val_log_likelihood"]
    best = int(np.argmax(scores))
    assert best < len(scores) - 1
    assert len(scores) == best + 3
    for mine, its in zip(model.network.variables, kept.of_epochs[best], strict=True):
        np.testing.assert_array_equal(mine.numpy(), its)
    evaluated = model.evaluate(X[::2], Y[::2], sample_weight=W[::2], return_dict=True, verbose=0)
    for name in ("loss", "log_likelihood", "mae"):
        assert history[f"val_{name}"][best] == pytest.approx(evaluated[name], rel=1e-4), name


def test_the_bar_shows_the_terms(capfd):
    early = keras.callbacks.EarlyStopping(monitor="kl", mode="max", min_delta=1e9, patience=1)
    train(model_of(), epochs=4, verbose=1, callbacks=[early])
    shown = capfd.readouterr().out
    for name in ("elbo", "log_likelihood", "kl", "beta", "2/4"):
        assert name in shown
    assert "3/4" not in shown


def test_twin_without_patience_the_last_weights_stay():
    kept = Weights()
    model = model_of()
    train(model, epochs=2, callbacks=[kept])
    for mine, its in zip(model.network.variables, kept.of_epochs[-1], strict=True):
        np.testing.assert_array_equal(mine.numpy(), its)


# --- losses that are not finite ---------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_and_gives_the_last_good_weights_back():
    """They are those of the second epoch, which goes uphill, and not those of the first, which early stopping kept."""
    wild = keras.callbacks.LearningRateScheduler(lambda epoch: (1e-3, -1e-2, 1e30)[epoch])
    model, good = (model_of(optimizer=keras.optimizers.SGD(1e-3, momentum=0.5)) for _ in range(2))
    train(good, epochs=2, callbacks=[wild])
    with pytest.raises(FloatingPointError, match=r"Training stopped in epoch 3: .* those at the end of epoch 2"):
        train(model, epochs=3, callbacks=[wild], validation_data=(X, Y), patience=5)
    model.optimizer.learning_rate = float(good.optimizer.learning_rate)
    assert_equal(model, good)


# --- networks ---------------------------------------------------------------------------------------------------------


def mixture_posterior(dtype, shape, name, trainable, add_variable_fn):
    """No Gaussian, and with no noise -> sample map of tfbnn's."""
    loc = add_variable_fn(f"{name}_loc", shape, keras.initializers.GlorotUniform(seed=1), dtype=dtype)
    return tfp.distributions.Independent(tfp.distributions.Laplace(loc, 0.1), len(shape))


def trained_alike(make, x=X, y=Y, **kwargs):
    """A model trained twice, of which nothing differs, and how its weights moved."""
    first, second = make(), make()
    before = [w.numpy() for w in (first.build_for(x), first)[1].network.trainable_variables]
    history = train(first, x, y, **kwargs)
    train(second, x, y, **kwargs)
    assert_equal(first, second)
    assert np.isfinite(history["loss"]).all()
    moved = [np.abs(w.numpy() - b).max() for w, b in zip(first.network.trainable_variables, before, strict=True)]
    assert max(moved) > 1e-3
    return first, history


def test_moving_statistics_are_updated_as_in_fit():
    def net():
        keras.utils.set_random_seed(1)
        flipout = tfbnn.layers.DenseFlipout
        return keras.Sequential([keras.Input((3,)), flipout(4), keras.layers.BatchNormalization(), flipout(1)])

    # SGD: Adam would enlarge the rounding of a bias that the normalisation leaves without a gradient
    alone, loop = (model_of(net(), optimizer=keras.optimizers.SGD(0.1)) for _ in range(2))
    steps_of_fit(alone)
    train(loop, epochs=1, shuffle=False)
    statistics = [loop.network.layers[1].moving_mean.numpy(), alone.network.layers[1].moving_mean.numpy()]
    assert np.abs(statistics[0]).max() > 1e-3
    np.testing.assert_allclose(*statistics, rtol=1e-5, atol=1e-6)
    assert_close(loop, alone)


def test_dropout_and_regularizers():
    def make(rate=0.5, l2=0.1):
        keras.utils.set_random_seed(1)
        dense = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(l2))
        return model_of(keras.Sequential([keras.Input((3,)), keras.layers.Dropout(rate, seed=2), dense]))

    model, history = trained_alike(make)
    without = make(rate=0.0)
    train(without)
    assert differs(model, without)
    added = np.array(history["loss"]) - (np.array(history["kl"]) - history["log_likelihood"]) / N
    assert (added > 1e-3).all()  # the regularizer's


def test_a_prior_whose_kl_is_drawn_is_trained_as_in_fit():
    prior = tfbnn.priors.ScaleMixture(0.5, 1.0, 0.1)
    alone, loop = (
        model_of(linear(tfbnn.layers.DenseReparameterization, kernel_prior_fn=prior), train_samples=1) for _ in range(2)
    )
    steps_of_fit(alone)
    train(loop, epochs=1, shuffle=False)
    assert_close(loop, alone)


def test_a_learned_prior_scale_is_trained_as_in_fit():
    prior = tfbnn.priors.EmpiricalBayesNormal()
    alone, loop = (model_of(linear(kernel_prior_fn=prior)) for _ in range(2))
    steps_of_fit(alone)
    train(loop, epochs=1, shuffle=False)
    assert_close(loop, alone)


def test_a_posterior_that_is_sampled_by_seed():
    trained_alike(
        lambda: model_of(linear(tfbnn.layers.DenseReparameterization, kernel_posterior_fn=mixture_posterior)),
        jit_compile=None,
    )


def two_inputs(as_dict):
    keras.utils.set_random_seed(1)
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    both = keras.layers.Concatenate()([a, b])
    return keras.Model({"a": a, "b": b} if as_dict else [a, b], tfbnn.layers.DenseFlipout(1, name="out")(both))


def test_two_inputs_as_dict_list_and_dataset_are_the_same():
    one, other, third = (model_of(two_inputs(as_dict)) for as_dict in (True, False, True))
    named = {"a": X[:, :2], "b": X[:, 2:].astype("float64")}
    train(one, named)
    train(other, list(named.values()))
    assert_close(other, one, 1e-6)
    train(third, tf.data.Dataset.from_tensor_slices((named, Y)).batch(BATCH), None, num_data=N, epochs=1)
    assert np.isfinite(third.evaluate(named, Y, verbose=0)).all()


def convolution():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Reshape((3, 1)), keras.layers.Conv1D(2, 2, activation="relu"), keras.layers.Flatten()]
    return keras.Sequential([keras.Input((3,)), *layers, tfbnn.layers.DenseFlipout(1)])


@pytest.mark.parametrize(("network", "compiled"), [(linear, True), (convolution, False)])
def test_xla_compiles_steps_where_that_is_faster(network, compiled):
    model = model_of(network())
    train(model, jit_compile=None)
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("XLA's convolutions are slow on CPUs alone")
    [*chunks] = model._steps[1]._chunks.values()
    assert {chunk.compiled for chunk in chunks if chunk.steps > 1} == {compiled}


def test_classes():
    likelihood = tfbnn.likelihoods.Categorical(num_classes=3)
    y = np.digitize(Y, [-1.0, 1.0])
    _, history = trained_alike(lambda: model_of(network(units=3), likelihood), y=y, epochs=3)
    assert history["log_likelihood"][-1] > history["log_likelihood"][0]


def test_mixed_precision_keeps_the_scaled_loss():
    _, history = trained_alike(lambda: model_of(linear(dtype="mixed_float16")))
    plain = model_of()
    expected = train(plain)
    assert history["kl"] == pytest.approx(expected["kl"], rel=0.05)
    assert history["beta"] == [1.0, 1.0]


# --- refusals ---------------------------------------------------------------------------------------------------------


def called_twice():
    flipout = tfbnn.layers.DenseFlipout(3)
    x = keras.Input((3,))
    return model_of(keras.Model(x, tfbnn.layers.DenseFlipout(1)(flipout(flipout(x)))))


def uncompiled():
    return tfbnn.BayesianModel(network(), "Normal")


def with_nan():
    x = X.copy()
    x[3, 1] = np.nan
    return x


def batches_of_rows():
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)


REFUSALS = {
    "uncompiled": (uncompiled, {}, "Call model.compile"),
    "no BayesianModel": (network, {}, "a tfbnn.BayesianModel"),
    "NaN in x": (model_of, {"x": with_nan()}, "index [3, 1]"),
    "no y": (model_of, {"y": None}, "`y`"),
    "fewer y": (model_of, {"y": Y[:-1]}, "23 rows"),
    "more targets": (model_of, {"y": np.stack([Y, Y], 1)}, "`y`"),
    "fewer weights": (model_of, {"sample_weight": W[:-1]}, "sample_weight"),
    "negative weights": (model_of, {"sample_weight": -W}, "sample_weight"),
    "no rows": (model_of, {"x": X[:0], "y": Y[:0]}, "0 rows"),
    "patience alone": (model_of, {"patience": 2}, "no validation_data"),
    "no patience": (model_of, {"patience": 0, "validation_data": (X, Y)}, "patience"),
    "no epochs": (model_of, {"epochs": 0}, "epochs"),
    "half a batch": (model_of, {"batch_size": 0.5}, "batch_size"),
    "validation NaN": (model_of, {"validation_data": (with_nan(), Y)}, "validation_data[0]"),
    "validation shapes": (model_of, {"validation_data": (X, Y[:-1])}, "validation_data[1]"),
    "validation is no tuple": (model_of, {"validation_data": 3}, "validation_data"),
    "unknown N": (model_of, {"x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), "y": None}, "num_data"),
    "x alone": (
        model_of,
        {"x": tf.data.Dataset.from_tensor_slices(X).batch(8), "y": None, "num_data": N},
        "(x, y) or (x, y, sample_weight)",
    ),
    "y beside a dataset": (
        model_of,
        {"x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), "num_data": N},
        "`y`",
    ),
    "weights beside a dataset": (
        model_of,
        {"x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), "y": None, "sample_weight": W, "num_data": N},
        "`sample_weight`",
    ),
    "endless dataset": (model_of, {"x": batches_of_rows().repeat(), "y": None, "num_data": N}, "`steps_per_epoch`"),
    "steps beside arrays": (model_of, {"steps_per_epoch": 3}, "`steps_per_epoch`"),
    "no steps": (model_of, {"x": batches_of_rows(), "y": None, "num_data": N, "steps_per_epoch": 0}, "1 or more"),
    "too few batches": (
        model_of,
        {"x": batches_of_rows(), "y": None, "num_data": N, "steps_per_epoch": 2},
        "2 batches or more for each epoch",
    ),
    "endless validation": (model_of, {"validation_data": batches_of_rows().repeat()}, "take(batches)"),
    "empty validation": (model_of, {"validation_data": batches_of_rows().take(0)}, "an empty dataset"),
    "validation width": (model_of, {"validation_data": (X[:, :2], Y)}, "validation_data[0]"),
    "Flipout called twice": (called_twice, {}, "Use DenseReparameterization"),
    "wrong width": (model_of, {"x": X[:, :2]}, "3"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refuses(name):
    make, arguments, told = REFUSALS[name]
    with pytest.raises((InvalidInput, ValueError)) as refused:
        train(make(), **arguments)
    assert told in str(refused.value)


def test_an_endless_dataset_goes_on_where_the_epoch_before_ended():
    rows = train(model_of(), shuffle=False)
    endless = train(model_of(), batches_of_rows().repeat(), None, num_data=N, steps_per_epoch=3)
    assert endless["elbo"] == pytest.approx(rows["elbo"], rel=1e-5)


def test_the_next_training_of_a_model_needs_no_new_graph_unless_something_changed():
    model = model_of()
    train(model)
    steps = model.__dict__["_steps"][1]
    train(model)
    assert model.__dict__["_steps"][1] is steps
    before = model.network.get_weights()
    model.network.layers[0].trainable = False
    train(model)
    assert model.__dict__["_steps"][1] is not steps
    for value, other in zip(before, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
