"""A value as given → the same, of its type and in its range, or an error that names the parameter."""

import contextlib
import math
from numbers import Integral, Real
from operator import index
from typing import SupportsIndex

from glmflash.errors import ParameterError
from glmflash.shown import show

__all__ = ["flag", "number", "optional", "text", "whole"]


def __dir__() -> list[str]:
    return __all__


def number(name: str, value: object, low: float, high: float, allowed: str = "") -> float:
    """A number from `low` to `high`; true and false are none.

    Args:
        name: The parameter.
        value: What was given for it.
        low: The least.
        high: The most.
        allowed: What to say is allowed, if it is more than a range.

    Raises:
        ParameterError: If it is not.
    """
    found = math.nan  # which fails every comparison
    if isinstance(value, (int, float, Real)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            found = float(value)
    if not low <= found <= high:
        allowed = allowed or f"a number from {low} to {high}"
        raise ParameterError(name, f"got {show(value)}; allowed is {allowed}")
    return found


def whole(name: str, value: object, low: int, high: int, hint: str = "") -> int:
    """A whole number from `low` to `high`; true and false are none, NumPy's become Python's.

    Args:
        name: The parameter.
        value: What was given for it.
        low: The least.
        high: The most.
        hint: What else to say is allowed.

    Raises:
        ParameterError: If it is not.
    """
    integral = isinstance(value, (int, Integral)) and not isinstance(value, bool)
    found = index(value) if integral and isinstance(value, SupportsIndex) else low - 1
    if not low <= found <= high:
        allowed = f"a whole number from {low} to {high}{hint}"
        raise ParameterError(name, f"got {show(value)}; allowed is {allowed}")
    return found


def optional(name: str, value: object, low: int, high: int) -> int | None:
    """A whole number from `low` to `high`, or None.

    Raises:
        ParameterError: If it is not.
    """
    return None if value is None else whole(name, value, low, high, ", or None")


def flag(name: str, value: object) -> bool:
    """True or False.

    Raises:
        ParameterError: If it is neither.
    """
    if not isinstance(value, bool):
        raise ParameterError(name, f"got {show(value)}; allowed is True or False")
    return value


def text(name: str, value: object, low: int, high: int, hint: str = "") -> str:
    """A string of valid Unicode with `low` to `high` characters.

    Args:
        name: The parameter.
        value: What was given for it.
        low: Fewest characters.
        high: Most characters.
        hint: What else to say is allowed.

    Raises:
        ParameterError: If it is not.
    """
    allowed = f"allowed is a string of {low} to {high:,} characters{hint}"
    if not isinstance(value, str):
        raise ParameterError(name, f"got {show(value)}; {allowed}")
    if not low <= len(value) <= high:
        raise ParameterError(name, f"got one of {len(value):,} characters; {allowed}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ParameterError(name, f"holds half of a surrogate pair; {allowed}, of valid Unicode") from None
    return value
