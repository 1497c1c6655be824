"""`tfbnn.train_many`: each model ends as if it had been trained alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.training import many
from toy import N, W, X, Y, assert_close, differs, linear, model_of, network, train

WITHOUT_XLA = {"epochs": 2, "batch_size": 8, "verbose": 0, "jit_compile": False}


def train_many(models, data=(X, Y), **kwargs):
    return [history.history for history in tfbnn.train_many(models, data, **{**WITHOUT_XLA, **kwargs})]


def stacks(models, data=(X, Y)) -> list[int]:
    """How many models each graph trains."""
    return [len(group) for group in many._stacks(models, many._rows_of_each(models, data))]


def assert_histories_close(found, expected):
    """By place: layers of other models have other names."""
    assert len(found) == len(expected)
    for (name, values), others in zip(found.items(), expected.values(), strict=True):
        np.testing.assert_allclose(values, others, rtol=2e-4, atol=1e-5, err_msg=name)


def schedule(rate):
    return keras.optimizers.schedules.ExponentialDecay(rate, 2, 0.5)


RATES = (0.05, 0.01, schedule(0.05), schedule(0.02))
BETAS = (1.0, 0.1, tfbnn.objectives.Linear(steps=6), 0.0)


def different(m, **kwargs):
    """Model m of four that differ in seeds, learning rates and betas."""
    optimizer = keras.optimizers.Adam(RATES[m], clipnorm=0.5)
    return model_of(linear(seed=m), optimizer=optimizer, seed=m, beta=BETAS[m], num_samples=5 + m, **kwargs)


def rows_of(m):
    rng = np.random.default_rng(m)
    some = rng.permutation(N)[:16]
    return X[some], Y[some], W[some]


def test_models_of_other_data_rates_and_betas_end_as_when_trained_alone():
    together = [different(m) for m in range(4)]
    data, watched = [rows_of(m) for m in range(4)], [(X[m:], Y[m:]) for m in range(4)]
    assert stacks(together, data) == [4]
    histories = train_many(together, data, validation_data=watched)
    for m in (1, 2):
        x, y, w = data[m]
        alone = different(m)
        expected = train(alone, x, y, sample_weight=w, validation_data=watched[m])
        assert_close(together[m], alone, 1e-4)
        assert_histories_close(histories[m], expected)
    assert all(differs(together[0], other) for other in together[1:])


def test_shared_rows_layers_with_state_and_xla():
    def make(m):
        keras.utils.set_random_seed(m)
        layers = [keras.layers.BatchNormalization(), tfbnn.layers.DenseFlipout(1)]
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9, global_clipnorm=1.0)
        return model_of(keras.Sequential([keras.Input((3,)), *layers]), optimizer=optimizer, seed=m, train_samples=2)

    together, alone = [make(m) for m in range(2)], make(1)
    assert stacks(together) == [2]
    train_many(together, jit_compile=None)
    train(alone, jit_compile=None)
    assert_close(together[1], alone, 1e-4)


def test_twin_models_of_one_seed_and_data_are_the_same_and_of_another_are_not():
    models = [model_of(seed=seed) for seed in (3, 3, 4)]
    train_many(models, epochs=1)
    assert_close(models[0], models[1], 1e-6)
    assert differs(models[0], models[2])


def test_each_stops_early_by_itself():
    def make(m):
        return model_of(linear(seed=m), optimizer=keras.optimizers.Adam((1.0, 0.02)[m]), seed=m)

    together, alone = [make(m) for m in range(2)], make(0)
    kwargs = {"epochs": 8, "validation_data": (X, Y), "patience": 1}
    histories = train_many(together, **kwargs)
    assert_histories_close(histories[0], train(alone, **kwargs))
    for mine, its in zip(together[0].network.get_weights(), alone.network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-4)
    assert len(histories[0]["loss"]) < len(histories[1]["loss"])


def test_a_callback_stops_its_own_model():
    models = [model_of(seed=m) for m in range(2)]
    stop = keras.callbacks.EarlyStopping(monitor="kl", mode="max", min_delta=1e9, patience=1)
    histories = train_many(models, epochs=4, callbacks=lambda m: [stop] if m == 1 else [])
    assert [len(history["loss"]) for history in histories] == [4, 2]
    alone = model_of(seed=1)
    train(alone, epochs=2)
    assert_close(models[1], alone, 1e-4)


def test_models_that_differ_in_more_than_numbers_are_trained_apart_yet_right():
    def make():
        prior = tfbnn.priors.Normal(scale=0.1)
        return [
            model_of(),
            model_of(linear(activation="softplus")),
            model_of(linear(kernel_prior_fn=prior)),
            model_of(optimizer=keras.optimizers.AdamW(0.05, weight_decay=0.1)),
            model_of(seed=5),
        ]

    together, alone = make(), make()
    assert stacks(together) == [2, 1, 1, 1]
    train_many(together[1:3], epochs=1)
    for m in (1, 2):
        train(alone[m], epochs=1)
        assert_close(together[m], alone[m], 1e-4)


def test_other_numbers_of_rows_are_trained_apart():
    models = [model_of(seed=m) for m in range(3)]
    assert stacks(models, [(X, Y), (X[:9], Y[:9]), (X, Y, W)]) == [1, 1, 1]
    assert [model.num_data for model in models] == [N, 9, N]


def test_a_model_that_diverges_does_not_disturb_the_others():
    def make(m):
        return model_of(linear(seed=m), optimizer=keras.optimizers.SGD((0.01, 1e30, 0.02)[m]), seed=m)

    together = [make(m) for m in range(3)]
    before = [w.numpy() for w in together[1].network.variables]
    with pytest.raises(FloatingPointError, match=r"models\[1\]: Training stopped in epoch 1") as raised:
        train_many(together)
    assert "models[0]" not in str(raised.value)
    for mine, its in zip(together[1].network.variables, before, strict=True):
        np.testing.assert_array_equal(mine.numpy(), its)
    alone = make(2)
    train(alone)
    assert_close(together[2], alone, 1e-4)


def test_dropout_draws_for_each_model_its_own():
    def make(m):
        keras.utils.set_random_seed(m)
        layers = [keras.layers.Dropout(0.5, seed=m), tfbnn.layers.DenseFlipout(1)]
        return model_of(keras.Sequential([keras.Input((3,)), *layers]), seed=m)

    together, alone = [make(m) for m in range(2)], make(1)
    train_many(together, epochs=1)
    train(alone, epochs=1)
    assert_close(together[1], alone, 1e-4)


# --- refusals ---------------------------------------------------------------------------------------------------------


def two():
    return [model_of(seed=m) for m in range(2)]


def stepped():
    models = two()
    models[1].build_for(X)
    models[1].optimizer.iterations.assign(5)
    return models


def other_width():
    keras.utils.set_random_seed(1)
    layers = [tfbnn.layers.DenseFlipout(5), tfbnn.layers.DenseFlipout(1)]
    return [model_of(network()), model_of(keras.Sequential([keras.Input((3,)), *layers]))]


def deeper():
    layers = [tfbnn.layers.DenseFlipout(4), tfbnn.layers.DenseFlipout(1), tfbnn.layers.DenseFlipout(1)]
    return [model_of(network()), model_of(keras.Sequential([keras.Input((3,)), *layers]))]


@pytest.mark.parametrize(
    ("models", "data", "told"),
    [
        (lambda: [], (X, Y), "models"),
        (model_of, (X, Y), "a list of one or more"),
        (lambda: [model_of()] * 2, (X, Y), "different objects"),
        (other_width, (X, Y), "models[1]"),
        (deeper, (X, Y), "models[1]"),
        (stepped, (X, Y), "the same number of steps"),
        (two, [(X, Y)], "a list of 2"),
        (two, X, "(x, y) or (x, y, sample_weight)"),
        (two, (X,), "(x, y) or (x, y, sample_weight)"),
        (two, [(X, Y), (X, Y[:-1])], "23 rows"),
        (two, [(X, Y), (X[:, :2], Y)], "data[1]"),
        (lambda: [model_of(), tfbnn.BayesianModel(network(), "Normal")], (X, Y), "compile"),
    ],
)
def test_refuses(models, data, told):
    with pytest.raises(InvalidInput) as refused:
        train_many(models(), data)
    assert told in str(refused.value)


def test_refuses_validation_data_of_another_length():
    with pytest.raises(InvalidInput, match="validation_data"):
        train_many(two(), validation_data=[(X, Y)])


def test_clipping_of_accumulated_gradients_is_that_of_models_trained_alone():
    def make(seed):
        optimizer = keras.optimizers.Adam(0.05, clipnorm=0.1, gradient_accumulation_steps=2)
        return model_of(linear(seed=seed), seed=seed, optimizer=optimizer)

    together, alone = [make(0), make(1)], make(1)
    train_many(together)
    train(alone, epochs=2, jit_compile=False)
    assert_close(together[1], alone)


def test_large_stacks_are_halved_and_train_side_by_side_as_in_one(monkeypatch):
    one, halves = ([model_of(linear(seed=seed), seed=seed) for seed in range(4)] for _ in range(2))
    histories = train_many(one)
    monkeypatch.setattr(many, "WORTH_HALVING", 0)
    monkeypatch.setattr(many, "SMALLEST_TO_HALVE", 2)
    monkeypatch.setattr(many, "cores", lambda: 2)
    for found, expected in zip(train_many(halves), histories, strict=True):
        assert_histories_close(found, expected)
    for model, other in zip(halves, one, strict=True):
        assert_close(model, other)


def test_an_interrupt_of_one_half_stops_the_other(monkeypatch):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    monkeypatch.setattr(many, "WORTH_HALVING", 0)
    monkeypatch.setattr(many, "SMALLEST_TO_HALVE", 2)
    monkeypatch.setattr(many, "cores", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        train_many([model_of(), model_of()], epochs=10**6, callbacks=lambda m: [Interrupt()] if m else [])
