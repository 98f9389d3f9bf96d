"""The blocks of a GIF → its outline."""

from glmflash.media.scan.outline import MOST_RECORDS, Outline, bounded, damaged

__all__ = ["scan"]

# Pillow takes all of these one by one.
_MOST_JUNK = 65_536
_MOST_NOTES = 65_536  # pieces of at most 255 bytes of what is no picture: comments, profiles
_MOST_PIECES = 1_000_000  # of image data


def __dir__() -> list[str]:
    return __all__


def scan(data: bytes, frames: int | None) -> Outline:
    """Go through the blocks, up to the first picture, or up to more of them than asked for.

    Source: GIF89a, sections 17 to 26.
    """
    if len(data) < 13:
        raise damaged("its header is incomplete")
    width, height = (int.from_bytes(data[at : at + 2], "little") for at in (6, 8))
    at = 13 + _table(data[10])
    shown, records, junk, notes, pieces = 0, 0, 0, 0, 0
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x21:
            records += 1
            bounded(records - shown, MOST_RECORDS, "GIF blocks beside the image data")
            at, count = _note(data, at + 1, _MOST_NOTES - notes, loops=not shown)
            notes += count
            bounded(notes, _MOST_NOTES, "pieces of comments and notes")
        elif data[at] == 0x2C and at + 10 <= len(data):
            left, top, wide, high = (
                int.from_bytes(data[at + i : at + i + 2], "little") for i in (1, 3, 5, 7)
            )
            width, height = max(width, left + wide), max(height, top + high)
            shown += 1
            if frames is None or shown > frames:
                break
            at, count = _pieces(data, at + 11 + _table(data[at + 9]), _MOST_PIECES - pieces)
            pieces += count
            bounded(pieces, _MOST_PIECES, "pieces of image data")
        else:
            at, junk = at + 1, junk + 1
            bounded(junk, _MOST_JUNK, "bytes between its blocks")
    if not shown:
        raise damaged("it holds no image data")
    return Outline(width, height, shown)


def _table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _note(data: bytes, at: int, most: int, *, loops: bool) -> tuple[int, int]:
    """Where what stands behind an exclamation mark ends for Pillow, and its pieces.

    Of all but comments it reads one row more, where the first piece, or the one behind the name of the loop
    count, is the empty one that should have ended them.
    """
    label, first = data[at : at + 1], at + 1
    end, count = _pieces(data, first, most)
    named = data[first : first + 1] >= b"\x0b" and data.startswith(b"NETSCAPE2.0", first + 1)
    if label != b"\xfe" and count == (loops and named and label == b"\xff"):
        end, more = _pieces(data, end, most - count)
        count += more
    return end, count


def _pieces(data: bytes, at: int, most: int) -> tuple[int, int]:
    """Where a row of pieces ends, and how many they are; at most one more than `most` are looked at."""
    count = 0
    while at < len(data) and data[at] and count <= most:
        at += 1 + data[at]
        count += 1
    return at + 1, count
