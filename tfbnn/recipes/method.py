"""The recipe's way to a posterior: `inference.method` and its options, typed by the method's own constructor."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any

import pydantic

from tfbnn import inference
from tfbnn.core.checks import invalid, one_of
from tfbnn.inference.base import Inference

METHODS = {name: getattr(inference, name) for name in inference.__all__}
GIVEN_BY_THE_RECIPE = ("network", "likelihood", "optimizer", "seed", "kwargs")


class _Options(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _truth_values_where_they_belong(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and bool not in (field.annotation, *typing.get_args(field.annotation)):
            raise invalid(str(info.field_name), "no truth value (true, false, yes, no, on, off)", value)
        return value


def method_of(section: Mapping[str, Any]) -> type[Inference]:
    """The class that `inference.method` names."""
    name = section.get("method", "VariationalInference")
    return METHODS[one_of("method", name if isinstance(name, str) else repr(name), METHODS)]


def options_of(method: type[Inference]) -> type[pydantic.BaseModel]:
    """The schema of a method's options: names, types and defaults of its constructor's arguments."""
    types = typing.get_type_hints(method.__init__)
    parameters = inspect.signature(method).parameters
    fields = {
        name: (types[name], parameter.default)
        for name, parameter in parameters.items()
        if name not in GIVEN_BY_THE_RECIPE
    }
    return pydantic.create_model(method.__name__, __base__=_Options, **fields)  # type: ignore[call-overload]
