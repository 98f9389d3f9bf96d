"""A report → JSON, and back: every answer, so that all figures can be worked out again."""

import base64
import binascii
import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, NoReturn, TypedDict

from glmflash.errors import ConfigError
from glmflash.evaluate.conditions import Conditions
from glmflash.evaluate.memory import Memory
from glmflash.evaluate.pictures import Thumbnail
from glmflash.evaluate.row import Row, read_row, write_row
from glmflash.evaluate.summary import Asked
from glmflash.fields import Fields

if TYPE_CHECKING:
    from glmflash.evaluate.report import Report

__all__ = ["Parts", "read", "write"]

_FORMAT = "glmflash report 1"


def __dir__() -> list[str]:
    return __all__


class Parts(TypedDict):
    """What a report is made of; see `Report`."""

    baseline: str
    questions: tuple[Asked, ...]
    rows: Mapping[str, tuple[Row, ...]]
    conditions: Conditions
    memory: Mapping[str, Memory]
    pictures: Mapping[str, Thumbnail]


def write(report: "Report") -> str:
    """All of it; `systems` are figures for other programs, and not read again."""
    pictures = {
        name: {"kind": one.kind, "data": base64.b64encode(one.data).decode(), "size": one.size}
        for name, one in report.pictures.items()
    }
    data = {
        "format": _FORMAT,
        "baseline": report.baseline,
        "conditions": asdict(report.conditions),
        "systems": [one.to_dict() for one in report.systems],
        "questions": [asdict(one) for one in report.questions],
        "rows": [write_row(row) for rows in report.rows.values() for row in rows],
        "memory": {name: asdict(one) for name, one in report.memory.items()},
        "pictures": pictures,
    }
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1)


def read(text: str | bytes) -> Parts:
    """The parts of a report.

    Raises:
        ConfigError: If the text is none that `write` wrote.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"report: not valid JSON ({type(error).__name__})") from None
    if not isinstance(data, dict):
        _refuse("report", data, "an object")
    fields_ = Fields(data, "report")
    if data.get("format") != _FORMAT:
        fields_.refuse("format", data.get("format"), repr(_FORMAT))
    rows: dict[str, list[Row]] = {}
    for at, one in enumerate(_list(data, "rows")):
        row = read_row(one, f"report: rows[{at}]")
        rows.setdefault(row.system, []).append(row)
    return Parts(
        baseline=fields_.string("baseline"),
        questions=tuple(_asked(one, f"questions[{at}]") for at, one in enumerate(_list(data, "questions"))),
        rows={name: tuple(of_one) for name, of_one in rows.items()},
        conditions=_conditions(fields_.section("conditions")),
        memory={name: _memory(one, name) for name, one in _object(data, "memory").items()},
        pictures={name: _picture(one, name) for name, one in _object(data, "pictures").items()},
    )


def _asked(data: object, where: str) -> Asked:
    if not isinstance(data, Mapping):
        _refuse(where, data, "an object")
    one = Fields(data, f"report: {where}")
    return Asked(
        id=one.string("id"), text=one.string("text"), answers=_texts(data, "answers"),
        kind=one.string("kind"), metric=one.string("metric"), pictures=_texts(data, "pictures"),
    )  # fmt: skip


def _conditions(one: Fields) -> Conditions:
    return Conditions(
        concurrency=one.positive("concurrency"), seed=one.integer("seed"), created=one.string("created"),
        timeout=one.positive_number("timeout") if one.has("timeout") else None,
        machine=one.string("machine"), version=one.string("version"),
    )  # fmt: skip


def _memory(data: object, name: str) -> Memory:
    if not isinstance(data, Mapping):
        _refuse(f"memory of {name!r:.80}", data, "an object")
    one = Fields(data, f"report: memory of {name!r:.80}")
    return Memory(**{size.name: one.integer(size.name) for size in fields(Memory) if one.has(size.name)})


def _picture(data: object, name: str) -> Thumbnail:
    where = f"picture {name!r:.80}"
    if not isinstance(data, Mapping):
        _refuse(where, data, "an object")
    one = Fields(data, f"report: {where}")
    if (kind := one.string("kind")) not in ("png", "jpeg"):
        one.refuse("kind", kind, "png or jpeg")
    size = one.integers("size", ())
    if len(size) != 2 or min(size) < 1:
        one.refuse("size", data.get("size"), "two whole numbers above 0")
    try:
        return Thumbnail(kind, base64.b64decode(one.string("data"), validate=True), (size[0], size[1]))
    except (binascii.Error, ValueError):
        one.refuse("data", "something else", "base64")


def _texts(data: Mapping[str, object], name: str) -> tuple[str, ...]:
    values = _list(data, name)
    for value in values:
        if not isinstance(value, str):
            _refuse(name, value, "a string")
    return tuple(map(str, values))


def _list(data: Mapping[str, object], name: str) -> list[object]:
    value = data.get(name)
    return value if isinstance(value, list) else _refuse(name, value, "a list")


def _object(data: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = data.get(name)
    return value if isinstance(value, Mapping) else _refuse(name, value, "an object")


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise ConfigError(f"report: {name} is {reprlib.repr(value)}; allowed: {allowed}")
