"""The header of a BMP → its outline."""

import struct

from glmflash.errors import ImageError
from glmflash.media.scan.outline import Outline, damaged

__all__ = ["scan"]

# Run lengths are undone in Python, one after another.
_RUN_LENGTHS = (1, 2)
_MOST_PIXELS = 2_500_000
_MOST_BYTES = 2**20


def __dir__() -> list[str]:
    return __all__


def scan(data: bytes, frames: int | None) -> Outline:  # noqa: ARG001 - a BMP has one
    """Read the size; there is nothing to go through.

    Source: BITMAPCOREHEADER (OS/2 1) and BITMAPINFOHEADER (Windows 3) with its successors.
    """
    if len(data) < 34:
        raise damaged("its header is incomplete")
    if int.from_bytes(data[14:18], "little") == 12:
        return Outline(*struct.unpack_from("<HH", data, 18))
    width, height, _, compression = struct.unpack_from("<IiII", data, 18)
    outline = Outline(width, abs(height))
    start = int.from_bytes(data[10:14], "little")
    if compression in _RUN_LENGTHS and (
        outline.width * outline.height > _MOST_PIXELS or len(data) - start > _MOST_BYTES
    ):
        raise ImageError(
            f"is a BMP of run lengths with more than {_MOST_PIXELS} pixels or {_MOST_BYTES} bytes; "
            "save it as PNG"
        )
    return outline
