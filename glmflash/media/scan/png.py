"""The chunks of a PNG → its outline."""

import struct

from glmflash.media.scan.outline import MOST_RECORDS, Outline, bounded, damaged

__all__ = ["scan"]

_CHUNK = struct.Struct(">I4s")
_SIZE = struct.Struct(">II")
_MOST_PROFILES = 4  # the standard has one; each may unpack to a megabyte, as a compressed text may
_MOST_PACKED = 16
_MOST_PIECES = 65_536  # of image data: 20 MiB in pieces of 320 bytes; encoders write 8,192
_MOST_FRAMES = 2**31


def __dir__() -> list[str]:
    return __all__


def scan(data: bytes, frames: int | None) -> Outline:
    """Go through the chunks, up to the end, or up to more frames than asked for.

    Source: PNG 1.2, section 3 (chunk layout); APNG 1.0.
    """
    at, records, pieces, profiles, packed, shown, controls = 8, 0, 0, 0, 0, 0, list[bool]()
    width = height = 0
    while at + 8 <= len(data):
        length, kind = _CHUNK.unpack_from(data, at)
        if kind in {b"IDAT", b"fdAT"}:
            pieces += 1
            bounded(pieces, _MOST_PIECES, "pieces of image data")
        elif kind == b"IEND":
            break
        elif kind == b"fcTL" and controls == [True]:
            shown += 1
            if shown > (frames or 1):
                break
        else:
            records += 1
            bounded(records, MOST_RECORDS, "PNG chunks beside the image data")
            if kind == b"IHDR" and length >= 8 and at + 16 <= len(data):
                size = _SIZE.unpack_from(data, at + 8)
                width, height = max(width, size[0]), max(height, size[1])
            profiles += kind == b"iCCP"
            bounded(profiles, _MOST_PROFILES, "colour profiles")
            packed += kind == b"zTXt" or (kind == b"iTXt" and _is_packed(data, at + 8, length))
            bounded(packed, _MOST_PACKED, "compressed texts")
            if kind == b"acTL" and not pieces:
                controls.append(_several(data, at + 8, length))
        at += 12 + length
    if not pieces:
        raise damaged("it holds no image data")
    return Outline(width, height, max(shown, 1))


def _is_packed(data: bytes, at: int, length: int) -> bool:
    """Whether an international text is compressed: the byte behind its keyword says so."""
    end = data.find(b"\0", at, at + length)
    return end >= 0 and data[end + 1 : end + 2] != b"\0"


def _several(data: bytes, at: int, length: int) -> bool:
    """Whether Pillow takes it for the control of an animation; only then it stops behind the first frame."""
    return length >= 8 and 2 <= int.from_bytes(data[at : at + 4], "big") <= _MOST_FRAMES
