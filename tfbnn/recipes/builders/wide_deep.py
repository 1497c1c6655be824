"""Wide and deep networks for tables: a linear part that remembers, and a deep one that generalises, added."""

from __future__ import annotations

import keras
import pydantic

from tfbnn.recipes.builders.base import (
    OUTPUT,
    Activation,
    BayesianOptions,
    Count,
    Prior,
    chosen,
    initial_kernels,
    with_posteriors,
)

WIDE = "wide"


class Options(BayesianOptions):
    """Keys of `model` for builder `wide_deep`, beside those of `BayesianOptions`, of which `prior` is the deep part's.

    Attributes:
        hidden: units of each hidden layer of the deep part.
        activation: of the hidden layers, a name of `keras.activations`.
        wide_prior: of the kernel of the wide part; none: as `prior`. It has no bias: that of `output` is enough.

    "last" is `wide` and `output`, the two layers that are added.
    """

    hidden: list[Count] = pydantic.Field([32, 16])
    activation: Activation = "relu"
    wide_prior: Prior = None


def build(options: Options, num_features: int, num_outputs: int, seed: int) -> keras.Model:
    """The network [B, D] -> [B, P]: wide(x) + output(hidden(x)).

    Args:
        options: keys of `model` in the recipe.
        num_features: D.
        num_outputs: P, what the likelihood needs.
        seed: of the initial weights, and of the noise in a plain Keras model.

    Raises:
        InvalidInput: where estimator, prior and posterior do not go together.

    Reference: Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems".
    """
    kernels = initial_kernels(seed)
    deep = inputs = keras.Input((num_features,), name="features")
    for i, units in enumerate(options.hidden):
        deep = keras.layers.Dense(units, options.activation, kernel_initializer=next(kernels), name=f"hidden_{i}")(deep)
    deep = keras.layers.Dense(num_outputs, kernel_initializer=next(kernels), name=OUTPUT)(deep)
    wide = keras.layers.Dense(num_outputs, use_bias=False, kernel_initializer=next(kernels), name=WIDE)(inputs)
    network = keras.Model(inputs, keras.layers.Add(name="sum")([wide, deep]), name="wide_deep")
    return _with_two_priors(network, options, seed)


def _with_two_priors(network: keras.Model, options: Options, seed: int) -> keras.Model:
    names = chosen(network, options.bayesian, last=(WIDE, OUTPUT))
    wide_prior = options.prior if options.wide_prior is None else options.wide_prior
    of_wide = options.model_copy(update={"prior": wide_prior})
    if WIDE in names:
        network = with_posteriors(network, [WIDE], of_wide, seed)
    deep = [name for name in names if name != WIDE]
    return with_posteriors(network, deep, options, seed + 1) if deep else network
