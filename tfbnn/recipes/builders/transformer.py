"""Encoders of attention for sequences whose steps are the columns of a table: variational, or by consistent dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import pydantic

from tfbnn import priors
from tfbnn.core.checks import check_share, invalid, one_of
from tfbnn.layers import MCDropout
from tfbnn.recipes.builders.base import (
    OUTPUT,
    Activation,
    BayesianOptions,
    Count,
    chosen,
    in_steps,
    initial_kernels,
    with_posteriors,
)

UNCERTAINTIES = ("variational", "dropout")
MASK = "_mask"


class Options(BayesianOptions):
    """Keys of `model` for builder `transformer`, beside those of `BayesianOptions`.

    Attributes:
        steps: of a sequence; the columns are those of the first step, then those of the next.
        width: units of a step inside the encoder, a multiple of `heads`.
        heads: of the attention in each block.
        blocks: attention, then feed-forward; each normalised before and added to what it was given.
        feed_forward: hidden units of the feed-forward part, the same at all steps.
        activation: of them, a name of `keras.activations`.
        uncertainty: "variational", a posterior over every kernel and bias; or "dropout", points whose units are
            dropped in prediction too, before every chosen layer but the first (BayesFormer): queries, keys, values,
            outputs of the attention, feed-forward. One mask a row serves all its steps. The prior, a Normal, is then a
            penalty, and `estimator` and `posterior` are left out.
        rate: probability that a unit is dropped; of dropout alone.
    """

    steps: Count
    width: Count = 32
    heads: Count = 4
    blocks: Count = 2
    feed_forward: Count = 64
    activation: Activation = "relu"
    uncertainty: str = "variational"
    rate: float = 0.1

    @pydantic.field_validator("uncertainty")
    @classmethod
    def _known_uncertainty(cls, name: str) -> str:
        return one_of("uncertainty", name, UNCERTAINTIES)

    @pydantic.field_validator("rate", mode="before")
    @classmethod
    def _a_share(cls, rate: Any) -> float:
        return check_share("rate", rate)

    @pydantic.model_validator(mode="after")
    def _keys_go_together(self) -> Options:
        if self.width % self.heads:
            raise invalid("heads", f"a number that divides width, {self.width}", self.heads)
        if self.uncertainty == "variational":
            self.refuse_set(("rate",), "because it is of uncertainty: dropout")
        else:
            self.refuse_set(("estimator", "posterior"), "because dropout has points for weights")
            if not isinstance(priors.get(self.prior), priors.Normal):
                raise invalid("prior", "a Normal, of which the penalty of dropout is known", self.prior)
        return self

    def drops(self, name: str) -> bool:
        """Whether units are dropped before the layer of that name."""
        by_word = {"all": True, "last": name == OUTPUT}
        picked = by_word[self.bayesian] if isinstance(self.bayesian, str) else name in self.bayesian
        return self.uncertainty == "dropout" and picked


def build(options: Options, num_features: int, num_outputs: int, seed: int) -> keras.Model:
    """The network [B, D] -> [B, P]: steps embedded at learned positions, blocks, the mean over the steps.

    Args:
        options: keys of `model` in the recipe.
        num_features: D, steps x features of a step.
        num_outputs: P, what the likelihood needs.
        seed: of the initial weights, and of the noise in a plain Keras model.

    Raises:
        InvalidInput: where the steps do not divide D, or estimator, prior and posterior do not go together.

    Reference: Vaswani et al. 2017, "Attention is All You Need"; Sankararaman, Wang & Fang 2022, "BayesFormer:
    Transformer with Uncertainty Estimation".
    """
    inputs, x = in_steps(num_features, options.steps)
    kernels = initial_kernels(seed)

    def dense(x: Any, units: int, name: str, activation: str | None = None) -> Any:
        initial = next(kernels)
        if options.drops(name):
            x = MCDropout(options.rate, seed=initial.seed, name=f"{name}{MASK}")(x)
        return keras.layers.Dense(units, activation, kernel_initializer=initial, name=name)(x)

    # The bias is one a step and unit: the learned position.
    x = keras.layers.EinsumDense("bsf,fw->bsw", (options.steps, options.width), bias_axes="sw",
                                 kernel_initializer=next(kernels), name="embedding")(x)  # fmt: skip
    for i in range(options.blocks):
        x = _plus(x, _attended, options, f"block_{i}_attention", dense)
        x = _plus(x, _fed_forward, options, f"block_{i}_feed_forward", dense)
    x = keras.layers.LayerNormalization(name="normalised")(x)
    x = keras.layers.GlobalAveragePooling1D(name="mean_of_steps")(x)
    network = keras.Model(inputs, dense(x, num_outputs, OUTPUT), name="transformer")
    return _bayesian(network, options, seed)


def _plus(x: Any, part: Callable[..., Any], options: Options, name: str, dense: Callable[..., Any]) -> Any:
    """x + part(normalised x)."""
    normalised = keras.layers.LayerNormalization(name=f"{name}_normalised")(x)
    return keras.layers.Add(name=f"{name}_sum")([x, part(normalised, options, name, dense)])


def _attended(x: Any, options: Options, name: str, dense: Callable[..., Any]) -> Any:
    """softmax(Q K^T / sqrt(d)) V of each head, [B, S, W] -> [B, S, W]."""
    by_head = (options.steps, options.heads, options.width // options.heads)
    query, key, value = (
        keras.layers.Reshape(by_head, name=f"{name}_{role}_heads")(dense(x, options.width, f"{name}_{role}"))
        for role in ("query", "key", "value")
    )
    attended = keras.ops.dot_product_attention(query, key, value)
    joined = keras.layers.Reshape((options.steps, options.width), name=f"{name}_joined")(attended)
    return dense(joined, options.width, f"{name}_output")


def _fed_forward(x: Any, options: Options, name: str, dense: Callable[..., Any]) -> Any:
    """The same two layers at every step, [B, S, W] -> [B, S, W]."""
    hidden = dense(x, options.feed_forward, f"{name}_hidden", options.activation)
    return dense(hidden, options.width, f"{name}_output")


def _bayesian(network: keras.Model, options: Options, seed: int) -> keras.Model:
    names = chosen(network, options.bayesian)
    if options.uncertainty == "variational":
        return with_posteriors(network, names, options, seed)
    points = options.model_copy(update={"posterior": "Deterministic", "estimator": "reparameterization"})
    return _with_priors_of_means(with_posteriors(network, names, points, seed), options.rate)


def _with_priors_of_means(network: keras.Model, rate: float) -> keras.Model:
    """The network with the penalty -log Normal(M; (1 - rate) m, (1 - rate) s^2) of a kernel M behind a mask.

    It is KL(q || p) of W = diag(z) M / (1 - rate) against p(W) = Normal(m, s^2), but for what does not depend on M.
    """

    def changed(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()  # of a function of keras.ops too
        if f"{layer.name}{MASK}" in masks:
            prior = layer.kernel_prior_fn
            of_means = priors.Normal((1.0 - rate) * prior.loc, math.sqrt(1.0 - rate) * prior.scale)
            config["kernel_prior_fn"] = priors.serialize(of_means)
        return type(layer).from_config(config)

    masks = {layer.name for layer in network.layers if isinstance(layer, MCDropout)}
    copy = keras.models.clone_model(network, clone_function=changed)
    copy.set_weights(network.get_weights())
    return copy
