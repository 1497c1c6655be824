"""Noise: what its numbers are, what fixes them, and how a Plan and a Tape carry them to the layers."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core import noise
from tfbnn.core.checks import InvalidInput
from tfbnn.layers import DenseFlipout, DenseLocalReparameterization, DenseReparameterization


def seed(number=0):
    return noise.seed_pair(number)


# --- normals from bits ------------------------------------------------------------------------------------------------


def normals_of(bits):
    return tf.math.ndtri(noise.unit_interval(tf.constant(bits, tf.int32))).numpy()


def test_extreme_bits_give_finite_normals_that_end_at_5_3_sigma():
    ends = normals_of([-(2**31), -1, 0, 2**31 - 1])
    np.testing.assert_allclose(ends[[0, 3]], [-5.2947, 5.2947], atol=1e-4)
    assert np.isfinite(ends).all()


def test_uniforms_are_the_centres_of_equal_cells():
    bits = np.array([-(2**31), -(2**31) + 512, -1, 0, 2**31 - 1])
    k = (bits >> 9) + 2**22
    np.testing.assert_array_equal(noise.unit_interval(tf.constant(bits, tf.int32)), ((k + 0.5) / 2**23).astype("f"))


def test_normals_are_symmetric_to_the_last_bits():
    bits = np.random.default_rng(0).integers(-(2**31), 2**31, 10_000)
    np.testing.assert_allclose(normals_of(bits), -normals_of(-1 - bits), rtol=2e-6, atol=2e-7)


# n = 10^6. Bounds are 5 standard errors: a false alarm in 6 of 10^7 runs for each statistic (the seed is fixed, so
# never or always). Seen for sure (with 5 more): a mean off by 0.01, a variance off by 0.014, a kurtosis off by 0.05.
NUM_NORMALS = 1_000_000
STANDARD_ERRORS = {"mean": 1.0, "variance": 2.0**0.5, "kurtosis": 96.0**0.5}


def moments_off(z):
    """Each statistic's distance from that of a standard normal, in its standard errors."""
    z = np.asarray(z, np.float64)
    found = {"mean": z.mean(), "variance": (z**2).mean() - 1, "kurtosis": (z**4).mean() - 3}
    return {name: abs(found[name]) / (STANDARD_ERRORS[name] / z.size**0.5) for name in found}


def source_of(kind):
    if kind == "generated":
        return noise.Generated(keras.random.SeedGenerator(3))
    return noise.Seeded(seed(3), [])


@pytest.mark.parametrize("kind", ["generated", "seeded"])
def test_normals_have_the_moments_of_a_standard_normal(kind):
    z = source_of(kind).normal("w", [NUM_NORMALS])
    assert np.isfinite(z).all()
    assert max(moments_off(z).values()) < 5


@pytest.mark.parametrize(
    "wrong",
    [
        lambda rng: rng.standard_normal(NUM_NORMALS) + 0.01,
        lambda rng: 1.01 * rng.standard_normal(NUM_NORMALS),
        lambda rng: np.sqrt(12) * (rng.random(NUM_NORMALS) - 0.5),
        lambda rng: np.sqrt(20 / 22) * rng.standard_t(22, NUM_NORMALS),
    ],
    ids=["shifted", "wide", "uniform", "heavy tails"],
)
def test_twin_moments_tell_wrong_noise(wrong):
    assert max(moments_off(wrong(np.random.default_rng(0))).values()) > 5


@pytest.mark.parametrize("kind", ["generated", "seeded"])
def test_signs_are_fair(kind):
    signs = source_of(kind).rademacher("s", [NUM_NORMALS]).numpy()
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 5 / NUM_NORMALS**0.5  # false alarm 6e-7; sees a bias of 0.01


# --- what fixes the numbers -------------------------------------------------------------------------------------------


def test_generated_noise_differs_between_calls_and_repeats_with_the_seed():
    source, again = source_of("generated"), source_of("generated")
    first, second = source.normal("w", [4]), source.normal("w", [4])
    assert not np.isin(first, second).any()
    np.testing.assert_array_equal(again.normal("w", [4]), first)
    np.testing.assert_array_equal(again.normal("w", [4]), second)


def test_seeded_noise_is_fixed_by_seed_layer_and_tensor():
    layers = [keras.layers.Dense(1), keras.layers.Dense(1)]

    def draw(number, layer, name):
        return noise.Seeded(seed(number), layers).for_layer(layer).normal(name, [4]).numpy()

    draws = [
        draw(0, layers[0], "kernel"),
        draw(1, layers[0], "kernel"),
        draw(0, layers[1], "kernel"),
        draw(0, layers[0], "bias"),
    ]
    assert len(np.unique(draws)) == 16
    np.testing.assert_array_equal(draw(0, layers[0], "kernel"), draws[0])


@pytest.mark.parametrize("number", [5, -1, 2**31 - 1, -(2**31)])
def test_seeded_noise_is_the_same_in_a_graph_and_compiled(number):
    def draw():
        return noise.Seeded(noise.fold_in(seed(number), 3), []).normal("w", [3, 7])

    np.testing.assert_array_equal(tf.function(draw)(), draw())
    np.testing.assert_allclose(tf.function(draw, jit_compile=True)(), draw(), atol=2e-5)


def test_blocks_are_the_same_compiled():
    def draw():
        return noise.normal_from_bits([10, 4], noise.fold_in(noise.seed_of_tensor(seed(5), 1, "kernel"), 2))

    np.testing.assert_allclose(tf.function(draw, jit_compile=True)(), draw(), atol=2e-5)


def test_all_seeds_differ():
    pairs = [tuple(seed(number).numpy()) for number in (0, 1, -1, 2**31 - 1, -(2**31))]
    assert len(set(pairs)) == 5


@pytest.mark.parametrize("wrong", [1.5, "a", True, None, 2**31, -(2**31) - 1])
def test_seeds_that_int32_does_not_hold_are_refused(wrong):
    with pytest.raises(InvalidInput, match="`seed`"):
        noise.check_seed("seed", wrong)


def test_a_layer_that_the_model_does_not_track_is_named():
    layer = keras.layers.Dense(1, name="stray")
    with pytest.raises(InvalidInput, match="stray"):
        noise.Seeded(seed(), []).for_layer(layer)


def test_no_source_outside_a_scope():
    layer, generator = keras.layers.Dense(1), keras.random.SeedGenerator(0)
    with noise.noise_scope(noise.Seeded(seed(), [layer])):
        assert isinstance(noise.noise_for(layer, generator), noise.Seeded)
    assert isinstance(noise.noise_for(layer, generator), noise.Generated)


# --- replicas ---------------------------------------------------------------------------------------------------------

REPLICAS = textwrap.dedent("""
    import sys
    import keras
    import tensorflow as tf
    from tfbnn.core import noise

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    if "unfolded" in sys.argv:
        noise._fold_in_replica = lambda seed: seed
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        generator = keras.random.SeedGenerator(0)

    @tf.function
    def draw():
        return strategy.run(lambda: noise.Generated(generator).normal("w", [4]))

    first, second = [replica.numpy().tolist() for replica in strategy.experimental_local_results(draw())]
    print("differ" if not set(first) & set(second) else "same" if first == second else "partly")
""")


@pytest.mark.parametrize(("argument", "expected"), [("folded", "differ"), ("unfolded", "same")])
def test_replicas_draw_their_own_noise(argument, expected):
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, argument], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == expected


# --- Plan and Tape ----------------------------------------------------------------------------------------------------


def plan_of(network, x, coupling="marginal"):
    layers = [network, *network.layers]
    return noise.Plan.of(lambda x: network(x, training=False), x, layers, coupling)


def test_a_plan_remembers_what_each_layer_asks_for():
    network = keras.Sequential([keras.Input((3,)), DenseFlipout(2), DenseReparameterization(1)])
    x = tf.ones([5, 3])
    marginal, coherent = plan_of(network, x), plan_of(network, x, "coherent")
    assert set(marginal.requests) == {(1, "outputs"), (2, "outputs")}
    assert set(coherent.requests) == {(1, "kernel"), (1, "bias"), (2, "kernel"), (2, "bias")}
    assert marginal.draw_block(marginal.seeds(seed()), tf.constant(0))[1, "outputs"].shape == (
        noise.DRAWS_PER_BLOCK,
        1,
        2,
    )
    assert coherent.draw_block(coherent.seeds(seed()), tf.constant(0))[1, "kernel"].shape == (
        noise.DRAWS_PER_BLOCK,
        3,
        2,
    )


def test_blocks_are_fixed_by_their_number_and_all_draws_differ():
    network = keras.Sequential([keras.Input((3,)), DenseFlipout(2)])
    plan = plan_of(network, tf.ones([5, 3]))
    first = plan.draw_block(plan.seeds(seed(7)), tf.constant(0))[1, "outputs"].numpy()
    second = plan.draw_block(plan.seeds(seed(7)), tf.constant(1))[1, "outputs"].numpy()
    np.testing.assert_array_equal(plan.draw_block(plan.seeds(seed(7)), tf.constant(0))[1, "outputs"], first)
    assert len(np.unique([first, second])) == first.size + second.size


def laplace_posterior(dtype, shape, name, trainable, add_variable_fn):
    loc = add_variable_fn(f"{name}_loc", shape, initializer="zeros", dtype=dtype, trainable=trainable)
    return tfp.distributions.Independent(tfp.distributions.Laplace(loc, 1.0), len(shape))


def plan_of_training(*layers):
    network = keras.Sequential([keras.Input((3,)), *layers])
    plan = noise.Plan(network.layers, coupling=None)
    with noise.noise_scope(plan):
        network(tf.ones([5, 3]), training=False)
    return plan


def test_a_plan_of_training_asks_as_the_layers_estimators_do():
    """A row has noise of its own where the estimator gives it one."""
    plan = plan_of_training(DenseLocalReparameterization(2), DenseReparameterization(1))
    shapes = {key: list(request.shape) for key, request in plan.requests.items()}
    assert shapes == {(0, "outputs"): [5, 2], (1, "kernel"): [2, 1], (1, "bias"): [1]}
    assert plan.size == 10 + 2 + 1
    assert not plan.follows_weights


def test_draws_of_a_plan_are_fixed_by_their_seed_and_all_differ():
    plan = plan_of_training(DenseLocalReparameterization(2), DenseReparameterization(1))
    drawn = plan.noise(plan.bits(seed(7), 4))
    assert {key: value.shape[0] for key, value in drawn.items()} == dict.fromkeys(plan.requests, 4)
    again, other = (plan.noise(plan.bits(seed(number), 4)) for number in (7, 8))
    for key, value in drawn.items():
        np.testing.assert_array_equal(again[key], value)
        assert not np.intersect1d(other[key], value).size
    every = np.concatenate([value.numpy().ravel() for value in drawn.values()])
    assert len(np.unique(every)) == every.size


def test_noise_that_follows_the_weights_is_drawn_by_the_tapes_seed():
    layer = DenseReparameterization(2, kernel_posterior_fn=laplace_posterior, bias_posterior_fn="Deterministic")
    plan = plan_of_training(layer)
    assert plan.follows_weights
    assert plan.bits(seed(), 3) == {}
    assert plan.size == 0

    def answer(number):
        with noise.noise_scope(noise.Tape({}, [layer], seed=seed(number))):
            return layer(tf.ones([1, 3]), training=False).numpy()

    np.testing.assert_array_equal(answer(1), answer(1))
    assert not np.intersect1d(answer(1), answer(2)).size


def test_a_layer_that_is_called_twice_uses_one_weight_draw():
    shared = DenseFlipout(3)
    inputs = keras.Input((3,))
    network = keras.Model(inputs, keras.layers.Dense(1)(shared(shared(inputs))))
    plan = noise.Plan.of(network, tf.ones([5, 3]), [shared], "marginal")
    assert set(plan.requests) == {(0, "kernel"), (0, "bias")}
    assert plan.coupling_of(0) == "coherent"


def test_a_layer_on_inputs_of_rank_3_uses_one_weight_draw():
    network = keras.Sequential([keras.Input((4, 3)), DenseFlipout(2)])
    plan = plan_of(network, tf.ones([5, 4, 3]))
    assert set(plan.requests) == {(1, "kernel"), (1, "bias")}


def test_a_layer_whose_row_was_folded_into_the_batch_uses_one_weight_draw():
    inputs = keras.Input((4, 3))
    folded = DenseFlipout(2)
    whole = DenseFlipout(2)
    steps = keras.ops.reshape(folded(keras.ops.reshape(inputs, (-1, 3))), (-1, 8))
    network = keras.Model(inputs, whole(steps))
    plan = noise.Plan.of(network, tf.ones([5, 4, 3]), [folded, whole], "marginal")
    assert set(plan.requests) == {(0, "kernel"), (0, "bias"), (1, "outputs")}


def test_one_pass_gives_every_layer_its_own_noise_and_every_call_the_same():
    layers = [DenseReparameterization(1, seed=0), DenseReparameterization(1, seed=0)]
    generator = keras.random.SeedGenerator(3)

    def passes():
        with noise.one_pass(generator, layers):
            return [noise.noise_for(layer, None).normal("kernel", [5]).numpy() for layer in (*layers, layers[0])]

    first, other, again = passes()
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).min() > 0
    assert np.abs(passes()[0] - first).min() > 0


def test_one_pass_leaves_a_source_that_is_set():
    layer = keras.layers.Dense(1)
    tape = noise.Tape({(0, "kernel"): [1.0]}, [layer])
    with noise.noise_scope(tape), noise.one_pass(keras.random.SeedGenerator(0), [layer]):
        np.testing.assert_array_equal(noise.noise_for(layer, None).normal("kernel", [1]), [1.0])


def test_a_tape_gives_back_what_it_holds():
    layers = [keras.layers.Dense(1), keras.layers.Dense(1)]
    tape = noise.Tape({(1, "kernel"): [1.0, 2.0]}, layers)
    np.testing.assert_array_equal(tape.for_layer(layers[1]).normal("kernel", [2]), [1.0, 2.0])
    assert tape.for_layer(layers[1]).coupling is None


def test_noise_whose_shape_holds_the_batch_is_refused_in_prediction():
    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def ask(x):
        return noise.Plan([None], "marginal").for_layer(None).normal("w", tf.shape(x))

    with pytest.raises(InvalidInput, match="without the batch size"):
        ask(tf.ones([2, 3]))


def test_an_unknown_coupling_is_refused_by_name():
    with pytest.raises(InvalidInput, match="'marginal'"):
        noise.Plan([], "margnal")


# --- members of an ensemble -------------------------------------------------------------------------------------------


class OfMembers(keras.layers.Layer):
    """Tells which of three members computes each row, beside a draw of a normal."""

    def call(self, inputs):
        source = noise.noise_for(self, None)
        return tf.cast(source.member(3, inputs), tf.float32) + 0.0 * inputs[:, 0] + 0.0 * source.normal("w", [])


def test_in_training_rows_have_members_by_their_place_whatever_the_source():
    layer, x = OfMembers(), tf.ones([7, 2])
    for source in (noise.Seeded(seed(1), [layer]), noise.Tape({(0, "w"): 0.0}, [layer]), noise.Plan([layer], None)):
        with noise.noise_scope(source):
            np.testing.assert_array_equal(layer(x), [0, 1, 2, 0, 1, 2, 0])
    generated = noise.Generated(keras.random.SeedGenerator(0))
    np.testing.assert_array_equal(generated.member(2, x), [0, 1, 0, 1, 0, 1, 0])


@pytest.mark.parametrize("coupling", ["marginal", "coherent"])
def test_in_prediction_a_draw_is_of_one_member_by_its_number(coupling):
    layer, x = OfMembers(), tf.ones([4, 2])
    plan = noise.Plan.of(layer, x, [layer], coupling)
    for block in (0, 1, 7):
        for number in (5, 6):  # no seed plays a part
            drawn = plan.draw_block(plan.seeds(seed(number)), tf.constant(block))[0, noise.MEMBER]
            np.testing.assert_array_equal(drawn, (10 * block + np.arange(10)) % 3)
    with noise.noise_scope(plan.tape({(0, noise.MEMBER): tf.constant(2), (0, "w"): tf.constant(0.0)})):
        np.testing.assert_array_equal(layer(x), [2, 2, 2, 2])


def test_a_member_is_neither_random_bits_nor_of_the_weights():
    layer = OfMembers()
    plan = noise.Plan.of(layer, tf.ones([4, 2]), [layer], "marginal")
    assert not plan.follows_weights
    assert plan.size == 1
    assert set(plan.bits(seed(), 3)) == set(plan.noise(plan.bits(seed(), 3))) == {(0, "w")}
    training = noise.Plan([layer], None)
    with noise.noise_scope(training):
        layer(tf.ones([4, 2]))
    assert set(training.requests) == {(0, "w")}


def test_training_on_folded_rows_is_refused():
    layers = [OfMembers(), OfMembers()]
    with noise.noise_scope(noise.Plan(layers, None)):
        layers[0](tf.ones([8, 2]))
        with pytest.raises(InvalidInput, match="the same rows"):
            layers[1](tf.ones([4, 2]))


def test_a_plan_makes_32_signs_of_a_word():
    bits = np.array([[0, -1, 1], [2**31 - 1, -(2**31), 5]], np.int32)
    expected = 2.0 * ((bits.view(np.uint32)[..., None] >> np.arange(32, dtype=np.uint32)) & 1) - 1.0
    np.testing.assert_array_equal(noise.signs(tf.constant(bits)), expected.reshape(2, 96))
    layer = keras.layers.Layer()
    plan = noise.Plan([layer], coupling=None)
    plan.for_layer(layer).rademacher("s", [50, 7])
    assert plan.size == 11  # words, for 350 signs
    drawn = plan.noise(plan.counted_bits(tf.constant([3, 4]), tf.constant(0), 200))[0, "s"].numpy()
    assert drawn.shape == (200, 50, 7)
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    assert np.abs(drawn.mean(axis=0)).max() < 5 * 200**-0.5  # of 350 signs, five standard errors
    assert np.abs(np.corrcoef(drawn.reshape(200, -1).T) - np.eye(350)).max() < 6 * 200**-0.5
