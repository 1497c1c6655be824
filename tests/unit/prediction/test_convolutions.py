"""Convolutions of all draws at once: the same numbers as draw by draw; and what all draws share is computed once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.core import noise
from tfbnn.prediction import convolutions, monte_carlo
from tfbnn.prediction.stored_draws import StoredDraws, drawn_variables

K, L = keras.layers, tfbnn.layers
IMAGES = np.random.default_rng(0).random((5, 8, 8, 2), np.float32)
WIDE = {"kernel_posterior_fn": tfbnn.posteriors.MeanField(initial_rho=-1.0), "seed": 1}


def chain(*layers):
    return keras.Sequential([keras.Input((8, 8, 2)), *layers])


def lenet():
    return chain(
        L.Conv2DFlipout(3, 3, padding="same", activation="relu", **WIDE), K.MaxPooling2D(2), K.Dropout(0.5),
        L.Conv2DReparameterization(4, 3, use_bias=False, **WIDE), K.Activation("tanh"), K.AveragePooling2D(2),
        K.Flatten(), L.DenseFlipout(3),
    )  # fmt: skip


def behind_a_plain_trunk():
    return chain(
        K.Conv2D(3, 3, activation="softmax"), K.BatchNormalization(),
        L.Conv2DLocalReparameterization(4, 2, strides=2, activation="elu", **WIDE), K.ReLU(),
        L.Conv2DFlipout(2, 2, dilation_rate=2, **WIDE), K.GlobalAveragePooling2D(), K.Dense(3),
    )  # fmt: skip


def functional():
    network = lenet()
    return keras.Model(network.inputs[0], network.outputs[0])


def with_another_convolution_behind():
    return chain(
        L.Conv2DFlipout(3, 3, **WIDE), L.Conv2DFlipout(4, 2, groups=1, activation="softmax", **WIDE),
        K.Flatten(), L.DenseReparameterization(3),
    )  # fmt: skip


FOLDED = [lenet, behind_a_plain_trunk, functional, with_another_convolution_behind]


def branches():
    inputs = keras.Input((8, 8, 2))
    h = L.Conv2DFlipout(2, 3, padding="same", **WIDE)(inputs)
    return keras.Model(inputs, K.Dense(3)(K.Flatten()(K.Add()([inputs, h]))))


class OwnModel(keras.Model):
    """With a call that the layers' order does not tell."""

    def __init__(self, inner):
        super().__init__(inner.inputs, inner.outputs)

    def call(self, inputs, training=None, mask=None):
        return super().call(2.0 * inputs, training=training)


def in_groups():
    return chain(L.Conv2DFlipout(4, 3, groups=2, **WIDE), K.Flatten(), K.Dense(3))


def channels_first():
    return chain(L.Conv2DFlipout(4, (3, 1), data_format="channels_first", **WIDE), K.Flatten(), K.Dense(3))


def over_all_channels():
    return chain(L.Conv2DFlipout(4, 3, activation="softmax", **WIDE), K.Flatten(), K.Dense(3))


def random_before():
    return chain(L.MCDropout(0.5), L.Conv2DFlipout(4, 3, **WIDE), K.Flatten(), K.Dense(3))


def called_again():
    inputs = keras.Input((8, 8, 2))
    same = K.Activation("tanh")
    h = same(L.Conv2DFlipout(2, 3, **WIDE)(same(inputs)))
    return keras.Model(inputs, K.Dense(3)(K.Flatten()(h)))


def two_outputs_of_one():
    inputs = keras.Input((8, 8, 2))
    h = L.Conv2DFlipout(2, 3, padding="same", **WIDE)(inputs)
    return keras.Model(inputs, K.Dense(3)(K.Flatten()(keras.ops.add(h, h))))


ONE_BY_ONE = [
    called_again,
    two_outputs_of_one,
    branches,
    lambda: OwnModel(lenet()),
    in_groups,
    channels_first,
    over_all_channels,
    random_before,
]


def parameters(draws, coupling="marginal"):
    """Of 17 draws in two blocks, traced anew."""
    return tf.function(lambda x: draws.apply(x, 3, 4, 17, coupling), autograph=False)(tf.constant(IMAGES)).numpy()


def draws_of(network):
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(3), num_data=1, seed=1).posterior_draws()


def ensemble():
    """Three settings of a plain network."""
    network, likelihood = chain(K.Conv2D(3, 3, activation="relu"), K.Conv2D(2, 2), K.Flatten(), K.Dense(3)), None
    likelihood = tfbnn.likelihoods.Categorical(3)
    rng = np.random.default_rng(1)
    shapes = [variable.shape for variable in drawn_variables(network, likelihood)]
    return StoredDraws(network, likelihood, [[rng.normal(size=shape) for shape in shapes] for _ in range(3)], True)


def ensemble_of_posteriors():
    """Three settings of a network that has posteriors itself: means and scales differ from draw to draw."""
    network, likelihood = lenet(), tfbnn.likelihoods.Categorical(3)
    rng = np.random.default_rng(1)
    shapes = [variable.shape for variable in drawn_variables(network, likelihood)]
    return StoredDraws(network, likelihood, [[rng.normal(size=shape) for shape in shapes] for _ in range(3)], True)


def both(make, slow=True):
    """With each coupling; what it shows, others show too."""
    marks = [pytest.mark.slow] if slow else []
    return [pytest.param(make, coupling, marks=marks, id=f"{make.__name__}-{coupling}")
            for coupling in ("marginal", "coherent")]  # fmt: skip


def of_network(make):
    made = lambda: draws_of(make())  # noqa: E731
    made.__name__ = make.__name__
    return made


@pytest.mark.parametrize(
    ("make", "coupling"),
    [
        *both(of_network(lenet), slow=False),
        *(case for make in FOLDED[1:] for case in both(of_network(make))),
        *both(ensemble),
        *both(ensemble_of_posteriors, slow=False),
    ],
)
def test_all_at_once_is_as_one_by_one(make, coupling, monkeypatch):
    """Float32 sums in another order; with other kernels the answers would differ by tenths."""
    keras.utils.set_random_seed(0)
    draws = make()
    assert convolutions.ConvolutionalHead.of(draws.network, [v for v, _ in draws.drawn(tf.constant([0, 1]), 0)])
    at_once = parameters(draws, coupling)
    monkeypatch.setattr(monte_carlo.ConvolutionalHead, "of", lambda *_: None)
    one_by_one = parameters(draws, coupling)
    np.testing.assert_allclose(at_once, one_by_one, rtol=2e-5, atol=2e-5)
    assert np.abs(one_by_one[0] - one_by_one[1]).max() > 0.05


@pytest.mark.parametrize("make", ONE_BY_ONE)
def test_what_does_not_fit_goes_one_by_one(make):
    network = make()
    assert convolutions.ConvolutionalHead.of(network) is None


@pytest.mark.slow
@pytest.mark.parametrize("make", ONE_BY_ONE)
def test_what_goes_one_by_one_is_the_same_when_it_is_asked_again(make):
    """Else something random would run where no seed reaches it."""
    draws = draws_of(make())
    found = parameters(draws)
    np.testing.assert_array_equal(parameters(draws), found)
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize("make", [lenet, functional])
def test_a_loaded_network_has_the_same_head_and_the_same_bits(make, tmp_path):
    model = tfbnn.BayesianModel(make(), tfbnn.likelihoods.Categorical(3), num_data=1, seed=1)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert convolutions.ConvolutionalHead.of(again.network)
    np.testing.assert_array_equal(parameters(again.posterior_draws()), parameters(model.posterior_draws()))


def test_whole_numbers_are_taken_as_the_network_takes_them():
    draws, bytes_ = draws_of(lenet()), np.uint8(9.0 * IMAGES)
    as_floats = draws.apply(tf.constant(bytes_, tf.float32), 1, 0, 10)
    np.testing.assert_array_equal(draws.apply(tf.constant(bytes_), 1, 0, 10), as_floats)


class Counter(keras.layers.Layer):
    """The identity, which counts how often it runs."""

    calls = 0

    def _count(self, x):
        self.calls += 1
        return x

    def call(self, inputs):
        outputs = tf.numpy_function(self._count, [inputs], tf.float32, stateful=False)
        outputs.set_shape(inputs.shape)
        return outputs


def head_of(name):
    heads = {
        "dense": [L.DenseFlipout(3)],
        "dropout": [L.MCDropout(0.5), K.Dense(3)],
        "any layer": [L.Variational(K.Dense(3))],
    }
    return heads[name]


@pytest.mark.parametrize("name", ["dense", "dropout", "any layer"])
def test_the_trunk_runs_once_for_all_draws(name):
    counter = Counter()
    draws = draws_of(keras.Sequential([keras.Input((4,)), counter, *head_of(name)]))
    apply = tf.function(lambda x: draws.apply(x, 1, 0, 100), autograph=False)
    x = tf.constant(np.random.default_rng(0).random((6, 4), np.float32))
    apply(x)
    counter.calls = 0
    outputs = apply(x).numpy()
    assert counter.calls == 1
    assert np.abs(outputs[0] - outputs[-1]).max() > 1e-3


def test_behind_noise_there_is_no_trunk():
    counter = Counter()
    draws = draws_of(keras.Sequential([keras.Input((4,)), L.MCDropout(0.5), counter, L.DenseFlipout(3)]))
    apply = tf.function(lambda x: draws.apply(x, 1, 0, 100), autograph=False)
    apply(tf.ones([6, 4]))
    counter.calls = 0
    apply(tf.ones([6, 4]))
    assert counter.calls == 100


def called_twice():
    inputs = keras.Input((4,))
    layer = L.DenseReparameterization(4, **WIDE)
    return keras.Model(inputs, K.Dense(3)(layer(K.Activation("tanh")(layer(inputs)))))


def deep():
    return keras.Sequential([keras.Input((4,)), K.Dense(5), L.DenseFlipout(4, **WIDE), L.DenseFlipout(3, **WIDE)])


def two_branches():
    inputs = keras.Input((4,))
    wide, hidden = L.DenseFlipout(3, **WIDE)(inputs), L.DenseFlipout(5, **WIDE)(K.Dense(4)(inputs))
    return keras.Model(inputs, K.Add()([wide, L.Variational(K.Dense(3))(hidden)]))


@pytest.mark.parametrize("make", [called_twice, deep, two_branches])
def test_what_is_shared_changes_no_number(make, monkeypatch):
    keras.utils.set_random_seed(0)
    draws, x = draws_of(make()), np.random.default_rng(0).random((6, 4), np.float32)
    shared = tf.function(lambda: draws.apply(tf.constant(x), 1, 0, 20), autograph=False)().numpy()
    monkeypatch.setattr(noise.Plan, "is_common", lambda *_: False)
    again = tf.function(lambda: draws.apply(tf.constant(x), 1, 0, 20), autograph=False)()
    np.testing.assert_allclose(again, shared, rtol=1e-5, atol=1e-5)
    assert np.abs(shared[0] - shared[1]).max() > 0.05
