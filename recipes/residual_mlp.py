"""A builder of your own: a residual network whose last layer is Bayesian.

A recipe names it as `builder: residual_mlp:build`, and it runs only with --allow-imports:

    tfbnn train recipes/residual_mlp.yaml --allow-imports
"""

import keras

import tfbnn


def build(options, num_features, num_outputs, seed):
    """The network [B, num_features] -> [B, num_outputs]; `options` holds the other keys of the recipe's `model`."""
    width, blocks = options.get("width", 16), options.get("blocks", 2)
    initial = [keras.initializers.GlorotUniform(seed + i) for i in range(blocks + 1)]
    inputs = keras.Input((num_features,))
    hidden = keras.layers.Dense(width, kernel_initializer=initial[0])(inputs)
    for i in range(blocks):
        step = keras.layers.Dense(width, activation="relu", kernel_initializer=initial[i + 1])(hidden)
        hidden = keras.layers.Add()([hidden, step])
    outputs = tfbnn.layers.DenseFlipout(num_outputs, kernel_prior_fn=tfbnn.priors.Normal(scale=0.3), seed=seed)(hidden)
    return keras.Model(inputs, outputs)
