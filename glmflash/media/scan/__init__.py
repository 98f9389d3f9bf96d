"""The bytes of a picture → what they say of themselves, in one pass over the structure; nothing is decoded.

    outline  the verdict, and the limits that all formats share
    png, jpeg, gif, webp, bmp, tiff  one container each

Pillow walks these structures in Python, about a second for each megabyte of the smallest chunks, and some
decoders reserve a picture's memory before anyone has seen its size. So all is counted here first, which takes
steps as cheap as the language has, and ends as soon as something is too much.
"""

from collections.abc import Callable

from glmflash.errors import ImageError
from glmflash.media.scan import bmp, gif, jpeg, png, tiff, webp
from glmflash.media.scan.outline import Outline

__all__ = ["Outline", "format_of", "scan"]

_MAGIC = (
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("WEBP", 8, b"WEBP"),
    ("GIF", 0, b"GIF8"),
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("JPEG 2000", 4, b"jP  "),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("JPEG XL", 4, b"JXL "),
    ("AVIF", 4, b"ftypavi"),
    ("HEIC", 4, b"ftyphe"),
    ("HEIC", 4, b"ftypmif1"),
    ("MP4", 4, b"ftyp"),
    ("ICO", 0, b"\0\0\1\0"),
    ("PSD", 0, b"8BPS"),
    ("PDF", 0, b"%PDF"),
    ("EPS", 0, b"%!PS"),
    ("SVG", 0, b"<svg"),
)
_SCANS: dict[str, Callable[[bytes, int | None], Outline]] = {
    "PNG": png.scan,
    "JPEG": jpeg.scan,
    "GIF": gif.scan,
    "WEBP": webp.scan,
    "BMP": bmp.scan,
    "TIFF": tiff.scan,
}


def __dir__() -> list[str]:
    return __all__


def format_of(data: bytes) -> str | None:
    """Name the format by its first bytes; None if it is none that is known, allowed or not.

    Example:
        >>> format_of(b"GIF89a..."), format_of(b"%PDF-1.7"), format_of(b"")
        ('GIF', 'PDF', None)
    """
    return next((name for name, at, magic in _MAGIC if data.startswith(magic, at)), None)


def scan(data: bytes, form: str, *, frames: int | None = None) -> Outline:
    """Judge a picture by its structure.

    Args:
        data: The whole file.
        form: PNG, JPEG, GIF, WEBP, BMP or TIFF, as `format_of` says.
        frames: Count them until there are more than this; None, and what lies behind the first is not
            looked at.

    Raises:
        ImageError: If there is no picture, or more around it than any needs.

    Example:
        >>> scan(b"GIF89a" + bytes([4, 0, 2, 0, 0, 0, 0, 0x2C, 0, 0, 0, 0, 4, 0, 2, 0, 0]), "GIF")
        Outline(width=4, height=2, frames=1)
    """
    if form not in _SCANS:
        raise ImageError(f"is not an allowed picture: found {form}")
    return _SCANS[form](data, frames)
