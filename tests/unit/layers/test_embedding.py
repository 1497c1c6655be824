"""Embeddings: points equal Keras', one table serves all rows, masks, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.layers import EmbeddingReparameterization

X = np.array([[1, 2, 0], [4, 1, 0]])


def test_points_are_keras_own_layer():
    plain = keras.layers.Embedding(5, 3)
    layer = EmbeddingReparameterization(5, 3, "Deterministic", kl_weight=0.0)
    plain.build(), layer.build()
    plain.set_weights([layer.weight_posteriors[0].loc.numpy()])
    np.testing.assert_array_equal(layer(X), plain(X))
    assert layer.compute_output_shape((None, 7)) == (None, 7, 3)


def test_equal_numbers_have_equal_vectors_in_one_draw_and_others_in_the_next():
    layer = EmbeddingReparameterization(5, 3, kl_weight=0.0, seed=1)
    first, second = layer(X).numpy(), layer(X).numpy()
    np.testing.assert_array_equal(first[0, 0], first[1, 1])
    assert (first != second).all()


def test_draws_have_the_moments_of_the_table():
    layer = EmbeddingReparameterization(5, 3, kl_weight=0.0, seed=1)
    layer.build()
    layer.weight_posteriors[0].rho.assign(np.random.default_rng(0).uniform(-2, 1, (5, 3)))
    loc, scale = layer.weight_posteriors[0].factorised_gaussian
    draws = np.array([layer(np.arange(5)).numpy() for _ in range(1000)])
    z = (draws - loc.numpy()) / scale.numpy()
    assert np.abs(z.mean(0)).max() < 5 / np.sqrt(1000)
    assert np.abs(z.std(0) - 1).max() < 5 / np.sqrt(2000)


def test_padding_is_skipped_and_the_model_trains_and_exports(tmp_path):
    """Rows are told by whether 3 is among their numbers; what is padded changes nothing."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, 6, (128, 4))
    y = (x == 3).any(axis=1).astype(int)
    layers = [
        EmbeddingReparameterization(6, 4, mask_zero=True, seed=1),
        keras.layers.GlobalAveragePooling1D(),
        tfbnn.layers.DenseFlipout(1, seed=2),
    ]
    network = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Bernoulli(), seed=3)
    model.compile(keras.optimizers.Adam(0.05))
    tfbnn.train(model, x.astype("int32"), y, epochs=60, batch_size=32, verbose=0)
    p = model.predict_distribution(x[:9].astype("int32"), 50).probabilities
    assert ((p[:, 1] > 0.5) == y[:9]).mean() > 0.8
    padded = np.pad(x[:9], [(0, 0), (0, 3)]).astype("int32")
    np.testing.assert_allclose(model.predict_distribution(padded, 50).probabilities, p, atol=1e-5)
    served = tfbnn.load_saved_model(tfbnn.export_saved_model(model, tmp_path / "model", num_samples=50))
    np.testing.assert_allclose(served.predict(x[:9].astype("int32"))["probabilities"], p, atol=1e-5)


def test_half_precision_keeps_whole_numbers():
    layer = EmbeddingReparameterization(5000, 2, "Deterministic", kl_weight=0.0, dtype="mixed_float16")
    vectors = layer(tf.constant([4097.0, 4098.0]))
    assert vectors.dtype == tf.float16
    np.testing.assert_array_equal(vectors, tf.cast(layer.weight_posteriors[0].loc[4097:4099], tf.float16))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: EmbeddingReparameterization(0, 3), "`input_dim`"),
        (lambda: EmbeddingReparameterization(3, 1.5), "`output_dim`"),
        (lambda: EmbeddingReparameterization(3, 2, embeddings_prior_fn=None).build(), "embeddings_prior_fn"),
        (lambda: EmbeddingReparameterization(3, 2)(tf.constant(["a"])), "`inputs`.*string"),
    ],
)
def test_arguments_that_cannot_be_are_refused(make, told):
    with pytest.raises(InvalidInput, match=told):
        make()
