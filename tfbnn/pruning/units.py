"""Removes whole hidden units, which makes the network really smaller."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tfbnn import priors
from tfbnn.core.checks import InvalidInput, invalid, one_of
from tfbnn.layers import DenseVariational
from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.convert import PRIOR
from tfbnn.pruning.base import check_share_removed, how_many, weight_tensors, with_network
from tfbnn.training import BayesianModel

SIDES = ("outgoing", "incoming")
UNIT_BY_UNIT = (keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU,
                keras.layers.Dropout, keras.layers.InputLayer)  # fmt: skip


class _Cut(NamedTuple):
    """What is left of a layer: rows of its kernel, and units; None: all."""

    rows: np.ndarray | None
    units: np.ndarray | None

    def of(self, values: np.ndarray) -> np.ndarray:
        """Of values that are [rows, units], or [units]."""
        values = values if self.units is None else values[..., self.units]
        return values if self.rows is None or values.ndim == 1 else values[self.rows]


NOTHING = _Cut(None, None)


def prune_units(model: BayesianModel, share: float, by: str = "outgoing") -> BayesianModel:
    """A smaller model, without the hidden units that matter least: fewer parameters, less to compute.

    A unit's signal is sum_i (mu_i / sigma_i)^2 / 2 over its outgoing (or incoming) weights, its bias not among them,
    nats: log q(mu) - log q(0) of setting them all to 0. In each hidden layer that share of the units, rounded down, is
    removed, so that one unit is left at least. What is left keeps its posterior, so that a unit whose outgoing weights
    were 0 is not missed; by "incoming" weights a unit may go that still adds a constant. Outputs are never removed.

    Args:
        model: a trained `BayesianModel` whose network is a chain of dense layers of tfbnn (between them activations
            and Keras' Dropout), and whose posteriors are factorised Gaussians.
        share: of the units of each hidden layer, 0 or more and less than 1.
        by: "outgoing" or "incoming".

    Returns:
        A `BayesianModel` of a `keras.Sequential`, compiled as the model was, with a new optimizer.

    Raises:
        InvalidInput: for a share outside [0, 1), or a network whose units cannot be cut; it names the layer.

    Example:
        >>> smaller = tfbnn.pruning.prune_units(model, 0.5)
        >>> tfbnn.export_saved_model(smaller, "saved_models/smaller")
    """
    share = check_share_removed("share", share)
    one_of("by", by, SIDES)
    weight_tensors(model)  # refuses other posteriors by name
    chain = _chain(model.network)
    dense = [layer for layer in chain if isinstance(layer, VariationalLayer)]
    if len(dense) < 2:
        raise invalid("model", "a network with a hidden layer", model.network.name)
    kept = [_strongest(_signals(layer, after, by), share) for layer, after in itertools.pairwise(dense)]
    cuts = _cuts(dense, kept)
    layers = [_smaller(layer, cuts.get(layer.name, NOTHING)) for layer in chain]
    network = keras.Sequential([keras.Input(model.network.input_shape[1:]), *layers], name=model.network.name)
    for layer, smaller in zip(chain, layers, strict=True):
        _give(layer, smaller, cuts.get(layer.name, NOTHING))
    return with_network(model, network)


def _chain(network: keras.Model) -> list[keras.layers.Layer]:
    """The layers one after another, the input's own left out."""
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    if not isinstance(network, keras.Sequential) and not _is_chain(network, layers):
        raise _uncuttable("one that joins or branches, or calls a layer twice", network)
    for layer in layers:
        if not isinstance(layer, (VariationalLayer, *UNIT_BY_UNIT)):
            raise _uncuttable(f"layer {layer.name}, a {type(layer).__name__}", network)
    if not isinstance(layers[-1], VariationalLayer):
        raise _uncuttable(f"layer {layers[-1].name} at its end", network)
    return layers


def _is_chain(network: keras.Model, layers: Sequence[keras.layers.Layer]) -> bool:
    """Whether each layer takes the output of the one before."""
    if len(getattr(network, "inputs", None) or []) != 1 or len(network.outputs) != 1:
        return False
    try:
        taken, given = [layer.input for layer in layers], [layer.output for layer in layers]
    except (AttributeError, ValueError):  # Keras: a layer that is called twice has no one input
        return False
    return all(a is b for a, b in zip([*taken, network.outputs[0]], [network.inputs[0], *given], strict=True))


def _uncuttable(received: str, network: keras.Model) -> InvalidInput:
    expected = "a chain of dense layers of tfbnn and of activations, whose units can be removed"
    return invalid("model", expected, f"{network.name} with {received}", "tfbnn.pruning.prune removes single weights.")


def _signals(layer: Any, after: Any, by: str) -> np.ndarray:
    """sum_i (mu_i / sigma_i)^2 / 2 of each unit of a layer, [U]."""
    q = (after if by == "outgoing" else layer).weight_posteriors[0]
    loc, scale = (part.numpy().astype(np.float64) for part in q.factorised_gaussian)
    costs = np.divide(loc, scale, out=np.zeros_like(loc), where=scale > 0) ** 2 / 2
    if by == "outgoing":
        return costs[: layer.units].sum(axis=1)  # of DenseVariational the last row is the bias
    return (costs[:-1] if isinstance(layer, DenseVariational) and layer.use_bias else costs).sum(axis=0)


def _strongest(signals: np.ndarray, share: float) -> np.ndarray:
    """Indices of the units that are left, in their order."""
    return np.sort(np.argsort(signals, kind="stable")[how_many(share, len(signals)) :])


def _cuts(dense: Sequence[Any], kept: Sequence[np.ndarray]) -> dict[str, _Cut]:
    """Name of a layer -> what is left of it, where `kept` has the units of each but the last."""
    cuts = {}
    for layer, inputs, units in zip(dense, [None, *kept], [*kept, None], strict=True):
        if inputs is not None and isinstance(layer, DenseVariational) and layer.use_bias:
            inputs = np.append(inputs, layer.weight_posteriors[0].shape[0] - 1)  # the last row is the bias
        cuts[layer.name] = _Cut(inputs, units)
    return cuts


def _smaller(layer: Any, cut: _Cut) -> keras.layers.Layer:
    """The layer with fewer units, not yet built; its prior, where it varies by position, of what is left."""
    config = layer.get_config()
    if not isinstance(layer, VariationalLayer):
        return type(layer).from_config(config)
    shapes = {q.name: q.shape for q in layer.weight_posteriors}
    for key in [key for key in config if key.endswith(PRIOR) and config[key] is not None]:
        name = "weights" if isinstance(layer, DenseVariational) else key.removesuffix(f"_{PRIOR}")
        if name in shapes:
            config[key] = priors.serialize(_cut_prior(priors.deserialize(config[key]), shapes[name], cut))
    return type(layer).from_config({**config, "units": layer.units if cut.units is None else len(cut.units)})


def _cut_prior(prior: Any, shape: tuple[int, ...], cut: _Cut) -> Any:
    if not isinstance(prior, priors.Normal):
        return prior
    both = prior.loc, prior.scale
    return priors.Normal(*(cut.of(np.broadcast_to(part, shape)) if np.ndim(part) else part for part in both))


def _give(layer: Any, smaller: Any, cut: _Cut) -> None:
    """The values of what is left."""
    shapes = {q.name: q.shape for q in getattr(layer, "weight_posteriors", [])}
    for variable, own in zip(layer.variables, smaller.variables, strict=True):
        values = variable.numpy()
        if values.shape == shapes.get(variable.name.split("_")[0]):
            values = cut.of(values)
        elif values.shape != tuple(own.shape):  # one an input, as the scales of HierarchicalNormal
            values = values[cut.rows]
        own.assign(values)
