"""Continual learning: yesterday's posterior is today's prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfbnn import posteriors, priors
from tfbnn.core.checks import InvalidInput, factory_argument, invalid
from tfbnn.core.positive import inverse_positive
from tfbnn.core.traversal import sublayers
from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.convert import copied
from tfbnn.training.model import BayesianModel

Gaussians = Mapping[str, tuple[np.ndarray, np.ndarray]]  # tensor of a layer -> (loc, scale)


def posterior_as_prior(network: keras.Model, yesterday: BayesianModel | Sequence[Gaussians]) -> keras.Model:
    """A copy of the network that begins where yesterday's training ended: p_t(w) = q_{t-1}(w) = q_t(w) at first.

    Each weight's prior is Normal with the mean and scale that its posterior had: what the earlier rows determined is
    held, what they left open is free. It must be trained on new rows alone, as the prior has the earlier ones. Inputs
    and targets must be standardised as they were, and the likelihood should begin as it ended.

    Args:
        network: a built network of the same layers, with MeanField posteriors; its own priors are replaced.
        yesterday: the trained model; or, a mapping a layer, name of the tensor ("kernel") -> (loc, scale), arrays of
            the tensor's shape, scales above 0.

    Returns:
        The network, its posteriors at its priors: KL(q || p) = 0 but for rounding.

    Raises:
        InvalidInput: where layers or shapes differ, a posterior is no factorised Gaussian or its weights were pruned,
            or the network has weights without a posterior, which would forget.

    Example:
        >>> network = posterior_as_prior(yesterday.network, yesterday)
        >>> today = tfbnn.BayesianModel(network, yesterday.likelihood)

    Reference: Nguyen et al. 2018, "Variational Continual Learning", equation 2.
    """
    gaussians = gaussians_of(yesterday) if isinstance(yesterday, BayesianModel) else list(yesterday)
    layers = _layers(network)
    _refuse_plain_weights(network, layers)
    if len(layers) != len(gaussians):
        raise invalid("yesterday", f"a posterior for {len(layers)} layers", f"one for {len(gaussians)}")
    for layer, tensors in zip(layers, gaussians, strict=True):
        _check_tensors(layer, tensors)
    by_name = {layer.name: (layer, tensors) for layer, tensors in zip(layers, gaussians, strict=True)}
    if len(by_name) < len(layers):
        raise invalid("network", "layers of different names", [layer.name for layer in layers])
    today = copied(network, change=lambda described: _with_priors(described, by_name))
    for layer, tensors in zip(_layers(today), gaussians, strict=True):
        for q in layer.weight_posteriors:
            loc, scale = tensors[q.name]
            q.loc.assign(loc)  # type: ignore[attr-defined]
            q.rho.assign(inverse_positive(np.asarray(scale, np.float64)))  # type: ignore[attr-defined]
    return today


def gaussians_of(model: BayesianModel) -> list[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Means and scales of a trained model: a mapping a layer, name of the tensor -> (loc, scale).

    Raises:
        InvalidInput: where there is none, or a posterior is no factorised Gaussian.
    """
    layers = _layers(model.network)
    return [{q.name: _gaussian(layer, q) for q in layer.weight_posteriors} for layer in layers]


def _layers(network: keras.Model) -> list[VariationalLayer]:
    found = [layer for layer in sublayers(network) if isinstance(layer, VariationalLayer)]
    if not any(layer.weight_terms for layer in found):
        raise invalid("network", "a built network whose layers have a posterior", network.name)
    return found


def _gaussian(layer: VariationalLayer, q: posteriors.WeightPosterior) -> tuple[np.ndarray, np.ndarray]:
    if q.factorised_gaussian is None or q.is_point:
        received = "a point" if q.is_point else type(q.distribution()).__name__
        raise invalid(f"{q.name} of layer {layer.name}", "a posterior that is a factorised Gaussian", received)
    loc, scale = q.factorised_gaussian
    return loc.numpy(), scale.numpy()


def _check_tensors(layer: VariationalLayer, tensors: Gaussians) -> None:
    shapes = {q.name: tuple(q.shape) for q in layer.weight_posteriors}
    given = {name: np.shape(loc) for name, (loc, _) in tensors.items()}
    if shapes != given:
        told = ", ".join(f"{name} {list(shape)}" for name, shape in given.items()) or "none"
        wanted = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        mend = "Both networks must have the same layers and the same inputs."
        raise invalid("yesterday", f"for layer {layer.name} the posterior of {wanted}", told, mend)
    for name, (_, scale) in tensors.items():
        if np.shape(scale) != shapes[name] or not np.all(np.asarray(scale) > 0):
            mend = "Weights that were pruned have no posterior to go on from."
            raise invalid("yesterday", f"scales above 0 for {name} of layer {layer.name}", "others", mend)


def _refuse_plain_weights(network: keras.Model, layers: Sequence[VariationalLayer]) -> None:
    have_posteriors = {id(variable) for layer in layers for variable in layer.trainable_variables}
    plain = [variable.path for variable in network.trainable_variables if id(variable) not in have_posteriors]
    if plain:
        expected = "a posterior for all weights: those without one would forget what they learned"
        raise invalid("network", expected, f"plain weights, {plain[0]} the first", "Make all layers Bayesian.")


def _with_priors(described: dict, by_name: Mapping[str, tuple[VariationalLayer, Gaussians]]) -> dict:
    if described["config"]["name"] not in by_name:  # a layer without posteriors, as MCDropout
        return described
    layer, tensors = by_name[described["config"]["name"]]
    config = dict(described["config"])
    for q in layer.weight_posteriors:
        if not _is_mean_field(config[factory_argument(layer, q.name, "posterior")]):
            raise _no_mean_field(layer, q.name)
        config[factory_argument(layer, q.name, "prior")] = priors.serialize(priors.Normal(*tensors[q.name]))
    return {**described, "config": config}


def _is_mean_field(described: Any) -> bool:
    return isinstance(keras.saving.deserialize_keras_object(described), posteriors.MeanField)


def _no_mean_field(layer: VariationalLayer, name: str) -> InvalidInput:
    where = factory_argument(layer, name, "posterior")
    return invalid(where, "MeanField, which can begin at another's mean and scale", f"another, of layer {layer.name}")
