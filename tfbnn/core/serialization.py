"""Names of families <-> objects: the one table behind `get`, `serialize` and `deserialize` of every package."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from tfbnn.core.checks import InvalidInput, invalid, unknown_name

_FLOAT32 = "float32 in base64"


def register(cls: type) -> type:
    """Class decorator: Keras finds the class when it loads a file, without `custom_objects`.

    The name holds the family (`tfbnn.priors>Normal`), because a prior and a likelihood share the name Normal.
    """
    family = ".".join(cls.__module__.split(".")[:2])
    return keras.saving.register_keras_serializable(package=family)(cls)


def serialize_function(where: str, fn: Callable) -> dict[str, Any]:
    """The JSON-able form of a user's function, by its registered name.

    Raises:
        InvalidInput: where Keras could not find the function again when the file is loaded.
    """
    if keras.saving.get_registered_object(keras.saving.get_registered_name(fn)) is not fn:
        raise invalid(
            where,
            "a function that Keras finds again when the file is loaded",
            fn,
            "Write @keras.saving.register_keras_serializable() above its def (a lambda needs a def first), or use an "
            "object of tfbnn.",
        )
    return keras.saving.serialize_keras_object(fn)


def _json_able(where: str, value: Any) -> Any:
    if inspect.isroutine(value):
        return serialize_function(where, value)
    if isinstance(value, np.ndarray):
        bits = base64.b64encode(value.astype("<f4").tobytes()).decode()
        return {_FLOAT32: bits, "shape": list(value.shape)}  # Keras' own form is ten times as long
    return keras.saving.serialize_keras_object(value)


def _array_or_same(value: Any) -> Any:
    if not isinstance(value, Mapping) or _FLOAT32 not in value:
        return value
    return np.frombuffer(base64.b64decode(value[_FLOAT32]), "<f4").reshape(value["shape"])


class Configurable:
    """An object that is its constructor's arguments: comparable, printable, serialisable."""

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, each stored under its own name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in JSON-able form; functions by their registered names."""
        return {name: _json_able(f"{type(self).__name__}.{name}", value) for name, value in self.arguments().items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]):
        """The object whose `get_config` gave `config`."""
        return cls(**{name: _array_or_same(value) for name, value in config.items()})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((type(self), repr(self._identity())))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        return f"{type(self).__name__}({arguments})"

    def _identity(self) -> dict[str, Any]:
        """What equality compares: configs, but functions themselves, which need no registered name for it."""
        return {k: v if inspect.isroutine(v) else _json_able(k, v) for k, v in self.arguments().items()}


class Family:
    """The named classes of one package, found as `keras.regularizers.get` finds its own.

    Args:
        argument: what errors call the identifier (`prior`).
        classes: name -> class.
        from_callable: makes an object of the family from a plain function, where the family takes those.
        base: what all members, a user's own too, are instances of; None: the classes alone.
    """

    def __init__(
        self,
        argument: str,
        classes: Mapping[str, type],
        from_callable: Callable | None = None,
        base: type | None = None,
    ):
        self.argument = argument
        self.classes = dict(classes)
        self.from_callable = from_callable
        self.members = base or tuple(self.classes.values())

    def get(self, identifier: Any) -> Any:
        """The object that a name, a mapping `{class: NAME, ...}`, a Keras config, a function or an object means."""
        if identifier is None or isinstance(identifier, self.members):
            return identifier
        if isinstance(identifier, str):
            return self._make(identifier, {})
        if isinstance(identifier, Mapping) and "class_name" in identifier:
            return self.deserialize(identifier)
        if isinstance(identifier, Mapping) and "class" in identifier:
            return self._make(identifier["class"], {key: v for key, v in identifier.items() if key != "class"})
        if isinstance(identifier, type) and identifier in self.classes.values():
            return identifier()
        return self._adapt(identifier)

    def serialize(self, member: Any) -> Any:
        """The JSON-able description of `member` that `deserialize` reads back."""
        return _json_able(self.argument, member)

    def deserialize(self, config: Any) -> Any:
        """The object that `serialize` described."""
        return self.get(keras.saving.deserialize_keras_object(config))

    def _make(self, name: str, arguments: Mapping[str, Any]) -> Any:
        if not isinstance(name, str) or name not in self.classes:
            raise unknown_name(self.argument, name, self.classes)
        cls = self.classes[name]
        known = [parameter for parameter in inspect.signature(cls).parameters if parameter != "kwargs"]
        for argument in arguments:
            if argument not in known:
                raise unknown_name(f"{self.argument}.{argument}", argument, known)
        try:
            return cls(**arguments)
        except InvalidInput as error:
            raise error.under(self.argument) from None
        except TypeError as error:  # an argument without default that was left out
            raise invalid(self.argument, f"the arguments that {name} needs", dict(arguments), f"{error}.") from None

    def _adapt(self, identifier: Any) -> Any:
        if callable(identifier) and self.from_callable is not None:
            return self.from_callable(identifier)
        expected = f"one of {', '.join(self.classes)}, as a name, a mapping with `class`, or an object"
        raise invalid(self.argument, expected, identifier)
