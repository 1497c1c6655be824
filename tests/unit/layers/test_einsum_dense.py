"""Dense layers of an equation: points equal Keras', moments of explicit draws, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfbnn import layers
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, noise_scope, seed_pair

RNG = np.random.default_rng(0)
CLASSES = [
    getattr(layers, f"EinsumDense{name}") for name in ("Reparameterization", "LocalReparameterization", "Flipout")
]
EQUATIONS = {
    "ab,bc->ac": ((4,), {"output_shape": 3, "bias_axes": "c"}),
    "abc,cd->abd": ((5, 4), {"output_shape": (None, 3), "bias_axes": "d"}),
    "...x,xy->...y": ((2, 5, 4), {"output_shape": 3, "bias_axes": "y"}),
    "abc,cde->abde": ((5, 4), {"output_shape": (None, 2, 3), "bias_axes": "de"}),
    "abcd,cde->abe": ((5, 2, 4), {"output_shape": (None, 3)}),
}


def made(cls, equation, **more):
    return cls(equation, **EQUATIONS[equation][1], kl_weight=0.0, seed=1, **more)


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("cls", CLASSES)
def test_points_are_keras_own_layer(cls, equation):
    x = RNG.standard_normal((3, *EQUATIONS[equation][0])).astype("f")
    points = {"kernel_posterior_fn": "Deterministic", "bias_posterior_fn": "Deterministic"}
    layer = made(cls, equation, activation="tanh", **points)
    plain = keras.layers.EinsumDense(equation, activation="tanh", **EQUATIONS[equation][1])
    layer.build(x.shape), plain.build(x.shape)
    for q in layer.weight_posteriors:
        q.loc.assign(RNG.standard_normal(q.shape))
    plain.set_weights([q.loc.numpy() for q in layer.weight_posteriors])
    np.testing.assert_allclose(layer(x, training=True), plain(x), atol=1e-6)
    assert tuple(layer.compute_output_shape(x.shape)) == tuple(plain(x).shape)
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("equation", ["abc,cde->abde", "abcd,cde->abe"])
@pytest.mark.parametrize("cls", CLASSES)
def test_each_output_has_the_moments_of_explicit_draws(cls, equation):
    """5,000 draws: means within 5 standard errors, standard deviations within 5 of theirs."""
    x = RNG.standard_normal((2, *EQUATIONS[equation][0])).astype("f")
    layer = made(cls, equation)
    layer.build(x.shape)
    for q in layer.weight_posteriors:
        q.loc.assign(RNG.standard_normal(q.shape))
        q.rho.assign(RNG.uniform(-1, 1, q.shape))
    pairs = [q.factorised_gaussian for q in layer.weight_posteriors]
    ones = [tf.ones([1] * x.ndim)] * (len(pairs) - 1)
    mean = layer._einsum([x, *ones], [loc for loc, _ in pairs])
    stddev = tf.sqrt(layer._einsum([x**2, *ones], [scale**2 for _, scale in pairs]))

    def one(seed):
        with noise_scope(Seeded(seed, [layer])):
            return layer(x, training=True)

    draws = tf.function(lambda seeds: tf.map_fn(one, seeds, fn_output_signature=tf.float32))
    z = (draws(tf.stack([seed_pair(i) for i in range(5000)])) - mean) / stddev
    assert np.abs(np.mean(z, axis=0)).max() < 5 / np.sqrt(5000)
    assert np.abs(np.std(z, axis=0) - 1).max() < 5 / np.sqrt(2 * 5000)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: layers.EinsumDenseFlipout("abc->abd", (None, 3)), "`equation`.*of the form"),
        (lambda: layers.EinsumDenseFlipout("ab,ac->bc", 3), "`equation`.*axis of the rows"),
        (lambda: layers.EinsumDenseFlipout("abc,bd->adc", (3, None)), "`equation`.*EinsumDenseReparameterization"),
        (lambda: layers.EinsumDenseFlipout("abc,cd->abd", (None, 3)).build((None, 4)), "`equation`.*that goes with"),
    ],
)
def test_equations_that_cannot_be_are_refused(make, told):
    with pytest.raises(InvalidInput, match=told):
        make()
    layers.EinsumDenseReparameterization("abc,bd->adc", (3, None))
