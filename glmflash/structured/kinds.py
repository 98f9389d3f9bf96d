"""What a value can be → its JSON schema, what constrains an answer, and how words and JSON become it."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal, InvalidOperation

from glmflash.structured import reading
from glmflash.structured.reading import Found

__all__ = [
    "Json",
    "Kind",
    "Part",
    "choice",
    "day",
    "number",
    "text",
    "truth",
]

Json = dict[str, object]

_MOST_DIGITS = 300  # before the point, or zeros behind it; floats have no more


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value. What it cannot read is a `ValueError`, whose message goes on from "it".

    Args:
        schema: As JSON schema.
        hint: What the model is asked for, to stand behind "Answer with".
        form: As `response_format`; empty if any text will do.
        read: Words, and the value that they stand for.
        build: A JSON value, and the value that it stands for.
        parts: The fields, if it is a record.
        make: Makes the record of its values by name.
        optional: Whether None will do.
    """

    schema: Json
    hint: str
    form: Json
    read: Callable[[str], Found]
    build: Callable[[object], object]
    parts: "tuple[Part, ...]" = ()
    make: Callable[[Mapping[str, object]], object] = dict
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A field of a record.

    Args:
        name: As in the record, and in JSON.
        kind: What it holds.
        description: What it is, or the question that it answers; may be empty.
        required: False if the record can be made without it.
    """

    name: str
    kind: Kind
    description: str = ""
    required: bool = True


def text() -> Kind:
    """A string, without blanks around it."""

    def read(words: str) -> Found:
        if not words.strip():
            raise ValueError("is empty")
        return Found(words.strip(), *bare(words))

    def build(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("is no string")
        return value

    return Kind({"type": "string"}, "the value only", {}, read, build)


def number(make: Callable[[Decimal], object]) -> Kind:
    """A number.

    Args:
        make: `int`, `float`, `Decimal`; or `str`, for a number as text.
    """

    def read(words: str) -> Found:
        found = reading.number(words)
        return replace(found, value=build(found.value))

    def build(value: object) -> object:
        exact = Decimal("NaN")
        if isinstance(value, (int, float, Decimal, str)) and not isinstance(value, bool):
            with contextlib.suppress(InvalidOperation):
                exact = Decimal(str(value))
        # Of 1e999999999 Python would make an integer of a billion digits, which nothing can interrupt.
        if not exact.is_finite() or abs(exact.adjusted()) > _MOST_DIGITS:
            raise ValueError("is no number")
        if make is int and exact != exact.to_integral_value():
            raise ValueError("is no whole number")
        return make(exact)

    name, pattern = ("integer", reading.WHOLE) if make is int else ("number", reading.DECIMAL)
    return Kind({"type": name}, "the value only", {"type": "regex", "regex": pattern}, read, build)


def truth() -> Kind:
    """True or false; as words, yes or no."""

    def build(value: object) -> object:
        if not isinstance(value, bool):
            raise ValueError("is neither true nor false")
        return value

    words: Json = {"type": "choice", "choice": list(reading.TRUTHS)}
    return Kind({"type": "boolean"}, "yes or no", words, reading.truth, build)


def day(*, plain: bool = False) -> Kind:
    """A date.

    Args:
        plain: Whether it is made as ISO text.
    """

    def read(words: str) -> Found:
        found = reading.day(words)
        return replace(found, value=str(found.value)) if plain else found

    def build(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("is no date")
        try:
            made = date.fromisoformat(value)
        except ValueError:
            raise ValueError("is no date") from None
        return str(made) if plain else made

    schema: Json = {"type": "string", "format": "date"}
    form: Json = {"type": "regex", "regex": reading.DATE}
    return Kind(schema, "the date only, as YYYY-MM-DD", form, read, build)


def choice(options: Mapping[str, object]) -> Kind:
    """One of several values.

    Args:
        options: The text that the model writes for each value, and the value.
    """
    plain = {name: value if _is_plain(value) else name for name, value in options.items()}

    def build(value: object) -> object:
        for name, one in plain.items():
            if one == value and isinstance(one, bool) == isinstance(value, bool):
                return options[name]
        raise ValueError("is none of the values allowed")

    return Kind(
        schema={"enum": list(plain.values())},
        hint=f"one of: {', '.join(options)}",
        form={"type": "choice", "choice": list(options)},
        read=lambda words: reading.option(words, tuple(options.items())),
        build=build,
    )


def _is_plain(value: object) -> bool:
    """Whether JSON has it."""
    return value is None or type(value) in (str, int, float, bool)


def bare(words: str) -> tuple[int, int]:
    """Where the text is, without the blanks around it."""
    start = len(words) - len(words.lstrip())
    return start, max(start, len(words.rstrip()))
