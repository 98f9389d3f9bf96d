"""Pictures made to harm: floods, bombs and liars of every container, built byte by byte."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def encoded(kind: str, size=(8, 8), **options) -> bytes:
    """A small picture of noise."""
    pixels = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*before: bytes, size=(8, 8), after=(), data: bytes | None = None) -> bytes:
    """A grey PNG with more chunks before and behind its data."""
    if data is None:
        data = chunk(b"IDAT", zlib.compress(bytes((size[0] + 1) * size[1])))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    return b"".join([PNG, header, *before, data, *after, chunk(b"IEND")])


def segment(marker: int, data: bytes = b"") -> bytes:
    """One segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(before: bytes, size=(8, 8), **options) -> bytes:
    """A JPEG with more between its start and its first segment."""
    picture = encoded("JPEG", size, **options)
    return picture[:2] + before + picture[2:]


def gif(before: bytes) -> bytes:
    """A GIF with more between its colours and its first block."""
    picture = encoded("GIF")
    start = 13 + (3 << (picture[10] & 7) + 1)
    return picture[:start] + before + picture[start:]


def webp(*more: bytes, size=(8, 8)) -> bytes:
    """An extended WEBP with more chunks behind its picture."""
    plain = encoded("WEBP", size, lossless=True)[12:]
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in size)
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    body = b"WEBP" + extended + plain + b"".join(more)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_runs(runs: bytes, size=(8, 8), bits: int = 8) -> bytes:
    """A BMP of run lengths."""
    colours = bytes(4 * 256)
    header = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, 1 if bits == 8 else 2, len(runs), 0, 0, 256, 0)
    start = 14 + len(header) + len(colours)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + colours + runs


def tiff(*entries: tuple[int, int, int, int], size=(8, 8), next_directory: int = 0) -> bytes:
    """A grey TIFF of one strip, with more entries in its directory: (tag, type, count, value)."""
    own = [
        (256, 4, 1, size[0]), (257, 4, 1, size[1]), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, size[1]),
        (279, 4, 1, min(size[0] * size[1], 2**32 - 1)),
    ]  # fmt: skip
    given = {entry[0] for entry in entries}
    rows = sorted([*(entry for entry in own if entry[0] not in given), *entries])
    pixels = bytes(min(size[0] * size[1], 64))
    directory = struct.pack("<H", len(rows)) + b"".join(struct.pack("<HHII", *row) for row in rows)
    return (
        b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + struct.pack("<I", next_directory)
    )


_TABLE = segment(0xDB, (b"\0" + b"\1" * 64) * 1008)
_BLOCKS = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5000)
_SCANS = encoded("JPEG", (8, 8), progressive=True)
_SCAN = _SCANS[_SCANS.rindex(b"\xff\xda") : -2]


def animated(number: int) -> bytes:
    """The chunk that says how many pictures a PNG has."""
    return chunk(b"acTL", struct.pack(">II", number, 0))


def frame(number: int) -> bytes:
    """The chunk that a picture of an animated PNG begins with."""
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 8, 8, 0, 0, 1, 10, 0, 0))


def _gif_led_astray(note: bytes, size: int) -> bytes:
    """A note that should have ended, and then what is a picture, or a length for who does not see the end."""
    picture = b"," + struct.pack("<HHHHB", 0, 0, 8, 8, 0) + bytes(ord(",") - 9)
    return gif(note + picture + b"\x01a" * (size // 2) + b"\0")


def _hidden_scans(size: int) -> bytes:
    """A comment that reads like the end of the picture, and many scans behind it."""
    at = _SCANS.index(b"\xff\xc4", _SCANS.index(b"\xff\xda"))
    comment = segment(0xFE, b"\xff\xd9")
    return _SCANS[:at] + comment + _SCANS[at:-2] + _SCAN * (size // len(_SCAN)) + _SCANS[-2:]


def _packed(kind: bytes, head: bytes, size: int) -> bytes:
    """Compressed texts of a megabyte each, which Pillow unpacks, but does not add up."""
    text = chunk(kind, head + zlib.compress(bytes(2**20 - 1), 9))
    return png(text * min(size // len(text), 999))


_ANIMATED = {
    "no": lambda flood: png(animated(0), frame(0), after=[frame(1), flood]),
    "one": lambda flood: png(animated(1), frame(0), after=[frame(1), flood]),
    "twice": lambda flood: png(animated(5), animated(5), frame(0), after=[frame(1), flood]),
    "behind": lambda flood: png(after=[animated(5), frame(0), frame(1), flood]),
}

#: Files of about so many bytes that hold as many parts as possible, and what is too much of each.
FLOODS: dict[str, tuple[Callable[[int], bytes], str]] = {
    "png-chunks": (lambda size: png(chunk(b"abCd") * (size // 12)), "PNG chunks"),
    "png-texts": (lambda size: png(chunk(b"tEXt", b"k\0v") * (size // 15)), "PNG chunks"),
    "png-chunks-behind": (lambda size: png(after=[chunk(b"abCd") * (size // 12)]), "PNG chunks"),
    "png-empty-data": (lambda size: png(chunk(b"IDAT") * (size // 12)), "pieces of image data"),
    **{
        f"png-animated-{name}": (lambda size, make=make: make(chunk(b"abCd") * (size // 12)), "PNG chunks")
        for name, make in _ANIMATED.items()
    },
    "png-packed": (lambda size: _packed(b"zTXt", b"\0\0", size), "compressed texts"),
    "png-packed-words": (lambda size: _packed(b"iTXt", b"k\0\1\0\xff\0\0", size), "compressed texts"),
    "jpeg-comments": (lambda size: jpeg(segment(0xFE) * (size // 4)), "JPEG segments"),
    "jpeg-exif": (lambda size: jpeg(segment(0xE1, b"Exif\0\0") * (size // 10)), "segments of Exif"),
    "jpeg-padding": (lambda size: jpeg(b"\xff" * size), "bytes between"),
    "jpeg-zeros": (lambda size: jpeg(b"\xff\0" * (size // 2)), "bytes between"),
    "jpeg-junk": (lambda size: jpeg(segment(0xFE) + b"\0" * size), "bytes between"),
    "jpeg-tables": (lambda size: jpeg(_TABLE * (size // len(_TABLE))), "bytes of tables"),
    "jpeg-photoshop": (lambda size: jpeg(_BLOCKS * (size // len(_BLOCKS))), "Photoshop blocks"),
    "jpeg-scans": (
        lambda size: _SCANS[:-2] + _SCAN * (size // len(_SCAN)) + _SCANS[-2:],
        "scans at this size",
    ),
    "jpeg-hidden-scans": (_hidden_scans, "scans at this size"),
    "jpeg-between": (
        lambda size: _SCANS[:-2] + segment(0xFE) * (size // 4) + _SCANS[-2:],
        "between its scans",
    ),
    "gif-control": (lambda size: _gif_led_astray(b"!\xf9\0", size), "pieces of comments"),
    "gif-loop": (lambda size: _gif_led_astray(b"!\xff\x0bNETSCAPE2.0\0", size), "pieces of comments"),
    "gif-comments": (lambda size: gif(b"!\xfe\0" * (size // 3)), "GIF blocks"),
    "gif-comment": (lambda size: gif(b"!\xfe" + b"\x01a" * (size // 2) + b"\0"), "pieces of comments"),
    "gif-junk": (lambda size: gif(b"\0" * size), "bytes between"),
    "webp-chunks": (lambda size: webp((b"abcd" + bytes(4)) * (size // 8)), "WEBP chunks"),
    "bmp-runs": (lambda size: bmp_runs(b"\1\0" * (size // 2), (1000, 1000)), "run lengths"),
    "bmp-lines": (lambda size: bmp_runs(b"\1\0\0\0" * min(size, 4000), (8000, 4000)), "run lengths"),
    "tiff-entries": (
        lambda size: tiff(*((40_000 + i, 3, 1, 0) for i in range(min(size // 12, 25_000)))),
        "entries in",
    ),
    "tiff-strips": (lambda size: tiff((273, 4, size // 4, 8)) + bytes(size), "pieces of image data"),
    "tiff-numbers": (lambda size: tiff((258, 3, size // 2, 8)) + bytes(size), "numbers in one entry"),
}


def sized(kind: str, width: int, height: int) -> bytes:
    """A tiny file whose header claims this size."""
    if kind == "PNG":
        return png(size=(width, height), data=chunk(b"IDAT"))
    if kind == "JPEG":
        picture = bytearray(encoded("JPEG"))
        struct.pack_into(">HH", picture, picture.index(b"\xff\xc0") + 5, height, width)
        return bytes(picture)
    if kind == "GIF":
        picture = bytearray(encoded("GIF"))
        struct.pack_into("<HH", picture, 6, width, height)
        return bytes(picture)
    if kind == "GIF, first frame":
        picture = bytearray(encoded("GIF"))
        at = 13 + (3 << (picture[10] & 7) + 1)
        struct.pack_into("<HH", picture, picture.index(b",", at) + 5, width, height)
        return bytes(picture)
    if kind == "WEBP":
        canvas = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
        return webp()[:24] + canvas + bytes(16)
    if kind == "WEBP, VP8L":
        bits = (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14
        picture = bytearray(encoded("WEBP", lossless=True))
        struct.pack_into("<I", picture, 21, bits)
        return bytes(picture)
    if kind == "TIFF":
        return tiff(size=(width, height))
    picture = bytearray(encoded("BMP"))
    struct.pack_into("<ii", picture, 18, width, -height if kind == "BMP, top down" else height)
    return bytes(picture)
