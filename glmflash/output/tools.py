"""The inside of one `<tool_call>`, as text and control names → a `ToolCall`, or None if it is malformed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from glmflash.output.result import ToolCall

__all__ = ["read_call"]

# What differs between a Python literal and JSON, outside double-quoted strings.
_PYTHON = re.compile(
    r"""
    "[^"\\]*(?:\\.[^"\\]*)*"?          # the closing quote is optional, so that no text is scanned twice
    |'([^'\\]*(?:\\.[^'\\]*)*)('?)
    |\b(?:True|False|None)\b
    |,\s*(?=[\]})])
    |[()]
    """,
    re.DOTALL | re.VERBOSE,
)
_LEVELS = 100  # of nesting; deeper ones exhaust the stack of whoever walks them later
_WORDS = {"True": "true", "False": "false", "None": "null", "(": "[", ")": "]"}


def __dir__() -> list[str]:
    return __all__


def read_call(
    events: Sequence[tuple[str, bool]], tools: Sequence[Mapping[str, object]] = ()
) -> ToolCall | None:
    r"""Read one call from what stands between `<tool_call>` and `</tool_call>`.

    The name is the first line before the first `<arg_key>`. A value is kept as it stands where the tool's
    schema says string; otherwise it is JSON, else a Python literal, else a string.

    Args:
        events: Pieces in order; True marks the name of a control token, False plain text.
        tools: OpenAI-style tool objects that were offered.

    Example:
        >>> read_call([("f\n", False), ("<arg_key>", True), ("n", False), ("</arg_key>", True),
        ...            ("<arg_value>", True), ("[1, 2]", False), ("</arg_value>", True)])
        ToolCall(name='f', arguments={'n': [1, 2]})
    """
    fields = list(_fields(events))
    name = fields[0][1].lstrip().split("\n", 1)[0].strip()
    if not name:
        return None
    schemas = _schemas(name, tools)
    arguments: dict[str, object] = {}
    key = None
    for kind, text in fields[1:]:
        if kind == "<arg_key>":
            key = text.strip()
        elif kind == "<arg_value>" and key is not None:
            arguments[key] = _value(text, _types(schemas.get(key)))
            key = None
    return ToolCall(name, arguments)


def _fields(events: Sequence[tuple[str, bool]]) -> Iterator[tuple[str, str]]:
    """Join text by the control token that opened it; text outside any is dropped, save the name."""
    kind, text = "name", list[str]()
    for piece, is_control in events:
        if not is_control:
            text.append(piece)
        elif piece in ("<arg_key>", "<arg_value>", "</arg_key>", "</arg_value>"):
            if kind:
                yield kind, "".join(text)
            kind, text = "" if piece.startswith("</") else piece, []
    if kind == "name":
        yield kind, "".join(text)


def _schemas(name: str, tools: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    """The properties of the tool called `name`; empty if there is none."""
    for tool in tools:
        function = tool.get("function", tool)
        if isinstance(function, Mapping) and function.get("name") == name:
            parameters = function.get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
            return properties if isinstance(properties, Mapping) else {}
    return {}


def _types(schema: object) -> set[str]:
    """JSON types that a schema allows, one level of anyOf/oneOf deep; empty if it does not say."""
    if not isinstance(schema, Mapping):
        return set()
    choices = [schema]
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        choices += [one for one in options if isinstance(one, Mapping)] if isinstance(options, list) else []
    found: set[str] = set()
    for choice in choices:
        kinds = choice.get("type")
        found |= {kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)}
    return found


def _value(text: str, types: set[str]) -> object:
    if types == {"string"} or (types == {"string", "null"} and text.strip() not in ("null", "None")):
        return text
    for candidate in (text, _PYTHON.sub(_as_json, text)):
        try:
            value = json.loads(candidate, strict=False)
            # Back through JSON: what it cannot spell (NaN, infinities, half a surrogate pair) stays text.
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            continue
        if not _deep(value):
            return value
    return text


def _deep(value: object) -> bool:
    """Whether lists and objects lie more than `_LEVELS` deep in each other."""
    layer = [value]
    for _ in range(_LEVELS):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(inner, (dict, list)) for inner in layer)


def _as_json(match: re.Match[str]) -> str:
    """One token of a Python literal in JSON's spelling; Python's own parser may exhaust the stack."""
    token, inner = match[0], match[1]
    if match[2]:
        inner = inner.replace("\\'", "'")
        return '"' + re.sub(r'(\\.)|"', lambda m: m[1] or '\\"', inner, flags=re.DOTALL) + '"'
    return "" if token.startswith(",") else _WORDS.get(token, token)
