"""Builders: recipe options -> Keras network. One file a builder, one line in the table."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import keras
import pydantic

from tfbnn.core.checks import InvalidInput, invalid, unknown_name
from tfbnn.recipes.builders import convnet, mlp, recurrent, transformer, wide_deep


class Builder(NamedTuple):
    """How a network is built.

    Attributes:
        options: pydantic model of the keys beside `builder`; None: any keys.
        build: (options, num_features, num_outputs, seed) -> network [B, D] -> [B, P].
        places: the key that tells at which places of an image or a sequence the features are; None: they have none.
    """

    options: type[pydantic.BaseModel] | None
    build: Callable[..., Any]
    places: str | None = None


BUILDERS = {
    "mlp": Builder(mlp.Options, mlp.build),
    "convnet": Builder(convnet.Options, convnet.build, places="shape"),
    "recurrent": Builder(recurrent.Options, recurrent.build, places="steps"),
    "transformer": Builder(transformer.Options, transformer.build, places="steps"),
    "wide_deep": Builder(wide_deep.Options, wide_deep.build),
}


def find(name: str, allow_imports: bool = False, folder: Path | None = None) -> Builder:
    """The builder of that name, or, where imports are allowed, the function that `module:function` names.

    Args:
        name: a name of `BUILDERS`, or `module:function`.
        allow_imports: whether a recipe may run Python code.
        folder: where the module may lie, beside what is installed: the recipe's.

    Raises:
        InvalidInput: where it is not found, or not allowed.
    """
    if not isinstance(name, str):
        raise invalid("model.builder", f"one of {', '.join(BUILDERS)}, or MODULE:FUNCTION", name)
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


def network(builder: Builder, options: Any, num_features: int, num_outputs: int, seed: int) -> keras.Model:
    """The network of a builder; a user's own is checked to take [B, num_features] and to give [B, num_outputs].

    Raises:
        InvalidInput: where the builder fails, or gives something else.
    """
    arguments = options, num_features, num_outputs, seed
    if builder.options is None:
        return _of_a_user(builder.build, *arguments)
    try:
        return builder.build(*arguments)
    except InvalidInput as error:
        raise error.under("model") from None


def _of_a_user(build: Callable[..., Any], options: Any, num_features: int, num_outputs: int, seed: int) -> keras.Model:
    wanted = f"a Keras model [B, {num_features}] -> [B, {num_outputs}]"
    with _told_of(f"a function (options, num_features, num_outputs, seed) that returns {wanted}", build):
        made = build(options, num_features, num_outputs, seed)
    if not isinstance(made, keras.Model):
        raise invalid("model.builder", f"a function that returns {wanted}", made)
    with _told_of(f"a function that returns {wanted}", build):
        outputs = made(keras.Input((num_features,)))
    shape = getattr(outputs, "shape", None)
    if shape != (None, num_outputs):
        raise invalid("model.builder", f"a function that returns {wanted}", f"a model whose outputs have shape {shape}")
    return made


@contextlib.contextmanager
def _told_of(expected: str, build: Callable[..., Any]) -> Iterator[None]:
    try:
        yield
    except InvalidInput:
        raise
    except Exception as error:  # whatever the user's code raises
        reason = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
        told = f"It raised {type(error).__name__}: {reason}"
        raise invalid("model.builder", expected, f"{build.__module__}:{build.__qualname__}", told) from error


def _imported(name: str, folder: Path) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    if not module_name or module_name.startswith("."):
        raise invalid("model.builder", "MODULE:FUNCTION, for example residual_mlp:build", name)
    module = _imported_module(module_name, name, folder)
    if not callable(getattr(module, function_name, None)):
        raise invalid("model.builder", f"a function of module {module_name}", function_name)
    return getattr(module, function_name)


def _imported_module(module_name: str, name: str, folder: Path) -> ModuleType:
    sys.path.insert(0, path := str(folder.resolve()))
    try:
        return importlib.import_module(module_name)
    except Exception as error:  # whatever the module does while it is imported
        reason = f"{type(error).__name__}: {error}."
        raise invalid("model.builder", f"a module that can be imported from {folder}", name, reason) from error
    finally:
        sys.path.remove(path)
