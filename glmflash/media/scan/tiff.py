"""The directories of a TIFF → its outline."""

import struct

from glmflash.media.scan.outline import Outline, bounded, damaged

__all__ = ["scan"]

_WIDTH, _HEIGHT = 256, 257
_OFFSETS = (273, 279, 324, 325)  # of strips and tiles, and how long each is
_NUMBERS = {1: "B", 3: "H", 4: "I"}
_TEXT = (1, 2, 6, 7)  # bytes, which stay in one piece; everything else becomes a tuple of numbers
_COST = 11  # a strip may be the whole picture
_MOST_ENTRIES = 4096
_MOST_PIECES = 20_000
_MOST_NUMBERS = 262_144


def __dir__() -> list[str]:
    return __all__


def scan(data: bytes, frames: int | None) -> Outline:
    """Read the first directory, and count the others; one that was seen before ends the row.

    Source: TIFF 6.0, section 2.
    """
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        raise damaged("its header is incomplete")
    (first,) = struct.unpack_from(order + "I", data, 4)
    sides = _first(data, order, first)
    seen, at = set[int](), first
    while at and at not in seen and at + 2 <= len(data) and len(seen) <= (frames or 1):
        seen.add(at)
        behind = at + 2 + 12 * struct.unpack_from(order + "H", data, at)[0]
        at = struct.unpack_from(order + "I", data, behind)[0] if behind + 4 <= len(data) else 0
    if _WIDTH not in sides or _HEIGHT not in sides:
        raise damaged("its first directory gives no size")
    return Outline(sides[_WIDTH], sides[_HEIGHT], max(len(seen), 1), _COST)


def _first(data: bytes, order: str, at: int) -> dict[int, int]:
    """The sides that the first directory gives."""
    if at + 2 > len(data):
        raise damaged("its first directory lies beyond its end")
    (entries,) = struct.unpack_from(order + "H", data, at)
    bounded(entries, _MOST_ENTRIES, "entries in its directory")
    sides: dict[int, int] = {}
    for entry in range(at + 2, min(at + 2 + 12 * entries, len(data) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
        if tag in _OFFSETS:
            bounded(count, _MOST_PIECES, "pieces of image data")
        elif kind not in _TEXT:
            bounded(count, _MOST_NUMBERS, "numbers in one entry")
        if tag in (_WIDTH, _HEIGHT) and count and kind in _NUMBERS:
            number = struct.Struct(order + _NUMBERS[kind])
            inside = count * number.size <= 4
            place = entry + 8 if inside else struct.unpack_from(order + "I", data, entry + 8)[0]
            if place + number.size <= len(data):
                sides[tag] = max(sides.get(tag, 0), number.unpack_from(data, place)[0])
    return sides
