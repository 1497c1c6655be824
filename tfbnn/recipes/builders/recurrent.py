"""Recurrent networks for sequences whose steps are the columns of a table."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import pydantic

from tfbnn.core.checks import one_of
from tfbnn.recipes.builders.base import (
    OUTPUT,
    BayesianOptions,
    Count,
    chosen,
    in_steps,
    initial_kernels,
    with_posteriors,
)

CELLS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


class Options(BayesianOptions):
    """Keys of `model` for builder `recurrent`, beside those of `BayesianOptions`.

    Attributes:
        steps: of a sequence; the columns are those of the first step, then those of the next.
        cell: "lstm" or "gru". One draw of its weights serves all steps.
        units: of each recurrent layer; the last one's state after the last step goes on.
        bidirectional: whether each layer has as many units again that read from the last step to the first.
    """

    steps: Count
    cell: str = "lstm"
    units: list[Count] = pydantic.Field([32], min_length=1)
    bidirectional: bool = False

    @pydantic.field_validator("cell")
    @classmethod
    def _known_cell(cls, name: str) -> str:
        return one_of("cell", name, CELLS)


def build(options: Options, num_features: int, num_outputs: int, seed: int) -> keras.Model:
    """The network [B, D] -> [B, P].

    Args:
        options: keys of `model` in the recipe.
        num_features: D, steps x features of a step.
        num_outputs: P, what the likelihood needs.
        seed: of the initial weights, and of the noise in a plain Keras model.

    Raises:
        InvalidInput: where the steps do not divide D, or estimator, prior and posterior do not go together.
    """
    inputs, x = in_steps(num_features, options.steps)
    kernels = initial_kernels(seed)
    for i in range(len(options.units)):
        x = _recurrent(options, i, kernels)(x)
    outputs = keras.layers.Dense(num_outputs, kernel_initializer=next(kernels), name=OUTPUT)(x)
    network = keras.Model(inputs, outputs, name="recurrent")
    return with_posteriors(network, chosen(network, options.bayesian), options, seed)


def _recurrent(options: Options, i: int, kernels: Iterator[keras.initializers.Initializer]) -> keras.layers.Layer:
    """Layer i, which gives its state after each step, or, the last one, after the last."""
    last = i == len(options.units) - 1

    def layer(name: str, backwards: bool = False) -> keras.layers.Layer:
        initial = next(kernels)
        return CELLS[options.cell](
            options.units[i], return_sequences=not last, go_backwards=backwards, name=name,
            kernel_initializer=initial, recurrent_initializer=keras.initializers.Orthogonal(seed=initial.seed),
        )  # fmt: skip

    name = f"recurrent_{i}"
    if not options.bidirectional:
        return layer(name)
    return keras.layers.Bidirectional(layer(f"{name}_on"), backward_layer=layer(f"{name}_back", True), name=name)
