"""A JSON schema → the kind of value that it describes, made of plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

from glmflash.bounds import check_tree
from glmflash.errors import ContextLengthError, MessageError, ParameterError
from glmflash.structured import composites, kinds
from glmflash.structured.kinds import Kind, Part

__all__ = ["json_kind"]

_ALLOWED = (
    "allowed: type string, integer, number, boolean, array or object, enum, const, null beside one of them, "
    "and $ref to what the schema itself defines"
)
_DEEPEST, _MOST = 32, 1000
_LIMITS = ("pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems")


def __dir__() -> list[str]:
    return __all__


def json_kind(schema: Mapping[str, object], name: str = "schema") -> Kind:
    """Read a JSON schema.

    Args:
        schema: As a dictionary.
        name: Of the field that it is the schema of, for errors.

    Raises:
        ParameterError: If a part of it cannot be asked for; the field is named.

    Example:
        >>> json_kind({"type": "object", "properties": {"total": {"type": "number"}}}).parts[0].required
        False
    """
    try:
        check_tree(schema, name)
    except (ContextLengthError, MessageError) as error:
        raise ParameterError(name, str(error)) from None
    return _kind(schema, name, _Root(schema, count(1)), 0)


class _Root(NamedTuple):
    """The whole schema, and how many parts of it were read: references can make a thousand of each."""

    schema: Mapping[str, object]
    parts: "count[int]"


def _kind(given: object, name: str, root: _Root, depth: int) -> Kind:
    if next(root.parts) > _MOST:
        raise ParameterError(name, f"is one of more than {_MOST} parts; give a schema for what is wanted")
    if depth > _DEEPEST:
        raise ParameterError(name, f"is nested deeper than {_DEEPEST}, or holds itself; a schema has to end")
    schema, optional = _resolved(given, name, root)
    kind = _of(schema, name, root, depth + 1)
    limits = {key: schema[key] for key in _LIMITS if key in schema}
    kind = replace(kind, schema=kind.schema | limits) if limits else kind
    return composites.maybe(kind) if optional else kind


def _resolved(given: object, name: str, root: _Root) -> tuple[Mapping[str, object], bool]:
    """The schema that is meant, references followed, and whether null will do."""
    optional = False
    for _ in range(_DEEPEST):
        if not isinstance(given, Mapping):
            raise ParameterError(name, f"is a {type(given).__name__}, not a schema; {_ALLOWED}")
        several = given.get("anyOf") or given.get("oneOf") or given.get("allOf")
        if "$ref" in given:
            given = _referred(given["$ref"], name, root)
        elif isinstance(several, Sequence):
            others = [one for one in several if one != {"type": "null"}]
            optional |= len(others) < len(several)
            types = [one.get("type") for one in others if isinstance(one, Mapping)]
            if sorted(map(str, types)) == ["number", "string"]:  # a decimal, as pydantic describes it
                return {"type": "decimal"}, optional
            if len(others) != 1:
                raise ParameterError(name, f"is one of several types; {_ALLOWED}")
            given = others[0]
        elif isinstance(given.get("type"), list):
            types = [one for one in given["type"] if one != "null"]
            optional |= len(types) < len(given["type"])
            given = {**given, "type": types[0] if len(types) == 1 else types or None}
            break
        else:
            break
    assert isinstance(given, Mapping)
    return given, optional


def _referred(reference: object, name: str, root: _Root) -> object:
    found: object = root.schema
    if isinstance(reference, str) and reference.startswith("#"):
        for key in reference[1:].strip("/").split("/"):
            key = key.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) and key else found
        if isinstance(found, Mapping) and reference != "#":
            return found
    raise ParameterError(name, f"refers to what the schema does not define; {_ALLOWED}")


def _of(schema: Mapping[str, object], name: str, root: _Root, depth: int) -> Kind:
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(options, list):
        if not all(one is None or isinstance(one, (str, int, float)) for one in options):
            raise ParameterError(name, f"has values to choose from that are lists or objects; {_ALLOWED}")
        kind = kinds.choice({str(one): one for one in options if one is not None})
        return composites.maybe(kind) if None in options else kind
    match schema.get("type"):
        case "string":
            return kinds.day(plain=True) if schema.get("format") == "date" else kinds.text()
        case "integer":
            return kinds.number(int)
        case "number":
            return kinds.number(float)
        case "decimal":
            return kinds.number(str)
        case "boolean":
            return kinds.truth()
        case "array":
            return _array(schema, name, root, depth)
        case "object":
            return _object(schema, name, root, depth)
    raise ParameterError(name, f"is of a type that cannot be asked for; {_ALLOWED}")


def _array(schema: Mapping[str, object], name: str, root: _Root, depth: int) -> Kind:
    several = schema.get("prefixItems")
    if isinstance(several, list) and several:
        rows = [_kind(one, f"{name}[{place}]", root, depth) for place, one in enumerate(several)]
        return composites.row(rows, list)
    return composites.many(_kind(schema.get("items"), f"{name}[]", root, depth))


def _object(schema: Mapping[str, object], name: str, root: _Root, depth: int) -> Kind:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, Mapping) or not properties:
        raise ParameterError(name, "is an object without properties; give it those that are wanted")
    needed = required if isinstance(required, list) else []
    parts = []
    for key, one in properties.items():
        dotted = str(key) if name == "schema" else f"{name}.{key}"
        said = one.get("description", "") if isinstance(one, Mapping) else ""
        parts.append(Part(str(key), _kind(one, dotted, root, depth), str(said), key in needed))
    return composites.record(parts)
