"""What a model is, beside its numbers: its config without the names that Keras counts up."""

from __future__ import annotations

import json
from typing import Any

from tfbnn.training.model import BayesianModel

GIVEN_TO_THE_GRAPH = ("seed", "num_data", "num_samples", "beta")  # of a BayesianModel
ONLY_INITIAL = ("seed", "initial_rho", "initial_scale", "loc_initializer")  # of layers, posteriors and priors


def described(model: BayesianModel, numbers: bool = True) -> Any:
    """The model's config, equal for models of one make, in another process too; None where it cannot be told.

    Args:
        model: any.
        numbers: whether it tells the numbers that the graph of a step takes from variables or is given: seeds,
            initial values, N, beta.
    """
    try:
        config = json.loads(json.dumps(model.get_config()))
    except (NotImplementedError, ValueError, TypeError):  # a network that cannot be described
        return None
    names = {name: f"#{i}" for i, name in enumerate(dict.fromkeys(_names(config)))}
    if not numbers:
        config = _without_initial({key: value for key, value in config.items() if key not in GIVEN_TO_THE_GRAPH})
    return _without_names(config, names)


def _without_initial(config: Any) -> Any:
    """Configs of Keras' and tfbnn's own objects without what only their variables begin with."""
    if isinstance(config, list):
        return [_without_initial(value) for value in config]
    if not isinstance(config, dict):
        return config
    if isinstance(config.get("config"), dict) and _is_known(config):
        kept = {key: value for key, value in config["config"].items() if key not in ONLY_INITIAL}
        config = {**config, "config": kept}
    return {key: _without_initial(value) for key, value in config.items()}


def _is_known(described: dict[str, Any]) -> bool:
    named = (described.get("registered_name") or "", described.get("module") or "")
    return named[0].startswith("tfbnn.") or named[1].split(".")[0] == "keras"


def _names(config: Any) -> list[str]:
    """Names of layers in a config, in their order: Keras counts them up in each process."""
    if isinstance(config, dict):
        own = [config["name"]] if isinstance(config.get("name"), str) else []
        return own + [name for value in config.values() for name in _names(value)]
    return [name for value in config for name in _names(value)] if isinstance(config, list) else []


def _without_names(config: Any, names: dict[str, str]) -> Any:
    if isinstance(config, dict):
        return {key: _without_names(value, names) for key, value in config.items() if key != "name"}
    if isinstance(config, list):
        return [_without_names(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config
