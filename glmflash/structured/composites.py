"""Kinds of values → kinds of lists, rows and records of them, and of values that may be missing."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from glmflash.structured import reading
from glmflash.structured.kinds import Json, Kind, Part, bare
from glmflash.structured.reading import Found

__all__ = ["many", "maybe", "record", "row"]


def __dir__() -> list[str]:
    return __all__


def many(item: Kind, make: Callable[[Sequence[object]], object] = list) -> Kind:
    """Any number of values of one kind.

    Args:
        item: What each is.
        make: `list` or `tuple`.
    """

    def read(words: str) -> Found:
        return Found(make([_either(item, one) for one in reading.items(words)]), *bare(words))

    def build(value: object) -> object:
        if not isinstance(value, list):
            raise ValueError("is no list")
        return make([item.build(one) for one in value])

    return _as_json({"type": "array", "items": item.schema}, read, build)


def row(items: Sequence[Kind], make: Callable[[Sequence[object]], object] = tuple) -> Kind:
    """A fixed number of values, each of its own kind.

    Args:
        items: What each is.
        make: `list` or `tuple`.
    """

    def read(words: str) -> Found:
        return Found(_each(reading.items(words), _either), *bare(words))

    def build(value: object) -> object:
        if not isinstance(value, list):
            raise ValueError("is no list")
        return _each(value, lambda kind, one: kind.build(one))

    def _each(values: Sequence[object], made: Callable[[Kind, object], object]) -> object:
        if len(values) != len(items):
            raise ValueError(f"has {len(values)} values, not {len(items)}")
        return make([made(kind, value) for kind, value in zip(items, values, strict=True)])

    exactly = {"minItems": len(items), "maxItems": len(items)}
    return _as_json({"type": "array", "prefixItems": [one.schema for one in items], **exactly}, read, build)


def record(parts: Sequence[Part], make: Callable[[Mapping[str, object]], object] = dict) -> Kind:
    """Named values.

    Args:
        parts: The fields.
        make: Takes the values by name.
    """

    def checked(values: Mapping[str, object]) -> object:
        try:
            return make(values)
        except (TypeError, ValueError) as error:  # its message may quote what the picture says
            raise ValueError(f"is refused by the caller's class ({type(error).__name__})") from error

    def build(value: object) -> object:
        return checked(_values(parts, value))

    schema: Json = {
        "type": "object",
        "properties": {part.name: _described(part) for part in parts},
        "required": [part.name for part in parts if part.required],
        "additionalProperties": False,
    }
    made = _as_json(schema, lambda words: _read_object(words, build), build)
    return replace(made, parts=tuple(parts), make=checked)


def maybe(inner: Kind) -> Kind:
    """A value, or None."""
    return replace(
        inner,
        schema={"anyOf": [inner.schema, {"type": "null"}]},
        build=lambda value: None if value is None else inner.build(value),
        optional=True,
    )


def _values(parts: Sequence[Part], value: object) -> dict[str, object]:
    """The values of a JSON object, by name."""
    if not isinstance(value, dict):
        raise ValueError("is no object")
    for part in parts:
        if part.required and part.name not in value:
            raise ValueError(f"lacks {part.name}")
    return {part.name: part.kind.build(value[part.name]) for part in parts if part.name in value}


def _read_object(words: str, build: Callable[[object], object]) -> Found:
    """The first JSON object among words."""
    start = words.find("{")
    try:
        value, end = json.JSONDecoder().raw_decode(words, max(start, 0))
    except ValueError:
        raise ValueError("is no JSON object") from None
    return Found(build(value), start, end)


def _as_json(schema: Json, read: Callable[[str], Found], build: Callable[[object], object]) -> Kind:
    """A kind that has no words of its own."""
    hint = f"JSON of this schema: {json.dumps(schema, ensure_ascii=False)}"
    form: Json = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return Kind(schema, hint, form, read, build)


def _described(part: Part) -> Json:
    return part.kind.schema | ({"description": part.description} if part.description else {})


def _either(kind: Kind, item: object) -> object:
    """An item of a list that may be JSON or words."""
    return kind.read(item).value if isinstance(item, str) else kind.build(item)
