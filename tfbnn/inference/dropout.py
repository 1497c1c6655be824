"""Monte Carlo dropout: the posterior of a network whose units are dropped in prediction as in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import priors
from tfbnn.core.checks import check_share, invalid
from tfbnn.core.draws import Draws
from tfbnn.core.traversal import sublayers
from tfbnn.inference.base import Inference, has_dropout
from tfbnn.layers import ConcreteDropout, DenseReparameterization, DenseVariational, MCDropout, VariationalLayer
from tfbnn.layers.convert import described_otherwise, is_layer_of_tfbnn

KERAS = ("Dense", "Conv1D", "Conv2D", "Conv3D")
Change = Callable[[keras.layers.Layer], keras.layers.Layer]


class MonteCarloDropout(Inference):
    """q(w): rows of the kernels are dropped at random, W = diag(z) M / (1 - rate), z ~ Bernoulli(1 - rate).

    The loss is (KL(q || p) - E_q log p(y|X, w)) / N, as far as the KL depends on M. With p(W) = Normal(m, s^2) it is
    -log Normal(M; (1 - rate) m, (1 - rate) s^2) and a constant, so that M has that prior as a penalty. Weights that
    are not dropped (the first layer's, biases) have their own -log p(w), weights of plain Keras layers nothing.

    Args:
        network: Keras model, [B, ...] -> [B, P], of layers of tfbnn or Keras, functional or sequential. In a copy,
            units are dropped before every Dense and Conv layer (not before one inside TimeDistributed or a layer of
            your own) but the first of each path; of layers of tfbnn, posteriors become points. Weights of a plain
            Keras network go over into the copy. A network that has MCDropout or ConcreteDropout is used itself, the
            priors of its points as they are: there, for the loss above, give the kernel behind a rate the prior
            Normal((1 - rate) m, sqrt(1 - rate) s).
        likelihood, optimizer, seed, **kwargs: of `Inference`.
        rate: probability that a unit is dropped, between 0 and 1; with `concrete`, where it begins.
        concrete: each layer's rate is learned (`tfbnn.layers.ConcreteDropout`); priors must be Normal(0, s^2), one
            for kernel and bias; weights of plain Keras layers that are dropped have s = 1.
        drop_inputs: whether the inputs of the first layers are dropped too.

    Raises:
        InvalidInput: where nothing would be dropped, for priors that are not Normal, and for layers of Keras that
            drop in training alone.

    Example:
        >>> draws = tfbnn.inference.MonteCarloDropout(network, "Normal", rate=0.05).fit(x, y, epochs=100)

    Reference: Gal & Ghahramani 2016; Gal, Hron & Kendall 2017.
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any = "adam",
        rate: float = 0.1,
        concrete: bool = False,
        drop_inputs: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, seed, **kwargs)
        self.rate = check_share("rate", rate)
        self.concrete = bool(concrete)
        self.drop_inputs = bool(drop_inputs)
        self.model = self.compiled(network if has_dropout(network) else self._with_dropout())

    def fit(self, x, y=None, epochs=1, batch_size=32, **training) -> Draws:
        """Trains by `tfbnn.train`; returns endless draws, each of one mask."""
        self.train(self.model, x, y, epochs=epochs, batch_size=batch_size, **training)
        return self.model.posterior_draws()

    def _with_dropout(self) -> keras.Model:
        change = self._concrete if self.concrete else self._masked
        copy = described_otherwise(self.points(), lambda described: _dropped(described, self.drop_inputs, change))
        if not has_dropout(copy):
            raise invalid(
                "network",
                "a sequential or functional network with a Dense or Conv layer behind its first one",
                self.network,
                "Set drop_inputs=True, or put tfbnn.layers.MCDropout into the network.",
            )
        if not any(isinstance(layer, VariationalLayer) for layer in sublayers(self.network)):
            _give_weights(self.network, copy)
        return copy

    def _masked(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """The layer behind a mask on its inputs."""
        if isinstance(layer, VariationalLayer):
            layer = _with_prior_of_means(_with_a_kernel(layer), self.rate)
        mask = MCDropout(self.rate, name=f"{layer.name}_mask", dtype=layer.dtype_policy)
        return keras.Sequential([mask, layer], name=layer.name)

    def _concrete(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """The layer with a learned rate."""
        scale = 1.0
        if isinstance(layer, VariationalLayer):
            layer = _with_a_kernel(layer)
            layer, scale = _plain_dense(layer), _common_scale(layer)
        return ConcreteDropout(layer, scale, self.rate, name=layer.name, dtype=layer.dtype_policy)


# --- descriptions of networks -----------------------------------------------------------------------------------------


def _dropped(described: dict, follows: bool, change: Change) -> dict:
    """The description of a network with `change` made to each weight layer that follows another.

    Args:
        described: of a layer or network, as Keras serialises it.
        follows: whether its inputs come from weight layers.
        change: of a layer.
    """
    _refuse_dropout_of_training(described)
    if _is_weight_layer(described):
        return _changed(described, change) if follows else described
    layers = _layers_of(described)
    sources = _sources(described)
    weighted = {_name(layer) for layer in layers if _has_weights(layer)}
    inside = [_dropped(layer, follows or bool(weighted & _upstream(_name(layer), sources)), change) for layer in layers]
    return {**described, "config": {**described["config"], "layers": inside}} if layers else described


def _changed(described: dict, change: Change) -> dict:
    """The layer's description after `change`, at the same place in the network."""
    layer = keras.saving.deserialize_keras_object({k: v for k, v in described.items() if k != "build_config"})
    place = {key: described[key] for key in ("name", "inbound_nodes") if key in described}
    return {**keras.saving.serialize_keras_object(change(layer)), **place}


def _is_weight_layer(described: dict) -> bool:
    if is_layer_of_tfbnn(described):
        return any(key in described["config"] for key in ("kernel_prior_fn", "make_prior_fn"))
    return described.get("module") == "keras.layers" and described["class_name"] in KERAS


def _has_weights(described: Any) -> bool:
    """Whether it is, or holds, a weight layer."""
    if isinstance(described, list | tuple):
        return any(_has_weights(part) for part in described)
    if not isinstance(described, dict):
        return False
    return ("config" in described and _is_weight_layer(described)) or _has_weights(list(described.values()))


def _layers_of(described: dict) -> list[dict]:
    """Descriptions of the layers of a sequential or functional network; of another layer none."""
    layers = (described.get("config") or {}).get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _name(described: dict) -> str:
    return described.get("name") or described["config"]["name"]


def _sources(described: dict) -> dict[str, set[str]]:
    """Name of each layer of a network -> names of the layers whose outputs it takes."""
    layers = _layers_of(described)
    if any("inbound_nodes" in layer for layer in layers):
        return {_name(layer): set(_histories(layer["inbound_nodes"])) for layer in layers}
    names = [_name(layer) for layer in layers]
    return {name: set(names[:i]) for i, name in enumerate(names)}


def _histories(node: Any) -> Iterator[str]:
    """Names of the layers that made the tensors in a functional network's node."""
    if isinstance(node, list | tuple):
        for part in node:
            yield from _histories(part)
    elif isinstance(node, dict):
        if "keras_history" in node:
            yield node["keras_history"][0]
        yield from _histories(list(node.values()))


def _upstream(name: str, sources: dict[str, set[str]]) -> set[str]:
    """All layers that `name` takes something from, itself too where it is called again on what it made."""
    found: set[str] = set()
    waiting = [*sources[name]]
    while waiting:
        source = waiting.pop()
        if source not in found:
            found.add(source)
            waiting += sources.get(source, ())
    return found


def _refuse_dropout_of_training(described: dict) -> None:
    if described.get("module") == "keras.layers" and described["class_name"].endswith("Dropout"):
        raise invalid(
            "network",
            "a network without layers that drop in training alone",
            f"{described['class_name']} {_name(described)}",
            "Leave them out, or put tfbnn.layers.MCDropout in their place.",
        )


# --- layers -----------------------------------------------------------------------------------------------------------


def _with_a_kernel(layer: VariationalLayer) -> VariationalLayer:
    """A layer of tfbnn, whose kernel has a prior of its own."""
    if not isinstance(layer, DenseVariational):
        return layer
    return DenseReparameterization(
        layer.units, layer.activation, layer.use_bias, seed=layer.seed, name=layer.name, dtype=layer.dtype_policy,
        kernel_posterior_fn="Deterministic", bias_posterior_fn="Deterministic",
        kernel_prior_fn=_normal(layer.make_prior_fn), bias_prior_fn=_normal(layer.make_prior_fn),
    )  # fmt: skip


def _with_prior_of_means(layer: VariationalLayer, rate: float) -> VariationalLayer:
    """The layer with the prior of M by which -log p(M) is KL(q || p), where its own prior is Normal(m, s^2).

    E -log p(W) = ((1 - rate) (M / (1 - rate) - m)^2 + rate m^2) / (2 s^2) = (M - (1 - rate) m)^2 / (2 (1 - rate) s^2)
    but for a constant; the entropy of q does not depend on M.
    """
    prior = _normal(layer.kernel_prior_fn)
    if prior is None:
        return layer
    of_means = priors.Normal((1.0 - rate) * prior.loc, math.sqrt(1.0 - rate) * prior.scale)
    return type(layer).from_config({**layer.get_config(), "kernel_prior_fn": priors.serialize(of_means)})


def _normal(prior: Any) -> priors.Normal | None:
    if prior is not None and not isinstance(prior, priors.Normal):
        raise invalid(
            "kernel_prior_fn",
            "Normal or None, because the KL from dropout to other priors has no closed form",
            prior,
            "Or put tfbnn.layers.MCDropout into the network: then the prior of M is the layer's as it is.",
        )
    return prior


def _common_scale(layer: VariationalLayer) -> float:
    """s of the prior Normal(0, s^2) of kernel and bias."""
    prior = _normal(layer.kernel_prior_fn)
    if prior is None or np.any(prior.loc) or np.ndim(prior.scale) or (layer.use_bias and layer.bias_prior_fn != prior):
        raise invalid(
            "kernel_prior_fn",
            "Normal(0, s), and the same as bias_prior_fn, where rates are learned",
            [layer.kernel_prior_fn, layer.bias_prior_fn],
        )
    return float(prior.scale)


def _plain_dense(layer: VariationalLayer) -> keras.layers.Dense:
    if not hasattr(layer, "units"):
        raise invalid("network", "Dense layers, or Conv layers of Keras, where rates are learned", layer)
    initializer = keras.initializers.GlorotUniform(layer.seed)
    return keras.layers.Dense(layer.units, layer.activation, layer.use_bias, initializer, name=layer.name,
                              dtype=layer.dtype_policy)  # fmt: skip


def _give_weights(network: keras.Model, copy: keras.Model) -> None:
    """Gives the copy of a plain Keras network its values, where it has been built."""
    if network.built and copy.built:
        for variable, value in zip(_numbers(copy), _numbers(network), strict=True):
            variable.assign(value)


def _numbers(network: keras.Model) -> list[keras.Variable]:
    floats = [variable for variable in network.variables if tf.as_dtype(variable.dtype).is_floating]
    return [variable for variable in floats if variable.name != "rate_logit"]
