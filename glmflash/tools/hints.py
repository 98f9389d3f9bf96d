"""A type hint → a JSON schema, and a function that makes JSON values of that type, or says what is wrong.

Schema and function come out of one walk over the hint, so that they cannot disagree.
"""

import collections.abc
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from inspect import Parameter
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from glmflash.errors import ParameterError

__all__ = ["Field", "Hint", "read_object", "schema_of_object", "understand"]

_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable)
_OBJECTS = (dict, collections.abc.Mapping)
_SUPPORTED = (
    "str, int, float, bool, None, Literal, Enum, list, dict with str keys, a dataclass, a union of them, Any"
)
_ANYTHING = (Parameter.empty, Any, object)
#: type -> its name in a schema, its name in a message
_PLAIN = {
    str: ("string", "a string"),
    bool: ("boolean", "true or false"),
    int: ("integer", "a whole number"),
    float: ("number", "a number"),
    type(None): ("null", "null"),
}


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Hint:
    """A type hint, understood.

    Args:
        schema: Its JSON schema.
        allowed: What it admits, for a message.
        read: Takes a JSON value and where it stands, returns a value of the type. Raises `ParameterError`.
    """

    schema: Mapping[str, object]
    allowed: str
    read: Callable[[object, str], object]


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter of a function, or a field of a dataclass.

    Args:
        hint: Its type.
        required: Whether it has no default.
        default: Its default, if that is a plain value.
        description: What it means.
    """

    hint: Hint
    required: bool = True
    default: str | float | bool | None = None
    description: str = ""


def understand(hint: object, where: str, *, inside: tuple[object, ...] = ()) -> Hint:
    """Read a type hint.

    Args:
        hint: As `typing.get_type_hints` gives it.
        where: Which parameter it is of, for the error.
        inside: Dataclasses that the hint stands in.

    Raises:
        ParameterError: If there is no JSON for the type.

    Example:
        >>> size = understand(Literal["small", "large"] | None, "size")
        >>> size.schema["anyOf"][0], size.read("small", "size")
        ({'type': 'string', 'enum': ['small', 'large']}, 'small')
        >>> size.read("huge", "size")
        Traceback (most recent call last):
        glmflash.errors.ParameterError: size: is a string; allowed: 'small', 'large' or null
    """
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin is Annotated:
        return understand(inner[0], where, inside=inside)
    if hint in _ANYTHING:
        return Hint({}, "anything", lambda value, _: value)
    if hint is None or (isinstance(hint, type) and hint in _PLAIN):
        return _plain(hint or type(None))
    if origin is Literal:
        return _options({option: option for option in inner}, where)
    if origin in (Union, types.UnionType):
        return _union([understand(one, where, inside=inside) for one in inner])
    if origin in _LISTS:
        return _list(understand(inner[0] if inner else Any, where, inside=inside))
    if origin in _OBJECTS and (not inner or inner[0] is str):
        return _dict(understand(inner[1] if inner else Any, where, inside=inside))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _options({member.value: member for member in hint}, where)
    if isinstance(hint, type) and is_dataclass(hint) and hint not in inside:
        return _dataclass(hint, where, (*inside, hint))
    name = getattr(hint, "__name__", None) or "unknown"
    raise ParameterError(where, f"has the type {name}; allowed: {_SUPPORTED}")


def schema_of_object(members: Mapping[str, Field]) -> dict[str, object]:
    """The schema of a JSON object with these members."""
    properties: dict[str, object] = {}
    for name, field in members.items():
        extra = {"description": field.description} if field.description else {}
        default = {} if field.default is None else {"default": field.default}
        properties[name] = {**field.hint.schema, **extra, **default}
    required = [name for name, field in members.items() if field.required]
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def read_object(members: Mapping[str, Field], value: Mapping[str, object], where: str) -> dict[str, object]:
    """Check a JSON object member by member; returns keywords for the function or dataclass.

    Args:
        members: What it may hold.
        value: The object.
        where: Prefix of each member's name in errors.

    Raises:
        ParameterError: If a member is unknown, missing or of the wrong type.
    """
    for name in value:
        if name not in members:
            allowed = ", ".join(members) or "none at all"
            raise ParameterError(f"{where}{name:.40}", f"is unknown; allowed: {allowed}")
    for name, field in members.items():
        if field.required and name not in value:
            raise ParameterError(f"{where}{name}", f"is missing; give {field.hint.allowed}")
    return {name: members[name].hint.read(one, f"{where}{name}") for name, one in value.items()}


def _refuse(value: object, where: str, allowed: str) -> ParameterError:
    kinds = {dict: "an object", list: "a list", float: "a number with a fraction"}
    kind = kinds.get(type(value)) or _PLAIN[type(value)][1]
    return ParameterError(where, f"is {kind}; allowed: {allowed}")


def _plain(kind: type) -> Hint:
    name, allowed = _PLAIN[kind]

    def read(value: object, where: str) -> object:
        whole = isinstance(value, float) and value.is_integer()
        if type(value) is kind:
            return value
        if kind is int and whole:
            return int(cast(float, value))
        if kind is float and type(value) is int and abs(value) < 2**1000:
            return float(value)
        raise _refuse(value, where, allowed)

    return Hint({"type": name}, allowed, read)


def _options(options: Mapping[object, object], where: str) -> Hint:
    """One of a few words or numbers: of a `Literal`, or the values of an `Enum`."""
    if not options or any(type(option) not in (str, int, bool, type(None)) for option in options):
        raise ParameterError(where, "has options other than text and whole numbers; allowed: those only")
    kinds = {_PLAIN[type(option)][0] for option in options}
    allowed = ", ".join("null" if option is None else repr(option) for option in options)
    types_of = {"type": kinds.pop()} if len(kinds) == 1 else {}

    def read(value: object, where: str) -> object:
        value = value.strip() if isinstance(value, str) else value
        for option, meant in options.items():
            if type(option) is type(value) and option == value:  # True is no 1 here
                return meant
        raise _refuse(value, where, allowed)

    return Hint({**types_of, "enum": list(options)}, allowed, read)


def _union(members: Sequence[Hint]) -> Hint:
    first, last = ", ".join(member.allowed for member in members[:-1]), members[-1].allowed
    allowed = f"{first} or {last}"

    def read(value: object, where: str) -> object:
        problem = _refuse(value, where, allowed)
        for member in members:
            try:
                return member.read(value, where)
            except ParameterError as error:  # one from inside the value says more
                problem = error if error.parameter != where else problem
        raise problem

    return Hint({"anyOf": [member.schema for member in members]}, allowed, read)


def _list(item: Hint) -> Hint:
    def read(value: object, where: str) -> object:
        if not isinstance(value, list):
            raise _refuse(value, where, f"a list, each item {item.allowed}")
        return [item.read(one, f"{where}[{i}]") for i, one in enumerate(value)]

    items = {"items": item.schema} if item.schema else {}
    return Hint({"type": "array", **items}, "a list", read)


def _dict(item: Hint) -> Hint:
    def read(value: object, where: str) -> object:
        if not isinstance(value, dict):
            raise _refuse(value, where, f"an object, each value {item.allowed}")
        return {key: item.read(one, f"{where}.{key:.40}") for key, one in value.items()}

    values = {"additionalProperties": item.schema} if item.schema else {}
    return Hint({"type": "object", **values}, "an object", read)


def _dataclass(kind: type, where: str, inside: tuple[object, ...]) -> Hint:
    hints = get_type_hints(kind)
    members = {
        field.name: Field(
            understand(hints[field.name], f"{where}.{field.name}", inside=inside),
            required=field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
        if field.init
    }

    def read(value: object, where: str) -> object:
        if not isinstance(value, dict):
            raise _refuse(value, where, f"an object with {', '.join(members)}")
        keywords = read_object(members, value, f"{where}.")
        try:
            return kind(**keywords)
        except (TypeError, ValueError) as error:  # its own checks
            raise ParameterError(where, f"is refused: {error}") from None

    return Hint(schema_of_object(members), "an object", read)
