"""Configs without the names that Keras counts up."""

import keras
import pytest

import tfbnn
from tfbnn.training.description import described
from toy import model_of, network


def test_names_that_keras_counts_up_tell_nothing():
    assert model_of().name != model_of().name
    assert described(model_of()) == described(model_of())


def test_twin_what_layers_do_is_told():
    assert described(model_of()) != described(model_of(network(activation="relu")))
    assert described(model_of()) != described(model_of(network(kernel_prior_fn=tfbnn.priors.Normal(scale=0.3))))


def test_keys_may_be_left_out_and_names_tell_layers_that_are_shared():
    assert described(model_of(seed=1)) != described(model_of(seed=2))
    assert described(model_of(seed=1), numbers=False) == described(model_of(seed=2), numbers=False)

    def twice(shared):
        first, second = keras.layers.Dense(3), keras.layers.Dense(3)
        x = keras.Input((3,))
        return described(model_of(keras.Model(x, keras.layers.Dense(1)((first if shared else second)(first(x))))))

    assert twice(shared=True) == twice(shared=True)
    assert twice(shared=True) != twice(shared=False)


def test_a_network_without_a_config_is_not_told():
    class Own(keras.Model):
        def __init__(self, width):
            super().__init__()
            self.dense = tfbnn.layers.DenseFlipout(width)

        def call(self, x):
            return self.dense(x)

    assert described(model_of(Own(1))) is None


@keras.saving.register_keras_serializable("test_description")
class Scaled(keras.layers.Layer):
    """A layer whose `beta` and `seed` are part of its graph."""

    def __init__(self, beta=1.0, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.beta, self.seed = beta, seed

    def call(self, x):
        return self.beta * x + self.seed

    def get_config(self):
        return {**super().get_config(), "beta": self.beta, "seed": self.seed}


@pytest.mark.parametrize("argument", ["beta", "seed"])
def test_numbers_of_a_users_own_layer_are_told(argument):
    models = [model_of(keras.Sequential([keras.Input((3,)), Scaled(**{argument: value})])) for value in (1, 2)]
    assert described(models[0], numbers=False) != described(models[1], numbers=False)


def test_initial_values_are_no_part_of_the_graph():
    posteriors = [tfbnn.posteriors.MeanField("glorot_normal", -3.0), tfbnn.posteriors.MeanField(initial_rho=-4.0)]
    models = [model_of(network(kernel_posterior_fn=posterior)) for posterior in posteriors]
    assert described(models[0]) != described(models[1])
    assert described(models[0], numbers=False) == described(models[1], numbers=False)
