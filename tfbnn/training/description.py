"""What a model is, beside its numbers: its config without the names that Keras counts up."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from tfbnn.training.model import BayesianModel


def described(model: BayesianModel, without: Collection[str] = ()) -> Any:
    """The model's config, equal for models of one make, in another process too; None where it cannot be told.

    Args:
        model: any.
        without: keys that are left out, wherever they stand.
    """
    try:
        config = json.loads(json.dumps(model.get_config()))
    except (NotImplementedError, ValueError, TypeError):  # a network that cannot be described
        return None
    names = {name: f"#{i}" for i, name in enumerate(dict.fromkeys(_names(config)))}
    return _without(config, {"name", *without}, names)


def _names(config: Any) -> list[str]:
    """Names of layers in a config, in their order: Keras counts them up in each process."""
    if isinstance(config, dict):
        own = [config["name"]] if isinstance(config.get("name"), str) else []
        return own + [name for value in config.values() for name in _names(value)]
    return [name for value in config for name in _names(value)] if isinstance(config, list) else []


def _without(config: Any, keys: Collection[str], names: dict[str, str]) -> Any:
    if isinstance(config, dict):
        return {key: _without(value, keys, names) for key, value in config.items() if key not in keys}
    if isinstance(config, list):
        return [_without(value, keys, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config
