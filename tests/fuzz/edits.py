"""Good bytes and values, damaged: what strategies of the fuzz targets are made of."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

__all__ = ["damaged", "from_bytes", "jsons", "spoiled", "texts", "to_bytes"]

#: Numbers that sizes, counts and offsets are checked against.
LIMITS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def _edit(data: bytes, edit: tuple[Any, ...]) -> bytes:
    kind, where, amount, piece = edit
    place = int(where * len(data))
    end = min(len(data), place + amount)
    match kind:
        case "flip":
            return (
                data[:place]
                + bytes([(data[place] if place < len(data) else 0) ^ (amount % 255 + 1)])
                + data[place + 1 :]
            )
        case "cut":
            return data[:place]
        case "drop":
            return data[:place] + data[end:]
        case "twice":
            return data[:end] + data[place:end] * (1 + len(piece)) + data[end:]
        case "insert":
            return data[:place] + piece + data[place:]
    return data[:place] + piece + data[place + len(piece) :]  # write over


def _pieces() -> st.SearchStrategy[bytes]:
    number = st.builds(
        lambda value, size, order: (value % 256**size).to_bytes(size, order),
        st.sampled_from(LIMITS),
        st.sampled_from((1, 2, 4, 8)),
        st.sampled_from(("big", "little")),
    )
    return st.one_of(number, st.binary(max_size=6))


def damaged(good: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of several good files with up to eight edits, or two of them joined, or anything."""
    kinds = st.sampled_from(("flip", "flip", "write", "write", "cut", "drop", "twice", "insert"))
    edits = st.lists(
        st.tuples(kinds, st.floats(0, 1, exclude_max=True), st.integers(1, 300), _pieces()),
        min_size=1,
        max_size=8,
    )

    def apply(data: bytes, several: list[tuple[Any, ...]]) -> bytes:
        for edit in several:
            data = _edit(data, edit)
        return data

    some = st.sampled_from(list(good))
    joined = st.builds(
        lambda one, two, where: one[: int(where * len(one))] + two, some, some, st.floats(0, 1)
    )
    return st.one_of(
        st.builds(apply, some, edits), st.builds(apply, some, edits), joined, st.binary(max_size=64)
    )


def texts(pieces: Sequence[str]) -> st.SearchStrategy[str]:
    """Texts of pieces that mean something, and of anything."""
    return st.lists(st.sampled_from(list(pieces)) | st.text(max_size=4), max_size=14).map("".join)


def jsons(keys: Sequence[str], words: Sequence[str], *, leaves: int = 24) -> st.SearchStrategy[Any]:
    """Values of JSON with keys and strings that mean something, among others."""
    names = st.sampled_from(list(keys)) | st.text(max_size=3)
    strings = st.sampled_from(list(words)) | st.sampled_from(list(keys)) | texts(words)
    numbers = st.integers() | st.floats() | st.sampled_from((0, 1, -1, 2**31, 2**63, 2**64, 10**400, 1e308))
    plain = st.none() | st.booleans() | numbers | strings
    return st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5),
        max_leaves=leaves,
    )


def spoiled(good: Sequence[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One of several good values of JSON in which up to three parts were replaced, removed or doubled."""
    edits = st.lists(
        st.tuples(st.integers(0, 10_000), st.sampled_from(("put", "put", "del", "twice")), values), max_size=3
    )

    def apply(value: Any, several: list[tuple[int, str, Any]]) -> Any:
        value = json.loads(json.dumps(value))
        for number, kind, new in several:
            value = _replace(value, number, kind, new)
        return value

    return st.builds(apply, st.sampled_from(list(good)), edits)


def _replace(value: Any, number: int, kind: str, new: Any) -> Any:
    places = list(_places(value))
    if not places:
        return new
    owner, key = places[number % len(places)]
    if kind == "put":
        owner[key] = new
    elif kind == "del":
        del owner[key]
    elif isinstance(owner, list):
        owner.insert(key, owner[key])
    else:
        owner[f"{key}2"] = owner[key]
    return value


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)


def to_bytes(value: Any) -> bytes:
    """A generated value as the contents of a corpus file."""
    if isinstance(value, bytes):
        return value
    return json.dumps(value, indent=1).encode()  # with escapes: half a surrogate pair can be kept too


def from_bytes(data: bytes, *, raw: bool) -> Any:
    """The value of a corpus file."""
    return data if raw else json.loads(data)
