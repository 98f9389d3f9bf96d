"""The segments of a JPEG → its outline."""

import math
import re

from glmflash.media.scan.outline import MOST_RECORDS, Outline, bounded, damaged

__all__ = ["scan"]

_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xDE}) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})  # nothing follows the marker itself
_KNOWN = frozenset(range(0xC0, 0xFF))
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_NEXT = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # all but what may stand within a scan
_END, _SCAN = 0xD9, 0xDA
# Pillow takes these byte by byte, table by table, or block by block.
_MOST_JUNK = 65_536
_MOST_TABLE_BYTES = 65_536
_MOST_BLOCKS = 1000
_MOST_EXIF = 8  # segments of 64 KiB, which are put together; cameras write one
# Each scan goes over every pixel, however few bytes it has. Encoders write about 10.
_MOST_SCANS = 1000
_MOST_SCANNED = 1_000_000_000


def __dir__() -> list[str]:
    return __all__


def scan(data: bytes, frames: int | None) -> Outline:  # noqa: ARG001 - a JPEG has one; what follows it is not read
    """Go through the segments up to the first scan, then count scans.

    Source: ITU-T T.81, annex B (markers and segments).
    """
    at, records, junk, tables, exif, blocks = 2, 0, 0, 0, 0, 0
    width, height, samples, progressive, parts = 0, 0, 0.0, False, 0
    while True:
        found = data.find(b"\xff", at)
        if not 0 <= found < len(data) - 1:
            raise damaged("it holds no image data")
        marker, start = data[found + 1], found + 2
        if marker in {0x00, 0xFF}:
            junk += found + 1 - at
            bounded(junk, _MOST_JUNK, "bytes between its segments")
            at = found + 1 if marker else start
            continue
        junk += found - at
        bounded(junk, _MOST_JUNK, "bytes between its segments")
        if marker not in _KNOWN:
            raise damaged("it holds an unknown marker")
        if marker == _SCAN:
            break
        records += 1
        bounded(records, MOST_RECORDS, "JPEG segments beside the image data")
        at = start if marker in _ALONE else _behind(data, start)
        if marker in _FRAME_HEADERS:
            height = max(height, int.from_bytes(data[start + 3 : start + 5], "big"))
            width = max(width, int.from_bytes(data[start + 5 : start + 7], "big"))
            samples = max(samples, _samples(data[start + 8 : min(at, start + 20)]))
            progressive = progressive or marker in _PROGRESSIVE
            parts = max(parts, *data[start + 7 : start + 8], 0)
        elif marker == 0xDB:
            tables += at - start
            bounded(tables, _MOST_TABLE_BYTES, "bytes of tables")
        elif marker == 0xE1 and data.startswith(b"Exif", start + 2):
            exif += 1
            bounded(exif, _MOST_EXIF, "segments of Exif")
        elif marker == 0xED:
            blocks += data.count(b"8BIM", start, at)
            bounded(blocks, _MOST_BLOCKS, "Photoshop blocks")
    # a scan that holds a part only: libjpeg keeps the whole, even if no other comes
    partial = progressive or max(*data[start + 2 : start + 3], 0, 0) < parts
    several = _count_scans(data, start, width * height) > 1 or partial
    return Outline(width, height, cost=max(7, 4 + math.ceil(2 * samples)) if several else 7)


def _samples(components: bytes) -> float:
    """Samples per pixel, of which libjpeg keeps two bytes each while scans are still to come."""
    shares = [(byte >> 4) * (byte & 15) for byte in components[1::3]]
    return sum(shares) / max(shares) if any(shares) else 4.0


def _count_scans(data: bytes, start: int, pixels: int) -> int:
    most = min(_MOST_SCANS, max(_MOST_SCANNED // max(pixels, 1), 20))
    scans, records, at = 1, 0, _behind(data, start)
    while (found := _NEXT.search(data, at)) and (marker := data[found.start() + 1]) != _END:
        scans += marker == _SCAN
        bounded(scans, most, "scans at this size")
        records += marker != _SCAN
        bounded(records, MOST_RECORDS, "JPEG segments between its scans")
        at = found.end() if marker in _ALONE else _behind(data, found.end())
    return scans


def _behind(data: bytes, start: int) -> int:
    """Where a segment ends whose length stands here."""
    return start + max(2, int.from_bytes(data[start : start + 2], "big"))
