"""The wording of every error that a user can cause: which argument, what was expected, what came, how to mend it."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable


class InvalidInput(ValueError):
    """A mistake in what the user gave; the command line prints its message alone and exits with 2."""


def invalid(where: str, expected: str, received: object, mend: str = "") -> InvalidInput:
    """Returns (does not raise) the error for one argument, recipe path, column or file.

    Args:
        where: name of the argument (`num_samples`) or dotted path in a recipe (`training.epochs`).
        expected: what would have been right, as the rest of "Expected ...".
        received: what came; shortened where long.
        mend: a sentence that says what to do, where `expected` does not already say it.
    """
    message = f"Invalid value received for `{where}`. Expected {expected}. Received: {shortened(received)}."
    return InvalidInput(f"{message} {mend}".rstrip())


def unknown_name(where: str, name: str, known: Iterable[str]) -> InvalidInput:
    """Returns the error for a name that is in no table, with the nearest known one."""
    known = sorted(known)
    close = nearest(name, known)
    mend = f"Did you mean '{close}'?" if close else ""
    return invalid(where, f"one of {', '.join(known)}", name, mend)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name` (case ignored), or None where none is near."""
    by_lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(str(name).lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def shortened(value: object) -> str:
    """`repr(value)`, cut to a length that a terminal line bears; strings that are messages stay whole."""
    if isinstance(value, str) and len(value) <= 200:
        return repr(value)
    cutter = reprlib.Repr()
    cutter.maxstring = cutter.maxother = 200
    return cutter.repr(value)


def positive_integer(where: str, value: object) -> int:
    """Returns `value` as an int; raises where it is no whole number above 0."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 1:
        raise invalid(where, "a whole number, 1 or more", value)
    return int(value)


def positive_number(where: str, value: object) -> float:
    """Returns `value` as a float; raises where it is no finite number above 0."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not 0.0 < number < float("inf"):
        raise invalid(where, "a finite number above 0", value)
    return number


def one_of(where: str, value: str, known: Iterable[str]) -> str:
    """Returns `value`; raises, naming the nearest, where it is none of `known`."""
    known = list(known)
    if value not in known:
        raise unknown_name(where, value, known)
    return value
