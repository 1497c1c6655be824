"""Parts that a recipe names: a class of tfbnn and its arguments, never anything that Python would import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tfbnn.core.checks import invalid


def check_named(where: str, identifier: Any, get: Callable[[Any], Any]) -> Any:
    """Returns `identifier`; raises unless `get` makes an object of it.

    Keras' own configs (`class_name`, `module`) are refused: Keras imports what they name.

    Args:
        where: key of the recipe.
        identifier: a name, or a mapping with `class` and arguments.
        get: of the family, for example `tfbnn.priors.get`.

    Raises:
        InvalidInput: for anything else, an unknown name, or arguments that the class refuses.
    """
    is_mapping = isinstance(identifier, Mapping)
    if identifier is None or (is_mapping and not _is_class_and_arguments(identifier)):
        expected = "a name, or a mapping with `class` and arguments, for example {class: NAME, argument: value}"
        raise invalid(where, expected, dict(identifier) if is_mapping else identifier)
    get(identifier)
    return identifier


def _is_class_and_arguments(mapping: Mapping[Any, Any]) -> bool:
    keys_are_text = all(isinstance(key, str) for key in mapping)
    return keys_are_text and isinstance(mapping.get("class"), str) and "class_name" not in mapping


def as_number(value: Any) -> float | None:
    """`value` where it is a number or the text of one (YAML reads 1e-3, without a point, as text), else None."""
    if isinstance(value, int | float):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None
