"""Builders: recipe options -> Keras network. One file a builder, one line in the table."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from tfbnn.core.checks import invalid, unknown_name
from tfbnn.recipes.builders import mlp


class Builder(NamedTuple):
    """How a network is built.

    Attributes:
        options: pydantic model of the keys beside `builder`; None: any keys.
        build: (options, num_features, num_outputs, seed) -> network [B, D] -> [B, P].
    """

    options: type[pydantic.BaseModel] | None
    build: Callable[..., Any]


BUILDERS = {"mlp": Builder(mlp.Options, mlp.build)}


def find(name: str, allow_imports: bool = False, folder: Path | None = None) -> Builder:
    """The builder of that name, or, where imports are allowed, the function that `module:function` names.

    Args:
        name: a name of `BUILDERS`, or `module:function`.
        allow_imports: whether a recipe may run Python code.
        folder: where the module may lie, beside what is installed: the recipe's.

    Raises:
        InvalidInput: where it is not found, or not allowed.
    """
    if name in BUILDERS:
        return BUILDERS[name]
    if ":" not in name:
        raise unknown_name("model.builder", name, BUILDERS)
    if not allow_imports:
        raise invalid(
            "model.builder",
            f"one of {', '.join(BUILDERS)}",
            name,
            "It names Python code, which a recipe runs only where you allow it: add --allow-imports "
            "(in Python: Recipe.from_yaml(path, allow_imports=True)).",
        )
    return Builder(None, _imported(name, folder or Path()))


def _imported(name: str, folder: Path) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    sys.path.insert(0, str(folder.resolve()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise invalid("model.builder", f"a module that can be imported from {folder}", name, f"{error}.") from error
    finally:
        sys.path.pop(0)
    if not callable(getattr(module, function_name, None)):
        raise invalid("model.builder", f"a function of module {module_name}", function_name)
    return getattr(module, function_name)
