"""JSON text → its values by path, and where in the text each is written."""

import json
import re
from collections.abc import Iterator

__all__ = ["Span", "json_spans"]

#: Path, value, start, end; of a string without its quotes.
Span = tuple[tuple[str, ...], object, int, int]

_DECODER = json.JSONDecoder(strict=False)
_BLANK = re.compile(r"[ \t\r\n]*")
_DEEPEST = 64


def __dir__() -> list[str]:
    return __all__


def json_spans(text: str) -> Iterator[Span]:
    """Walk through the first JSON object of a text, keys of objects within it included.

    What is malformed, or cut off, ends the walk: what stands before it has been given.

    Example:
        >>> [(path, text) for path, text, _, _ in json_spans('Here: {"a": {"b": "x"}, "c": [1, 2], "d": 3')]
        [(('a', 'b'), 'x'), (('a',), {'b': 'x'}), (('c',), [1, 2])]
    """
    start = text.find("{")
    if start >= 0:
        try:
            yield from _members(text, start, ())
        except ValueError:
            return


def _members(text: str, at: int, path: tuple[str, ...]) -> Iterator[Span]:
    """The values of an object that opens at `at`."""
    at = _after(text, at + 1)
    while text[at : at + 1] == '"':
        key, end = _DECODER.raw_decode(text, at)
        at = _after(text, end)
        if text[at : at + 1] != ":":
            raise ValueError("no colon")
        at = _after(text, at + 1)
        inner = (*path, key)
        if text[at : at + 1] == "{" and len(path) < _DEEPEST:
            yield from _members(text, at, inner)
        value, end = _decode(text, at)
        quoted = isinstance(value, str)
        after = _after(text, end)
        closed = text[after : after + 1]
        if closed not in (",", "}"):  # a number that is cut off may go on
            raise ValueError("no end")
        yield inner, value, at + quoted, end - quoted
        at = _after(text, after + 1) if closed == "," else after


def _decode(text: str, at: int) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _after(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()
