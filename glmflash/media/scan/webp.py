"""The chunks of a WEBP → its outline."""

import struct

from glmflash.media.scan.outline import MOST_RECORDS, Outline, bounded, damaged

__all__ = ["scan"]

_CHUNK = struct.Struct("<4sI")
_COST = 16  # libwebp's two canvases, and the bytes it gives


def __dir__() -> list[str]:
    return __all__


def scan(data: bytes, frames: int | None) -> Outline:
    """Go through the chunks, up to the end, or up to more frames than asked for.

    Source: RFC 9649, section 2 (container), 2.5 (VP8X), 3.4 (VP8L); RFC 6386, section 9.1 (VP8).
    """
    at, records, shown = 12, 0, 0
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    width = height = 0
    while at + 8 <= end:
        kind, length = _CHUNK.unpack_from(data, at)
        if kind == b"ANMF":
            shown += 1
            if shown > (frames or 1):
                break
        else:
            records += 1
            bounded(records, MOST_RECORDS, "WEBP chunks beside its frames")
            size = _size(kind, data[at + 8 : at + 18])
            width, height = max(width, size[0]), max(height, size[1])
        at += 8 + length + length % 2
    if not width:
        raise damaged("its header gives no size")
    return Outline(width, height, max(shown, 1), _COST)


def _size(kind: bytes, head: bytes) -> tuple[int, int]:
    if kind == b"VP8X" and len(head) == 10:
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8 " and head[3:6] == b"\x9d\x01\x2a" and len(head) == 10:
        return (
            int.from_bytes(head[6:8], "little") & 0x3FFF,
            int.from_bytes(head[8:10], "little") & 0x3FFF,
        )
    if kind == b"VP8L" and head[:1] == b"\x2f" and len(head) >= 5:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 0, 0
