"""The EXIF bytes and XMP text of a picture → its orientation, 1 to 8; anything malformed → 1.

Read by hand, because all that is wanted is one number: Pillow's parser walks every tag, warns, and raises
several kinds of errors on malformed data, the first time only.
"""

import re
import struct
from collections.abc import Mapping

__all__ = ["orientation"]

_TAG = 0x0112
_SIZES = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_PREFIX = b"Exif\0\0"
_LONGEST = 2**18  # letters of Exif as text; the orientation stands near its beginning


def __dir__() -> list[str]:
    return __all__


def orientation(info: Mapping[str | tuple[int, int], object]) -> int:
    r"""Find how the picture must be turned to stand upright.

    Args:
        info: The `info` of a Pillow image: raw EXIF, the hex text in which ImageMagick stores EXIF in a
            PNG, or XMP, which counts when there is no EXIF orientation.

    Example:
        >>> tiff = b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0)
        >>> orientation({"exif": tiff}), orientation({"exif": tiff[:9]}), orientation({})
        (6, 1, 1)

    Source: EXIF 2.32, 4.5.2 (IFD structure) and 4.6.4 (Orientation); TIFF 6.0, section 2.
    """
    value = _from_exif(_exif(info))
    if value is None:
        value = _from_xmp(info)
    return value if value is not None and 1 <= value <= 8 else 1


def _exif(info: Mapping[str | tuple[int, int], object]) -> bytes:
    data = info.get("exif")
    if isinstance(data, bytes):
        return data
    text = info.get("Raw profile type exif")
    if not isinstance(text, str):
        return b""
    digits = "".join(text[:_LONGEST].split("\n", 3)[-1].split())
    try:
        return bytes.fromhex(digits[: len(digits) // 2 * 2])
    except ValueError:
        return b""


def _from_exif(data: bytes) -> int | None:
    for _ in range(2):  # some writers put the prefix twice
        data = data.removeprefix(_PREFIX)
    endian = {b"II": "<", b"MM": ">"}.get(data[:2])
    if endian is None:
        return None
    try:
        (start,) = struct.unpack_from(endian + "I", data, 4)
        (count,) = struct.unpack_from(endian + "H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(endian + "HHI", data, entry)
            if tag == _TAG and length == 1 and kind in _SIZES:
                return int(struct.unpack_from(endian + _SIZES[kind], data, entry + 8)[0])
    except struct.error:  # an offset or a count that points past the end
        pass
    return None


def _from_xmp(info: Mapping[str | tuple[int, int], object]) -> int | None:
    for key in ("XML:com.adobe.xmp", "xmp"):
        text = info.get(key)
        text = text.encode("utf-8", "replace") if isinstance(text, str) else text
        if isinstance(text, bytes) and (match := _XMP.search(text)):
            return int(match[1])
    return None
