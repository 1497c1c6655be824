"""SWAG: moments as NumPy has them, draws of the stated covariance, the known stationary law of SGD, resumed runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import blr
import posterior_oracle as oracle
import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import DRAWS_PER_BLOCK, seed_pair
from tfbnn.inference import SWAG
from tfbnn.inference.base import setting_of
from tfbnn.inference.swag import Collector, Held, Moments
from tfbnn.prediction import SWAGDraws

AT_MOST = 4.5  # standard errors, of some 100 numbers: one errs so far in 1 of 1500 correct runs


def plain():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])


def seeded():
    layers = [tfbnn.layers.DenseFlipout(4, activation="tanh", seed=1), tfbnn.layers.DenseFlipout(1, seed=2)]
    return keras.Sequential([keras.Input((3,)), *layers])


def swag(network=None, **kwargs):
    arguments = {"seed": 7, "optimizer": keras.optimizers.SGD(0.01, momentum=0.9), "rank": 4, **kwargs}
    return SWAG(network or seeded(), tfbnn.likelihoods.Normal().adapt(toy.Y), **arguments)


def fit(method, **kwargs):
    return method.fit(toy.X, toy.Y, **{"epochs": 12, "batch_size": 8, "verbose": 0, "jit_compile": False, **kwargs})


class Recorder(keras.callbacks.Callback):
    """The weights, [epochs, P], and the learning rate at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.weights, self.rates = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(np.concatenate([value.reshape(-1) for value in setting_of(self.model)]))
        self.rates.append(float(self.model.optimizer.learning_rate))


def flat(arrays):
    return np.concatenate([np.reshape(array, -1) for array in arrays])


def of_member(weights, m=0):
    return flat([weight.numpy()[m] for weight in weights])


def deviations_of(draws, m=0):
    """[P, K]."""
    parts = [weight.numpy()[m] for weight in draws.deviations]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).T.astype(np.float64)


def drawn(draws, count, seed=3):
    """[count, P]: the weights themselves."""

    @tf.function(autograph=False)
    def of_block(block):
        parts = [tf.reshape(values, [DRAWS_PER_BLOCK, -1]) for _, values in draws.drawn(seed_pair(seed), block)]
        return tf.concat(parts, axis=1)

    blocks = [of_block(tf.constant(block)) for block in range(count // DRAWS_PER_BLOCK)]
    return np.concatenate(blocks).astype(np.float64)


def running_deviations(snapshots):
    """w_t minus the mean of w_1 ... w_t."""
    means = np.cumsum(snapshots, axis=0) / np.arange(1, len(snapshots) + 1)[:, np.newaxis]
    return snapshots - means


# --- moments ----------------------------------------------------------------------------------------------------------


def test_moments_are_those_of_the_snapshots():
    recorder = Recorder()
    draws = fit(swag(start=0.3, every=2, swag_learning_rate=0.02), epochs=20, callbacks=[recorder])
    snapshots = np.array(recorder.weights, np.float64)[7::2]
    assert len(snapshots) == 7
    np.testing.assert_allclose(of_member(draws.mean), snapshots.mean(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(of_member(draws.stddev), snapshots.std(axis=0), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(deviations_of(draws).T, running_deviations(snapshots)[-4:], rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(recorder.rates, [0.01] * 6 + [0.02] * 14)


def test_variances_do_not_cancel():
    variable = keras.Variable(np.zeros(2, np.float32))
    moments, snapshots = Moments([variable], 3), []
    for t in range(50):
        snapshots.append(np.array([1000.0 + 1e-3 * (t % 7), -5.0], np.float32))
        variable.assign(snapshots[-1])
        moments.add()
    np.testing.assert_allclose(moments.stddev[0], np.std(np.array(snapshots, np.float64), axis=0), rtol=1e-9)


def test_the_network_ends_with_the_mean():
    method = swag()
    draws = fit(method)
    np.testing.assert_allclose(flat(setting_of(method.model)), of_member(draws.mean), rtol=1e-6)
    assert method.history["loss"][-1] < method.history["loss"][0]


# --- draws ------------------------------------------------------------------------------------------------------------


def covariance_of(draws, m=0):
    D = deviations_of(draws, m)
    diagonal = np.diag(of_member(draws.stddev, m).astype(np.float64) ** 2)
    return 0.5 * (diagonal + D @ D.T / (D.shape[1] - 1))


def worst(found, mean, covariance):
    """How far draws are from Normal(mean, covariance), in standard errors."""
    variances = np.diag(covariance)
    of_mean = np.abs(found.mean(axis=0) - mean) / np.sqrt(variances / len(found))
    errors = np.sqrt((np.outer(variances, variances) + covariance**2) / len(found))
    return max(of_mean.max(), (np.abs(np.cov(found.T) - covariance) / errors).max())


@pytest.fixture(scope="module")
def two_members():
    return fit(swag(members=2, start=0.5), epochs=20, jit_compile=None)


@pytest.mark.parametrize("m", [0, 1])
def test_draws_have_the_stated_mean_and_covariance(two_members, m):
    found = drawn(two_members, 10_000)[m::2]
    mean, covariance = of_member(two_members.mean, m), covariance_of(two_members, m)
    assert worst(found, mean, covariance) < AT_MOST
    assert worst(found, mean, 2.0 * covariance) > AT_MOST  # without the half
    assert worst(found, mean, np.diag(np.diag(covariance))) > AT_MOST  # without what is between weights
    other = of_member(two_members.mean, 1 - m), covariance_of(two_members, 1 - m)
    assert worst(found, *other) > AT_MOST


def test_scale_stretches_the_deviations_alone(two_members):
    moments = [Moments(two_members._variables(), 4) for _ in range(2)]
    for m, one in enumerate(moments):
        one.take(4, [*(w.numpy()[m] for w in two_members.mean), *(4 * w.numpy()[m] ** 2 for w in two_members.stddev),
                     *(w.numpy()[m] for w in two_members.deviations)])  # fmt: skip
    wide = SWAGDraws(two_members.network, two_members.likelihood, moments, scale=3.0)
    means = np.stack([of_member(two_members.mean, i % 2) for i in range(10)])
    np.testing.assert_allclose(drawn(wide, 10) - means, 3.0 * (drawn(two_members, 10) - means), rtol=1e-3, atol=1e-5)


def test_draws_are_prefixes_and_follow_the_seed(two_members):
    found = two_members.predict_distribution(toy.X, 25).parameters
    np.testing.assert_array_equal(two_members.predict_distribution(toy.X, 13).parameters, found[:13])
    assert np.abs(two_members.predict_distribution(toy.X, 25, seed=99).parameters - found).max() > 1e-3
    assert two_members.num_draws is None


def test_a_row_alone_is_as_in_its_batch(two_members):
    batch = two_members.predict_distribution(toy.X, 20).parameters
    alone = two_members.predict_distribution(toy.X[4:5], 20).parameters
    np.testing.assert_allclose(alone[:, 0], batch[:, 4], rtol=1e-5, atol=1e-6)


def test_saved_and_loaded_it_answers_the_same(two_members, tmp_path):
    two_members.save(tmp_path / "draws.keras")
    loaded = tfbnn.load_draws(tmp_path / "draws.keras")
    expected = two_members.predict_distribution(toy.X, 20).parameters
    np.testing.assert_array_equal(loaded.predict_distribution(toy.X, 20).parameters, expected)


def test_exported_it_answers_the_same(two_members, tmp_path):
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(two_members, tmp_path / "model", num_samples=20))
    expected = two_members.predict_distribution(toy.X, 20)
    np.testing.assert_allclose(served.predict(toy.X)["mean"], expected.mean, rtol=1e-5)
    np.testing.assert_allclose(served.predict_distribution(toy.X).parameters, expected.parameters, rtol=1e-5, atol=1e-6)


def test_under_xla_draws_are_the_same(two_members):
    seed, block = seed_pair(3), tf.constant(2)
    values = [values for _, values in two_members.drawn(seed, block)]
    run = tf.function(lambda: [v for _, v in two_members.drawn(seed, block)], jit_compile=True, autograph=False)
    for value, compiled in zip(values, run(), strict=True):
        np.testing.assert_allclose(compiled, value, rtol=1e-4, atol=1e-5)


def test_layers_of_keras_are_drawn_too():
    draws = fit(swag(plain()))
    assert draws.predict_distribution(toy.X, 20).epistemic_stddev.min() > 0


def test_a_network_that_is_built_by_its_first_rows_is_collected():
    network = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    rows = tf.data.Dataset.from_tensor_slices((toy.X, toy.Y)).batch(8)
    draws = swag(network).fit(rows, epochs=8, num_data=toy.N, verbose=0, jit_compile=False)
    assert draws.predict_distribution(toy.X, 20).epistemic_stddev.min() > 0


# --- several members --------------------------------------------------------------------------------------------------


def test_a_member_is_what_it_is_alone(two_members):
    from tfbnn.layers.convert import as_points

    alone = fit(swag(as_points(seeded(), 7 + 1), seed=7 + 1, start=0.5), epochs=20)
    np.testing.assert_allclose(of_member(two_members.mean, 1), of_member(alone.mean), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(of_member(two_members.stddev, 1), of_member(alone.stddev), rtol=1e-2, atol=1e-5)


@pytest.mark.slow
def test_members_share_what_is_frozen():
    network = plain()
    network.layers[0].trainable = False
    draws = fit(swag(network, members=2))
    assert [list(weight.shape) for weight in draws.mean] == [[2, 4, 1], [2, 1], [2, 1]]


class LooksAway(Recorder):
    reads_weights = False


def test_stacked_models_give_their_weights_back_for_snapshots_alone():
    seen = [LooksAway(), LooksAway()]
    draws = fit(swag(members=2, start=0.5), epochs=6, callbacks=lambda m: [seen[m]])
    weights = np.array(seen[1].weights)
    np.testing.assert_array_equal(weights[0], weights[2])  # the model's own are those of the beginning
    np.testing.assert_allclose(weights[3:].mean(axis=0), of_member(draws.mean, 1), rtol=1e-5, atol=1e-7)
    assert np.abs(weights[2] - weights[3]).max() > 1e-3


# --- oracles ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression():
    return blr.example(N=24, D=2)


def sgd_covariance(regression, rate, batch_size):
    """Exact stationary covariance of SGD on -log joint / N, whose batches are drawn with replacement.

    w' = m + (I - rate A_b)(w - m) - rate g_b, of the batch's Hessian A_b and its gradient g_b at the mean m: with
    E[A_b] = A, E[g_b] = 0 and rows independent,
    S = E[(I - rate A_b) S (I - rate A_b)] + rate^2 Cov(g_b), which is linear in S.
    """
    X, y, N = regression.X, regression.y, len(regression.y)
    D = X.shape[1]
    of_rows = np.einsum("ni,nj->nij", X, X) / regression.noise_scale**2 + np.eye(D) / regression.prior_scale**2 / N
    residual = X @ regression.mean - y
    gradients = X * residual[:, None] / regression.noise_scale**2 + regression.mean / regression.prior_scale**2 / N
    A = of_rows.mean(axis=0)
    products = np.mean([np.kron(a, a) for a in of_rows], axis=0)
    products = products / batch_size + np.kron(A, A) * (1.0 - 1.0 / batch_size)
    eye = np.eye(D)
    moved = np.eye(D * D) - rate * (np.kron(eye, A) + np.kron(A, eye)) + rate**2 * products
    noise = rate**2 * gradients.T @ gradients / N / batch_size
    return np.linalg.solve(np.eye(D * D) - moved, noise.reshape(-1)).reshape(D, D), eye - rate * A


def batches_with_replacement(regression, batch_size, batches, seed):
    x, y = oracle.data(regression)
    rows = np.random.default_rng(seed).integers(len(y), size=(batches, batch_size))
    return tf.data.Dataset.from_tensor_slices((x[rows], y[rows]))


def test_snapshots_of_plain_sgd_have_its_known_stationary_law(regression):
    """Mandt, Hoffman & Blei 2017, section 3.2, without their limit of small rates; Monte Carlo is all that is left."""
    rate, batch_size, steps, epochs = 0.02, 4, 10, 650
    stationary, mixing = sgd_covariance(regression, rate, batch_size)
    correlation = np.abs(np.linalg.eigvals(mixing)).max() ** steps
    assert correlation < 0.9
    rank = 600
    method = SWAG(oracle.network(regression), oracle.likelihood(regression), keras.optimizers.SGD(rate), seed=1,
                  start=0.05, rank=rank)  # fmt: skip
    data = batches_with_replacement(regression, batch_size, steps * epochs, 0)
    draws = method.fit(data, epochs=epochs, steps_per_epoch=steps, num_data=len(regression.y), verbose=0)

    effective = rank * (1.0 - correlation) / (1.0 + correlation)
    variances = np.diag(stationary)
    assert (np.abs(of_member(draws.mean) - regression.mean) < 4.0 * np.sqrt(variances / effective)).all()
    expected = 0.5 * (np.diag(variances) + stationary)
    errors = np.sqrt((np.outer(variances, variances) + stationary**2) / effective)
    off = np.abs(covariance_of(draws) - expected) / errors
    assert off.max() < 4.0
    other = sgd_covariance(regression, 2.0 * rate, batch_size)[0]
    twin = np.abs(covariance_of(draws) - 0.5 * (np.diag(np.diag(other)) + other)) / errors
    assert twin.max() > 4.0


@pytest.mark.slow
def test_in_linear_regression_the_mean_is_the_posterior_mean(regression):
    x, y = oracle.data(regression)
    method = SWAG(oracle.network(regression), oracle.likelihood(regression), keras.optimizers.Adam(0.05), seed=1,
                  start=0.5, swag_learning_rate=1e-3)  # fmt: skip
    draws = method.fit(x, y, epochs=1500, batch_size=len(y), verbose=0)
    np.testing.assert_allclose(of_member(draws.mean), regression.mean, atol=2e-3)
    least_squares = np.linalg.lstsq(regression.X, regression.y, rcond=None)[0]
    assert np.abs(of_member(draws.mean) - least_squares).max() > 2e-3  # what it would be without the prior


# --- interrupted ------------------------------------------------------------------------------------------------------


class StopAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            raise RuntimeError("killed")


@pytest.mark.parametrize("killed_after", [5, 15])
def test_a_resumed_training_has_the_moments_of_one_that_was_never_interrupted(tmp_path, killed_after):
    whole = fit(swag(start=0.5), epochs=20)
    kept = {"checkpoint": tmp_path / "kept", "checkpoint_every": 2, "epochs": 20}
    with pytest.raises(RuntimeError):
        fit(swag(start=0.5), **kept, callbacks=[StopAfter(killed_after)])
    resumed = fit(swag(start=0.5), **kept, resume=True)
    for mine, its in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), its.numpy())
    again = fit(swag(start=0.5), **kept, resume=True)  # it is done already
    np.testing.assert_array_equal(of_member(again.stddev), of_member(whole.stddev))


def test_a_resumed_training_of_other_snapshots_is_refused(tmp_path):
    kept = {"checkpoint": tmp_path / "kept", "checkpoint_every": 2}
    fit(swag(start=0.5), **kept, epochs=8)
    with pytest.raises(InvalidInput, match="every 1 epochs from 5 on"):
        fit(swag(start=0.5), **kept, epochs=16, resume=True)


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"members": 0}, "members"), ({"start": 1.0}, "start"), ({"start": -0.1}, "start"), ({"every": 0}, "every"),
        ({"rank": 1}, "rank"), ({"scale": -1.0}, "scale"), ({"swag_learning_rate": 0.0}, "swag_learning_rate"),
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(arguments, told):
    with pytest.raises(InvalidInput, match=told):
        swag(**arguments)


def test_too_few_epochs_are_refused_with_the_number_needed():
    with pytest.raises(InvalidInput, match="5 or more"):
        fit(swag(), epochs=4)
    fit(swag(), epochs=5)
    with pytest.raises(InvalidInput, match="11 or more"):
        fit(swag(start=0.5, every=3), epochs=8)


def test_a_training_that_stopped_before_two_snapshots_says_so():
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(stop.model, "stop_training", True))
    with pytest.raises(InvalidInput, match="stopped before"):
        fit(swag(), callbacks=[stop])


def test_batch_normalisation_is_refused():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(),
                                keras.layers.Dense(1)])  # fmt: skip
    with pytest.raises(InvalidInput, match="LayerNormalization"):
        swag(network)
    network.layers[1].trainable = False
    swag(network)


@pytest.mark.parametrize("members", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_schedule_is_held_from_the_first_snapshot_on(members):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2, 5, 8], [0.04, 0.03, 0.02, 0.01])
    method = swag(members=members, optimizer=keras.optimizers.SGD(schedule), start=0.5)
    fit(method, epochs=4)  # 3 steps an epoch: collected from step 6 on
    held = Held(schedule, 6)
    np.testing.assert_allclose([float(held(step)) for step in (0, 4, 6, 11)], [0.04, 0.03, 0.02, 0.02])
    plain = keras.optimizers.schedules.PiecewiseConstantDecay([2, 5], [0.04, 0.03, 0.02])
    same = swag(members=members, optimizer=keras.optimizers.SGD(plain), start=0.5)
    fit(same, epochs=4)
    for mine, other in zip(method.model.network.get_weights(), same.model.network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)
    reread = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(held))
    assert float(reread(11)) == pytest.approx(0.02)


def test_a_schedule_and_a_dataset_do_not_go_together():
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 100)
    rows = tf.data.Dataset.from_tensor_slices((toy.X, toy.Y)).batch(8, drop_remainder=True)
    with pytest.raises(InvalidInput, match="dataset"):
        swag(optimizer=keras.optimizers.SGD(schedule)).fit(rows, epochs=8, verbose=0)


def test_members_have_no_checkpoints(tmp_path):
    with pytest.raises(InvalidInput, match="several members"):
        fit(swag(members=2), checkpoint=tmp_path)


def test_a_user_cannot_move_the_rate_of_snapshots():
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.001 * (epoch + 1))
    recorder = Recorder()
    fit(swag(start=0.5), epochs=4, callbacks=[rates, recorder])
    np.testing.assert_allclose(recorder.rates, [0.001, 0.002, 0.01, 0.01])


def test_the_collector_counts_epochs_from_its_first():
    variable = keras.Variable([1.0])
    collector = Collector(Moments([variable], 2), first=3, every=2, rate=0.1)
    counts = []
    for epoch in range(9):
        collector.on_epoch_end(epoch)
        counts.append(collector.moments.count)
    assert counts == [0, 0, 0, 0, 1, 1, 2, 2, 3]
