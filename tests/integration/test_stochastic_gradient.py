"""Stochastic-gradient Markov chains: steps by hand, their exact stationary law, cycles, interrupted chains."""

import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import blr
import posterior_oracle as oracle
import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import counted_bits, standard_normal
from tfbnn.inference import SGHMC, SGLD
from tfbnn.inference.base import spread_over_time
from tfbnn.inference.stochastic_gradient import LangevinDynamics, Schedule


def seeded(layer=tfbnn.layers.DenseFlipout):
    return keras.Sequential([keras.Input((3,)), layer(4, activation="tanh", seed=1), layer(1, seed=2)])


def chain(method=SGLD, network=None, **kwargs):
    arguments = {"step_size": 0.01, "seed": 7, **kwargs}
    return method(network or seeded(), tfbnn.likelihoods.Normal().adapt(toy.Y), **arguments)


def fit(method, **kwargs):
    return method.fit(toy.X, toy.Y, **{"epochs": 10, "batch_size": 8, "verbose": 0, "jit_compile": False, **kwargs})


# --- steps by hand ----------------------------------------------------------------------------------------------------

N, RATE = 50, 0.03
BEGINNING = [np.array([1.0, -2.0, 0.5], np.float32), np.array([[3.0]], np.float32)]
GRADIENTS = [[np.array([0.5, 1.0, -2.0], np.float32), np.array([[0.1]], np.float32)],
             [np.array([-1.5, 0.3, 0.7], np.float32), np.array([[-2.0]], np.float32)]]  # fmt: skip


def noise_of(number, step, seed=9):
    bits = counted_bits(BEGINNING[number].shape, (np.uint32(seed), np.uint32(number)), step)
    return standard_normal(bits).numpy()


def two_steps(**kwargs):
    variables = [keras.Variable(value) for value in BEGINNING]
    optimizer = LangevinDynamics(RATE, N, seed=9, **kwargs)
    optimizer.build(variables)
    for gradients in GRADIENTS:
        optimizer.apply([tf.constant(g) for g in gradients], variables)
    return [variable.numpy() for variable in variables]


def by_hand(friction=1.0, temperature=1.0, preconditioned=False, sampled=(0, 1)):
    """The two steps as the papers write them: U = N loss, epsilon = 2 l / N, eta = l / N."""
    found = []
    for number, w in enumerate(BEGINNING):
        v, V = 0.0, 0.0
        w = w.astype(np.float64)
        for step, gradients in enumerate(GRADIENTS):
            g = gradients[number].astype(np.float64)
            V = 0.99 * V + 0.01 * g**2
            G = 1.0 / (1e-5 + np.sqrt(V)) if preconditioned else 1.0
            eta, of_U = RATE / N, N * g
            noise = np.sqrt(2.0 * friction * eta * temperature * G) * noise_of(number, step)
            v = (1.0 - friction) * v - eta * G * of_U + noise * (number in sampled)
            w = w + v
        found.append(w)
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.25}, {"friction": 0.1}, {"preconditioned": True}, {"friction": 0.2, "preconditioned": True},
     {"sampled": [1]}, {"temperature": 0.0, "friction": 0.3}],
)  # fmt: skip
def test_two_steps_are_those_of_the_papers(options):
    for found, expected in zip(two_steps(**options), by_hand(**options), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def test_twin_half_the_noise_is_seen():
    found, expected = two_steps(), by_hand(temperature=0.5)
    assert max(np.abs(f - e).max() for f, e in zip(found, expected, strict=True)) > 1e-3


def test_the_optimizer_is_described_by_its_config():
    optimizer = LangevinDynamics(0.1, 5, 0.3, True, 0.5, [0, 2], 4)
    config = keras.optimizers.serialize(optimizer)
    assert keras.optimizers.deserialize(config).get_config() == optimizer.get_config()


def test_a_model_that_it_trains_is_saved_and_loaded(tmp_path):
    method = chain(SGHMC, preconditioned=True)
    fit(method)
    method.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for mine, its in zip(loaded.optimizer.variables, method.model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), its.numpy())


def test_xla_gives_the_same_chain():
    draws, compiled = fit(chain(SGHMC)), fit(chain(SGHMC), jit_compile=True)
    found = compiled.predict_distribution(toy.X).parameters
    np.testing.assert_allclose(found, draws.predict_distribution(toy.X).parameters, rtol=1e-3, atol=1e-4)


def test_friction_1_is_langevin_dynamics():
    found, expected = fit(chain(SGHMC, friction=1.0)), fit(chain(SGLD))
    np.testing.assert_array_equal(found.predict_distribution(toy.X).parameters,
                                  expected.predict_distribution(toy.X).parameters)  # fmt: skip


# --- the stationary law -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression():
    return blr.example(N=24, D=2)


def stationary(regression, rate, friction):
    """Covariance of w in the full-batch chain, exactly, and how it mixes: S = A S A^T + Q for the state (w, v)."""
    N, D = regression.X.shape
    H, eye = regression.precision / N, np.eye(D)
    A = np.block([[eye - rate * H, (1.0 - friction) * eye], [-rate * H, (1.0 - friction) * eye]])
    Q = np.kron(np.ones((2, 2)), eye) * 2.0 * friction * rate / N
    S = np.linalg.solve(np.eye(4 * D * D) - np.kron(A, A), Q.reshape(-1)).reshape(2 * D, 2 * D)
    return S[:D, :D], np.abs(np.linalg.eigvals(A)).max()


def test_small_steps_have_the_posterior_for_their_stationary_law(regression):
    for friction in (1.0, 0.1):
        found, _ = stationary(regression, 1e-6, friction)
        np.testing.assert_allclose(found, regression.covariance, rtol=2e-4, atol=1e-6)


STEPS = 200  # an epoch: so many copies of the rows, in their order, one copy a batch


def sampled_regression(regression, method, rate, temperature=1.0, epochs=420, **kwargs):
    x, y = oracle.data(regression)
    chain = method(oracle.network(regression), oracle.likelihood(regression), step_size=rate, burn_in=20,
                   temperature=temperature, seed=3, **kwargs)  # fmt: skip
    return chain.fit(np.tile(x, (STEPS, 1)), np.tile(y, STEPS), epochs=epochs, batch_size=len(y), shuffle=False,
                     num_data=len(y), verbose=0)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "rate", "friction"), [(SGLD, 0.03, 1.0), pytest.param(SGHMC, 0.004, 0.2, marks=pytest.mark.slow)]
)
def test_draws_are_those_of_the_chains_exact_stationary_law(regression, method, rate, friction):
    covariance, radius = stationary(regression, rate, friction)
    correlation = radius**STEPS
    assert correlation < 0.7
    effective = 400 * (1.0 - correlation) / (1.0 + correlation)
    own = {} if method is SGLD else {"friction": friction}
    draws = sampled_regression(regression, method, rate, **own)
    found = oracle.errors(draws, regression, regression.mean, covariance, draws.num_draws, effective)
    assert found.worst < oracle.AT_MOST
    hot = sampled_regression(regression, method, rate, temperature=2.0, **own)
    assert oracle.errors(hot, regression, regression.mean, covariance, hot.num_draws, effective).worst > oracle.AT_MOST


@pytest.mark.slow
def test_a_preconditioned_chain_finds_the_posterior_of_badly_scaled_inputs():
    """Where a plain step would be too large for one input or too small for the other; V is nearly constant here."""
    rng = np.random.default_rng(0)
    X = np.column_stack([10.0 * rng.normal(size=24), 0.3 * rng.normal(size=24), np.ones(24)])
    X = X.astype(np.float32).astype(np.float64)
    regression = blr.LinearRegression(X, X @ [0.1, 1.0, -0.5] + 0.5 * rng.normal(size=24), 0.5)
    stddev = np.sqrt(np.diag(regression.covariance))

    def spreads(temperature):
        draws = sampled_regression(regression, SGLD, 2e-3, temperature, preconditioned=True)
        found = oracle.weights(draws, 2, draws.num_draws)
        assert (np.abs(found.mean(axis=0) - regression.mean) < 0.5 * stddev).all()
        return found.std(axis=0) / stddev

    assert all(0.8 < spread < 1.4 for spread in spreads(1.0))  # not 1: the term Gamma is left out, which widens it
    assert (spreads(3.0) > 1.4).all()


# --- what is sampled --------------------------------------------------------------------------------------------------


def test_weights_without_a_prior_and_the_noise_scale_have_no_noise():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), tfbnn.layers.DenseFlipout(1, seed=2)])
    method = chain(network=network)
    fit(method)
    assert len(method.model.trainable_variables) == 5  # the scale, too
    assert method.model.optimizer.sampled == [2, 3]


def test_a_network_without_a_prior_is_refused():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(InvalidInput, match="DenseReparameterization"):
        fit(chain(network=network))


def test_a_network_that_is_built_by_its_first_rows_is_sampled():
    network = keras.Sequential([tfbnn.layers.DenseFlipout(4, activation="tanh"), tfbnn.layers.DenseFlipout(1)])
    assert fit(chain(network=network)).num_draws == 5


# --- schedules --------------------------------------------------------------------------------------------------------


def test_cycles_are_those_of_the_paper():
    """r(k) = mod(k - 1, L) / L; alpha_k = alpha_0 / 2 (cos(pi r) + 1); exploration while r < beta."""
    schedule = Schedule(12, burn_in=0.5, cycles=3)
    for k in range(1, 13):
        r = ((k - 1) % 4) / 4
        assert schedule.share_of_step(k - 1) == pytest.approx(0.5 * (np.cos(np.pi * r) + 1))
        assert schedule.has_noise(k - 1) == (r >= 0.5)
        assert schedule.keeps(k - 1) == (r >= 0.5)


def test_burn_in_and_thinning_in_epochs():
    assert Schedule(10, burn_in=3, thinning=2).draws == [4, 6, 8]
    assert Schedule(10, burn_in=0.5, thinning=1).draws == [5, 6, 7, 8, 9]
    assert Schedule(10, burn_in=0, thinning=5).draws == [4, 9]
    assert Schedule(10, burn_in=2, thinning=1, cycles=2).draws == [2, 3, 4, 7, 8, 9]
    assert all(Schedule(10, burn_in=3).has_noise(epoch) for epoch in range(10))


class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rates, self.temperatures = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.temperatures.append(float(self.model.optimizer._temperature))


def test_the_chain_follows_its_schedule():
    seen = Seen()
    draws = fit(chain(cycles=2, temperature=0.5), epochs=8, callbacks=seen)
    quarters = 0.01 * 0.5 * (np.cos(np.pi * np.arange(4) / 4) + 1.0)
    np.testing.assert_allclose(seen.rates, np.tile(quarters, 2), rtol=1e-5)
    assert seen.temperatures == [0.0, 0.0, 0.5, 0.5] * 2
    assert draws.metadata == {"method": "SGLD", "epochs": [8, 4, 7, 3]}


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8, 100])
def test_the_order_is_a_spread_one(count):
    order = [count - 1 - i for i in spread_over_time(count)]
    assert sorted(order) == list(range(count))
    assert order[0] == count - 1
    for first in (4, 8, 16):
        if count >= 2 * first:
            gaps = np.diff(sorted(order[:first]))
            assert gaps.min() >= max(2, count // (2 * first))


# --- draws ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def draws():
    return fit(chain(SGHMC))


def test_draws_differ_and_follow_the_seed(draws):
    found = draws.predict_distribution(toy.X).parameters
    assert draws.num_draws == 5
    assert np.abs(np.diff(found, axis=0)).max(axis=(1, 2)).min() > 1e-3
    np.testing.assert_array_equal(fit(chain(SGHMC)).predict_distribution(toy.X).parameters, found)
    assert np.abs(fit(chain(SGHMC, seed=8)).predict_distribution(toy.X).parameters - found).max() > 1e-3


def test_saved_and_exported_they_answer_the_same(draws, tmp_path):
    expected = draws.predict_distribution(toy.X)
    draws.save(tmp_path / "draws.keras")
    loaded = tfbnn.load_draws(tmp_path / "draws.keras")
    np.testing.assert_array_equal(loaded.predict_distribution(toy.X).parameters, expected.parameters)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(draws, tmp_path / "model", num_samples=5))
    np.testing.assert_allclose(served.predict(toy.X)["mean"], expected.mean, rtol=1e-5)


def test_a_row_alone_is_as_in_its_batch_and_prefixes_agree(draws):
    batch = draws.predict_distribution(toy.X).parameters
    np.testing.assert_allclose(draws.predict_distribution(toy.X[4:5]).parameters[:, 0], batch[:, 4], rtol=1e-5)
    np.testing.assert_array_equal(draws.predict_distribution(toy.X, 2).parameters, batch[:2])


# --- interrupted ------------------------------------------------------------------------------------------------------


class At(keras.callbacks.Callback):
    """Does something at the begin of an epoch, counted from 0."""

    def __init__(self, epoch, what):
        super().__init__()
        self.epoch, self.what = epoch, what

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.what()


def killed():
    raise RuntimeError("killed")


def ctrl_c():
    raise KeyboardInterrupt


def weights_of(draws):
    return [weight.numpy() for weight in draws.weights]


@pytest.mark.parametrize("killed_at", [pytest.param(1, marks=pytest.mark.slow), 11])
def test_a_resumed_chain_has_the_draws_of_one_that_was_never_interrupted(tmp_path, killed_at):
    options = {"cycles": 2, "preconditioned": True}
    whole = weights_of(fit(chain(SGHMC, **options), epochs=16))
    kept = {"checkpoint": tmp_path / "kept", "checkpoint_every": 4, "epochs": 16}
    with pytest.raises(RuntimeError):
        fit(chain(SGHMC, **options), **kept, callbacks=[At(killed_at, killed)])
    resumed = fit(chain(SGHMC, **options), **kept, resume=True)
    for mine, its in zip(weights_of(resumed), whole, strict=True):
        np.testing.assert_array_equal(mine, its)
    again = fit(chain(SGHMC, **options), **kept, resume=True)  # it is done already
    np.testing.assert_array_equal(weights_of(again)[0], whole[0])


def test_ctrl_c_says_what_is_there_and_where(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        method = chain()
        with pytest.raises(KeyboardInterrupt, match=r"epoch 8 of 10.*resume=True.*3 draws.*in Python, draws_so_far"):
            fit(method, checkpoint=tmp_path, callbacks=[At(7, lambda: signal.raise_signal(signal.SIGINT))])
    finally:
        signal.signal(signal.SIGINT, before)
    assert method.draws_so_far().metadata["epochs"] == [8, 6, 7]
    np.testing.assert_array_equal(weights_of(fit(chain(), checkpoint=tmp_path, resume=True))[0],
                                  weights_of(fit(chain()))[0])  # fmt: skip


def test_an_interrupted_chain_without_checkpoints_keeps_its_draws():
    method = chain()
    with pytest.raises(KeyboardInterrupt, match="2 draws are there"):
        fit(method, callbacks=[At(7, ctrl_c)])
    found = method.draws_so_far().predict_distribution(toy.X).parameters
    whole = fit(chain())
    place = [whole.metadata["epochs"].index(epoch) for epoch in (7, 6)]
    np.testing.assert_array_equal(found, whole.predict_distribution(toy.X).parameters[place])


def test_draws_that_lie_there_are_of_this_chain(tmp_path):
    fit(chain(), checkpoint=tmp_path)
    with pytest.raises(InvalidInput, match="as it was begun"):
        fit(chain(thinning=2), checkpoint=tmp_path, resume=True)
    (tmp_path / "draw-000007.npz").unlink()
    with pytest.raises(InvalidInput, match=r"none of epochs \[7\]"):
        fit(chain(), checkpoint=tmp_path, resume=True)
    assert len(list(tmp_path.glob("draw-*"))) == 4
    fit(chain(), checkpoint=tmp_path)  # anew
    assert len(list(tmp_path.glob("draw-*"))) == 5


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"step_size": 0.0}, "step_size"), ({"burn_in": -1}, "burn_in"), ({"burn_in": 1.5}, "burn_in"),
        ({"thinning": 0}, "thinning"), ({"temperature": -1.0}, "temperature"), ({"cycles": -1}, "cycles"),
        ({"optimizer": "adam"}, "step_size"),
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(arguments, told):
    with pytest.raises(InvalidInput, match=told):
        chain(**arguments)


def test_friction_is_above_0_and_1_at_most():
    for friction in (0.0, 1.5):
        with pytest.raises(InvalidInput, match="friction"):
            chain(SGHMC, friction=friction)


def test_too_few_epochs_are_refused_with_the_number_needed():
    with pytest.raises(InvalidInput, match="12 or more"):
        fit(chain(burn_in=10), epochs=11)
    with pytest.raises(InvalidInput, match="without draws"):
        chain().draws_so_far()


def test_a_chain_that_diverges_names_the_option():
    with pytest.raises(FloatingPointError, match="step_size, 1e"):
        fit(chain(step_size=1e6), epochs=20)
