"""A dataclass, TypedDict, pydantic model, JSON schema or plain type → the kind of value that is asked for.

A pydantic model is known by its two methods, so pydantic is never imported here.
"""

import dataclasses
import enum
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Protocol,
    Required,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
    runtime_checkable,
)

from glmflash.errors import ParameterError
from glmflash.structured import composites, kinds
from glmflash.structured.json_schema import json_kind
from glmflash.structured.kinds import Kind, Part

__all__ = ["read_schema"]

_ALLOWED = (
    "allowed: str, int, float, bool, Decimal, date, Literal, Enum, Optional, list, tuple, dataclasses, "
    "TypedDicts, pydantic models, and JSON schemas as dictionaries"
)


def __dir__() -> list[str]:
    return __all__


@runtime_checkable
class _Model(Protocol):
    """A pydantic model's class."""

    def model_json_schema(self) -> dict[str, object]: ...
    def model_validate(self, obj: object) -> object: ...


def read_schema(schema: object) -> Kind:
    """Read what a caller wants to know.

    Args:
        schema: A type, or a JSON schema as a dictionary. A field is described by
            `Annotated[..., "description"]`, `field(metadata={"description": ...})`, `field(doc=...)`, or a
            schema's "description".

    Raises:
        ParameterError: If it, or one of its fields, which is named, is of a type that cannot be asked for.

    Example:
        >>> read_schema(list[int]).schema
        {'type': 'array', 'items': {'type': 'integer'}}
    """
    if isinstance(schema, Mapping):
        return json_kind(schema)
    return _kind(schema, "schema", ())


def _kind(hint: object, name: str, inside: tuple[object, ...]) -> Kind:
    """The kind of a type.

    Args:
        hint: The type.
        name: The field it is the type of, for errors.
        inside: Classes that it stands in: one that holds itself has no end.
    """
    plain = _SCALARS.get(hint) if isinstance(hint, type) else None
    if plain is not None:
        return plain()
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return kinds.choice({_option(one.value, one.name): one for one in hint})
    if get_origin(hint) is not None:
        return _generic(hint, name, inside)
    if any(hint is one for one in inside):
        raise ParameterError(name, "holds its own type again; a schema has to end")
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return composites.record(_dataclass_parts(hint, name, (*inside, hint)), lambda values: hint(**values))
    if isinstance(hint, type) and is_typeddict(hint):
        return composites.record(_typed_dict_parts(hint, name, (*inside, hint)))
    if isinstance(hint, type) and isinstance(hint, _Model):
        return composites.record(
            _some([*json_kind(hint.model_json_schema(), name).parts], name), hint.model_validate
        )
    if hint in (list, tuple):
        raise ParameterError(name, f"is a {hint.__name__} of what is not said; give list[str], for example")
    called = (
        getattr(hint, "__name__", None) or f"a {type(hint).__name__}"
    )  # never its repr: it may hold an address
    raise ParameterError(name, f"is {called}; {_ALLOWED}")


_SCALARS: dict[type, Callable[[], Kind]] = {
    str: kinds.text,
    int: lambda: kinds.number(int),
    float: lambda: kinds.number(float),
    Decimal: lambda: kinds.number(Decimal),
    bool: kinds.truth,
    date: kinds.day,
}


def _generic(hint: object, name: str, inside: tuple[object, ...]) -> Kind:
    """The kind of a type with square brackets, or bars."""
    origin, given = get_origin(hint), get_args(hint)
    if origin in (Annotated, Required, NotRequired):
        return _kind(given[0], name, inside)
    if origin is Literal:
        return kinds.choice({_option(one, str(one)): one for one in given if one is not None})
    if origin in (Union, types.UnionType):
        others = [one for one in given if one is not type(None)]
        if len(others) == 1 < len(given):
            return composites.maybe(_kind(others[0], name, inside))
        raise ParameterError(name, f"is one of several types; {_ALLOWED}")
    if origin in (list, Sequence) or (origin is tuple and given[1:] == (...,)):
        return composites.many(_kind(given[0], f"{name}[]", inside), tuple if origin is tuple else list)
    if origin is tuple and given:
        return composites.row([_kind(one, f"{name}[{place}]", inside) for place, one in enumerate(given)])
    called = getattr(origin, "__name__", None) or "unknown"  # what is in its brackets may hold an address
    raise ParameterError(name, f"is of type {called}; {_ALLOWED}")


def _option(value: object, name: str) -> str:
    """How the model writes one of several values."""
    return str(value) if isinstance(value, (str, int, float)) else name


def _dataclass_parts(kind: type, name: str, inside: tuple[object, ...]) -> list[Part]:
    hints, parts = _hints(kind, name), []
    for one in dataclasses.fields(kind):
        if not one.init:
            continue
        described = one.metadata.get("description") or getattr(one, "doc", None) or ""
        given = one.default is not dataclasses.MISSING or one.default_factory is not dataclasses.MISSING
        parts.append(_part(hints[one.name], _dotted(name, one.name), one.name, inside, described, not given))
    return _some(parts, name)


def _typed_dict_parts(kind: type, name: str, inside: tuple[object, ...]) -> list[Part]:
    needed = cast("frozenset[str]", getattr(kind, "__required_keys__", frozenset()))
    return _some(
        [
            _part(hint, _dotted(name, key), key, inside, "", key in needed)
            for key, hint in _hints(kind, name).items()
        ],
        name,
    )


def _part(
    hint: object, dotted: str, name: str, inside: tuple[object, ...], described: object, required: bool
) -> Part:
    said = [one for one in _annotations(hint) if isinstance(one, str)]
    return Part(name, _kind(hint, dotted, inside), said[0] if said else str(described), required)


def _annotations(hint: object) -> tuple[object, ...]:
    """What `Annotated` says of a type, within `Required` and `Optional` too."""
    origin, given = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return (*getattr(hint, "__metadata__", ()), *_annotations(given[0]))
    if origin in (Required, NotRequired, Union, types.UnionType):
        return tuple(one for inner in given for one in _annotations(inner))
    return ()


def _hints(kind: type, name: str) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise ParameterError(name, f"has an annotation that cannot be resolved ({error})") from None


def _some(parts: list[Part], name: str) -> list[Part]:
    if not parts:
        raise ParameterError(name, "has no fields; give it those that are wanted")
    return parts


def _dotted(name: str, part: str) -> str:
    return part if name == "schema" else f"{name}.{part}"
