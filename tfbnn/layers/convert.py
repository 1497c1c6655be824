"""A network with other posteriors, all else the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfbnn import posteriors, priors
from tfbnn.core.checks import invalid

LAYERS, POSTERIOR, PRIOR = "tfbnn.layers>", "posterior_fn", "prior_fn"  # how registered names begin, arguments end


def as_points(network: keras.Model, seed: int | None = None) -> keras.Model:
    """A copy of the network with a point for every posterior: w is what is trained, priors are penalties -log p(w).

    Args:
        network: Keras model that can be described (`get_config`): functional and sequential ones can.
        seed: shifts the seeds of all initial values, so that copies begin apart; None: they begin alike.

    Returns:
        The copy, with new initial weights.

    Raises:
        InvalidInput: where the network cannot be described, or a prior does not go with points.

    Example:
        >>> points = as_points(keras.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(1)]))
    """
    return copied(network, seed, point_posteriors)


def copied(network: keras.Model, seed: int | None = None, change: Callable[[dict], dict] | None = None) -> keras.Model:
    """A copy of the network, with new initial weights.

    Args:
        network: Keras model that can be described.
        seed: as in `as_points`.
        change: of the description of each layer of tfbnn, as Keras serialises it; returns another.
    """
    return described_otherwise(network, lambda described: _changed(described, change or _same), seed)


def described_otherwise(network: keras.Model, change: Callable[[dict], dict], seed: int | None = None) -> keras.Model:
    """The network of another description, with new initial weights.

    Args:
        network: Keras model that can be described.
        change: of the description of the whole network, as Keras serialises it; returns another.
        seed: as in `as_points`.
    """
    try:
        described = keras.saving.serialize_keras_object(network)
    except (NotImplementedError, ValueError, TypeError) as error:
        raise invalid("network", "a network that can be copied, by its get_config", network, f"{error}") from None
    changed = change(described)
    return keras.saving.deserialize_keras_object(changed if seed is None else _reseeded(changed, seed))


def is_layer_of_tfbnn(described: Any) -> bool:
    """Whether a description is that of a layer of tfbnn."""
    return isinstance(described, dict) and str(described.get("registered_name") or "").startswith(LAYERS)


def point_posteriors(described: dict) -> dict:
    """The description of a layer of tfbnn with points for posteriors."""
    points = posteriors.serialize(posteriors.Deterministic())
    config = {key: points if key.endswith(POSTERIOR) and value is not None else value
              for key, value in described["config"].items()}  # fmt: skip
    return {**described, "config": config}


def anchored_points(described: dict) -> dict:
    """The description of a layer of tfbnn with points for posteriors and, for its priors, ones about their own draws.

    Raises:
        InvalidInput: for priors that are not Normal.
    """
    config = {key: _anchored(value) if key.endswith(PRIOR) and value is not None else value
              for key, value in described["config"].items()}  # fmt: skip
    return point_posteriors({**described, "config": config})


def _anchored(prior: Any) -> Any:
    found = priors.deserialize(prior)
    if isinstance(found, priors.AnchoredNormal):
        return prior
    if not isinstance(found, priors.Normal) or np.ndim(found.loc) or np.ndim(found.scale):
        raise invalid("network", "priors that are Normal, of one mean and scale, from which anchors are drawn", found)
    return priors.serialize(priors.AnchoredNormal(float(found.loc), float(found.scale)))


def _same(described: dict) -> dict:
    return described


def _changed(described: Any, change: Callable[[dict], dict]) -> Any:
    """`described` with `change` made to each layer of tfbnn in it, inner ones first."""
    if isinstance(described, list | tuple):
        return [_changed(part, change) for part in described]
    if not isinstance(described, dict):
        return described
    inside = {key: _changed(value, change) for key, value in described.items()}
    return change(inside) if is_layer_of_tfbnn(inside) else inside


def _reseeded(described: Any, seed: int) -> Any:
    """Another seed for whatever has one: layers and Keras' initializers."""
    if isinstance(described, list | tuple):
        return [_reseeded(part, seed) for part in described]
    if not isinstance(described, dict):
        return described
    return {key: (value + 1_000_003 * seed) % 2**31 if key == "seed" and isinstance(value, int) else
            _reseeded(value, seed) for key, value in described.items()}  # fmt: skip
