"""Numbers of a constructor that may also be arrays, or files of them; shapes of what groups of weights share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfbnn.core.checks import invalid

SUFFIXES = (".npy", ".csv")


def is_array(value: Any) -> bool:
    """Whether `array` reads it: an array, a list, or the path of a file of numbers."""
    if isinstance(value, str | Path):
        return Path(value).suffix in SUFFIXES
    return isinstance(value, list | tuple) or len(getattr(value, "shape", ())) > 0


def array(where: str, value: Any) -> np.ndarray:
    """Returns finite numbers as float32.

    Args:
        where: name of the argument.
        value: an array, nested lists, or the path of a .npy file or of a .csv file without a header.

    Raises:
        InvalidInput: where the file cannot be read, or a number is not finite.
    """
    try:
        found = np.asarray(_read(value), np.float32)
    except (OSError, ValueError, TypeError) as error:
        reason = f"{' '.join(str(error).split()).rstrip('.')}."
        raise invalid(where, "an array of numbers, or the path of a .npy or .csv file of them", value, reason) from None
    if not found.size or not np.isfinite(found).all():
        raise invalid(where, "finite numbers", value)
    return found


def _read(value: Any) -> Any:
    if not isinstance(value, str | Path):
        return value
    if Path(value).suffix == ".npy":
        return np.load(value, allow_pickle=False)
    return np.loadtxt(value, delimiter=",", ndmin=2)


def check_broadcasts(where: str, values: Any, shape: tuple[int, ...]) -> None:
    """Raises unless `values` broadcast to `shape`."""
    own = np.shape(values)
    fits = len(own) <= len(shape) and all(a in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False))
    if not fits:
        raise invalid(where, f"numbers of the weights' shape {list(shape)}, or that broadcast to it", list(own))


def shape_of_each(each: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of something there is one of for each weight, input or tensor; it broadcasts to the weights' `shape`.

    An input is one index of all axes but the last, which is of units; a tensor of fewer than two axes (a bias) is that
    of one input, the constant 1.

    Args:
        each: "weight", "input" or "tensor".
        shape: of the tensor of weights.
    """
    if each == "weight":
        return tuple(shape)
    if each == "input" and len(shape) > 1:
        return (*shape[:-1], 1)
    return (1,) * len(shape)
