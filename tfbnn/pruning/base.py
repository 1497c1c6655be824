"""What is pruned: the tensors of a model whose weights are independent Gaussians."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from tfbnn.core.checks import InvalidInput, finite_number, invalid
from tfbnn.posteriors import WeightPosterior
from tfbnn.training import BayesianModel
from tfbnn.training.posterior_summary import signal_to_noise


class WeightTensor(NamedTuple):
    """A tensor of weights.

    Attributes:
        name: `LAYER/TENSOR`.
        layer: number of the layer among those with a posterior.
        q: its posterior.
        is_bias: bool of its shape.
    """

    name: str
    layer: int
    q: WeightPosterior
    is_bias: np.ndarray

    def signal_to_noise(self) -> np.ndarray:
        """|loc| / scale of each weight; 0 of one that was removed."""
        loc, scale = self.q.factorised_gaussian  # type: ignore[misc]
        return signal_to_noise(loc.numpy(), scale.numpy())


def weight_tensors(model: Any) -> list[WeightTensor]:
    """The tensors of a model, in the order of its layers.

    Raises:
        InvalidInput: for what is no built BayesianModel, has no posterior, or one that is no factorised Gaussian.
    """
    if not isinstance(model, BayesianModel):
        raise invalid("model", "a BayesianModel", model)
    layers = model.variational_layers
    if not any(layer.weight_terms for layer in layers):
        mend = "Use layers of tfbnn, as DenseFlipout, and train them first."
        raise invalid("model", "a built network whose layers have a posterior", model.network.name, mend)
    tensors = []
    for number, (name, layer) in enumerate(zip(layer_names(layers), layers, strict=True)):
        for q in layer.weight_posteriors:
            if q.factorised_gaussian is None or q.is_point:
                raise _no_gaussian(name, q)
            tensors.append(WeightTensor(f"{name}/{q.name}", number, q, _is_bias(layer, q)))
    return tensors


def layer_names(layers: list[keras.layers.Layer]) -> list[str]:
    """A name for each layer; one that stands twice (in nested networks) gains its number."""
    names: list[str] = []
    for number, layer in enumerate(layers):
        names.append(f"{layer.name}_{number}" if layer.name in names else layer.name)
    return names


def _no_gaussian(layer: str, q: WeightPosterior) -> InvalidInput:
    received = "a point" if q.is_point else type(q.distribution()).__name__
    mend = "MeanField has one; a point has no noise to compare the weight with."
    return invalid(f"{q.name} of layer {layer}", "a posterior that is a factorised Gaussian", received, mend)


def _is_bias(layer: Any, q: WeightPosterior) -> np.ndarray:
    """`bias`, and of DenseVariational, whose one tensor is `weights`, the last row."""
    found = np.full(q.shape, q.name == "bias")
    if q.name == "weights" and layer.use_bias:
        found[-1] = True
    return found


def check_share_removed(where: str, share: Any) -> float:
    """Returns a share from 0 to less than 1; raises for others."""
    number = finite_number(where, share)
    if not 0.0 <= number < 1.0:
        raise invalid(where, "a number from 0 to less than 1, as something must be left", share)
    return number


def how_many(share: float, count: int) -> int:
    """The share of `count`, rounded down; 0.29 of 100 are 29, though 0.29 * 100 is 28.999999999999996."""
    return int(np.floor(share * count + 1e-6))


def with_network(model: BayesianModel, network: keras.Model) -> BayesianModel:
    """The model on another network, whose values it takes over; compiled as the model was, with a new optimizer."""
    config = {**model.get_config(), "network": keras.saving.serialize_keras_object(network)}
    other = BayesianModel.from_config(config)
    other.network.set_weights(network.get_weights())
    other.likelihood.set_weights(model.likelihood.get_weights())
    if model.num_data is not None:
        other.num_data = model.num_data
    if model.compiled:
        other.compile_from_config(model.get_compile_config())
    return other
