"""Priors of TFP's factory functions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn import priors
from tfbnn.core.checks import InvalidInput

tfd = tfp.distributions


def prior_with(*shapes, trainable=True):
    """A factory whose distribution uses one variable of each shape (None: that of the tensor)."""

    def fn(dtype, shape, name, _, add_variable_fn):
        loc, rho = (
            add_variable_fn(name=f"{name}_{i}", shape=shape if s is None else s, dtype=dtype, trainable=trainable)
            for i, s in enumerate(shapes)
        )
        scale = tfp.util.DeferredTensor(rho, lambda r: tf.nn.softplus(r) + tf.zeros(shape), shape=shape)
        return tfd.Independent(tfd.Normal(loc, scale), len(shape))

    return fn


def test_a_fixed_prior():
    layer = keras.layers.Layer()
    p = priors.get(tfp.layers.default_multivariate_normal_fn).build(layer, "kernel", (2, 3)).distribution()
    np.testing.assert_allclose(p.log_prob(np.ones((2, 3), "f")), 6 * (-0.5 - 0.5 * np.log(2 * np.pi)), rtol=1e-6)
    assert layer.weights == []


def test_a_trainable_mean_and_scale_a_weight_are_refused():
    layer = keras.layers.Layer()
    with pytest.raises(InvalidInput, match=r"`kernel_prior_fn`.*KL optimum is 0.*tfbnn\.priors\.Normal"):
        priors.get(prior_with(None, None)).build(layer, "kernel", (2, 3))


@pytest.mark.parametrize(
    "fn",
    [prior_with(None, ()), prior_with((), None), prior_with((), ()), prior_with(None, None, trainable=False)],
    ids=["one scale", "one mean", "one of each", "both fixed"],
)
def test_fewer_free_parameters_are_taken(fn):
    layer = keras.layers.Layer()
    assert priors.get(fn).build(layer, "kernel", (2, 3)).distribution().event_shape == (2, 3)
