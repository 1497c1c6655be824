"""The multi-layer perceptron for tables."""

from __future__ import annotations

from typing import Literal

import keras
import pydantic

from tfbnn import layers
from tfbnn.core.checks import InvalidInput, invalid, one_of
from tfbnn.recipes.builders.base import NARROW, OUTPUT, Activation, Posterior, Prior, of_the_key

LAYERS = ("DenseFlipout", "DenseLocalReparameterization", "DenseReparameterization", "DenseVariational")


class Options(pydantic.BaseModel):
    """Keys of `model` for builder `mlp`.

    Attributes:
        hidden: units of each hidden layer; none: a linear model.
        activation: of the hidden layers, a name of `keras.activations`.
        layer: class of the Bayesian layers.
        prior, posterior: of their kernel and bias: a name, or a mapping with `class` and arguments. A prior of none
            goes with posterior Deterministic alone. The default, Normal of scale 0.3, is narrow because weights are
            not scaled by the width: with scale 1 and many units, small data leave the posterior at the prior.
        bayesian: which layers are: "all", "last", or their indices, counted from 0; the others are plain.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    hidden: list[pydantic.PositiveInt] = [20]
    activation: Activation = "relu"
    layer: str = "DenseFlipout"
    prior: Prior = NARROW
    posterior: Posterior = "MeanField"
    bayesian: Literal["all", "last"] | list[pydantic.NonNegativeInt] = "all"

    @pydantic.field_validator("layer")
    @classmethod
    def _known_layer(cls, name: str) -> str:
        return one_of("layer", name, LAYERS)

    @pydantic.model_validator(mode="after")
    def _bayesian_layers_exist(self) -> Options:
        last = len(self.hidden)
        if isinstance(self.bayesian, list) and (not self.bayesian or max(self.bayesian) > last):
            raise invalid("bayesian", f"'all', 'last', or indices of layers from 0 to {last}", self.bayesian)
        return self


def build(options: Options, num_features: int, num_outputs: int, seed: int) -> keras.Model:
    """The network [B, D] -> [B, P]: hidden layers, then `num_outputs` linear units.

    Args:
        options: keys of `model` in the recipe.
        num_features: D.
        num_outputs: P, what the likelihood needs.
        seed: of the initial weights and of the noise in training.

    Raises:
        InvalidInput: where layer, prior and posterior do not go together.
    """
    units = [*options.hidden, num_outputs]
    activations = [options.activation] * len(options.hidden) + [None]
    names = [f"hidden_{i}" for i in range(len(options.hidden))] + [OUTPUT]
    network = keras.Sequential([keras.Input((num_features,))], name="mlp")
    for i, (width, activation, name) in enumerate(zip(units, activations, names, strict=True)):
        make = _bayesian_layer if _is_bayesian(options, i) else _plain_layer
        try:
            network.add(make(options, width, activation, seed=seed + i, name=name))
        except InvalidInput as error:
            raise of_the_key(error) from None
    return network


def _is_bayesian(options: Options, i: int) -> bool:
    if isinstance(options.bayesian, list):
        return i in options.bayesian
    return options.bayesian == "all" or i == len(options.hidden)


def _plain_layer(options: Options, units: int, activation: str | None, seed: int, name: str) -> keras.layers.Layer:
    return keras.layers.Dense(units, activation, kernel_initializer=keras.initializers.GlorotUniform(seed), name=name)


def _bayesian_layer(options: Options, units: int, activation: str | None, seed: int, name: str) -> keras.layers.Layer:
    if options.layer == "DenseVariational":
        parts = {"make_posterior_fn": options.posterior, "make_prior_fn": options.prior}
    else:
        parts = {f"{tensor}_posterior_fn": options.posterior for tensor in ("kernel", "bias")}
        parts |= {f"{tensor}_prior_fn": options.prior for tensor in ("kernel", "bias")}
    return getattr(layers, options.layer)(units, activation=activation, seed=seed, name=name, **parts)
