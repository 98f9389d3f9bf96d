"""The tables of an MP4 → a refusal of those that speak of more than a clip may hold; nothing is decoded.

FFmpeg makes an entry of its own for each sample that a table claims, before anyone can count frames, and once
more for each edit that shows it. Twelve bytes can claim four thousand million. So they are added up here: in
whatever box they stand, as FFmpeg finds them in many, but not in the pictures themselves.
"""

import re
import struct
from collections.abc import Iterator

from glmflash.errors import ImageError
from glmflash.media.clip_policy import ClipPolicy

__all__ = ["check_tables"]

_TABLE = re.compile(rb"stsz|stz2|trun|elst|cmov")
_ELSEWHERE = re.compile(rb"sidx|mfra|tfra")  # say where in the file FFmpeg looks for more
_MORE = re.compile(rb"moof|moov|trak")
# Samples for each frame that is allowed, as sound has some too; edits that show them again count once more.
_SAMPLES = 8
# Sound that is not compressed has a sample for each of its numbers, which FFmpeg takes 1024 at a time.
_RAW = (b"sowt", b"twos", b"lpcm", b"in24", b"in32", b"fl32", b"fl64", b"raw ", b"ulaw", b"alaw")
_AT_ONCE = 1024


def __dir__() -> list[str]:
    return __all__


def check_tables(data: bytes, policy: ClipPolicy) -> None:
    """Add up what the tables of an MP4 claim.

    Raises:
        ImageError: If it is more than a clip of the policy's frames can need.

    Source: ISO/IEC 14496-12, 8.6.6 (edits), 8.7.3 (sizes of samples), 8.8.8 (runs of a fragment).
    """
    tracks, samples, edits = list(_tracks(data)), 0, 0
    for begin, end in _beside_pictures(data):
        for table in _TABLE.finditer(data, begin, end):
            at, head = table.start(), data[table.end() + 4 : table.end() + 12].ljust(8, b"\0")
            if table[0] == b"cmov":
                raise ImageError("has compressed tables, which are not read; save it anew")
            first, second = struct.unpack(">II", head)
            if table[0] == b"elst":
                edits += max(first - 1, 0)  # one shows what is there
            elif table[0] == b"trun":
                samples += first
            else:
                raw = any(start <= at < stop and _is_raw(data[start:stop]) for start, stop in tracks)
                samples += second // _AT_ONCE if raw else second
    if samples * max(edits, 1) > _SAMPLES * policy.max_frames:
        raise ImageError(
            f"has tables of more samples or edits than {policy.max_frames} frames need, which is "
            "ClipPolicy.max_frames; cut it, or raise the limit"
        )


def _beside_pictures(data: bytes) -> list[tuple[int, int]]:
    """Where tables can stand: outside the samples, unless something there leads FFmpeg into them."""
    boxes = [(kind, begin, end) for kind, begin, _, end in _boxes(data, 0, len(data))]
    last = max((end for *_, end in boxes), default=0)
    places = [(begin, end) for kind, begin, end in boxes if kind != b"mdat"]
    places += [(last, len(data))]  # what is no box
    pictures = [(begin, end) for kind, begin, end in boxes if kind == b"mdat"]
    if any(_ELSEWHERE.search(data, *place) for place in places):
        places += [place for place in pictures if _MORE.search(data, *place)]
    return places


def _tracks(data: bytes) -> Iterator[tuple[int, int]]:
    for kind, _, inside, end in _boxes(data, 0, len(data)):
        if kind == b"moov":
            yield from ((begin, stop) for box, begin, _, stop in _boxes(data, inside, end) if box == b"trak")


def _boxes(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Of each box in a row: its kind, and where it, what is in it, and what is behind it begins."""
    while at + 8 <= stop:
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = min(at + size, stop) if size else stop
        if end - at < head:
            return
        yield data[at + 4 : at + 8], at, at + head, end
        at = end


def _is_raw(track: bytes) -> bool:
    """Whether this can be nothing but one track of sound that is not compressed."""
    if b"vide" in track or any(track.count(name) != 1 for name in (b"stsd", b"stts", b"stsz")):
        return False
    kinds, times = track.index(b"stsd") + 8, track.index(b"stts") + 8
    return (
        track[kinds : kinds + 4] == b"\0\0\0\1"
        and track[kinds + 8 : kinds + 12] in _RAW
        and track[times : times + 4] == track[times + 8 : times + 12] == b"\0\0\0\1"
    )
