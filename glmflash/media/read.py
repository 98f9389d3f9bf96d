"""Anything that holds a picture → RGB pixels: the one place where pictures are decoded.

Every way in meets here, so that the same picture gives the same pixels by path, bytes, file, data URL, PIL
image, array or tensor; and everything that can go wrong leaves here, as one `ImageError`.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile

from glmflash.errors import FetchError, ImageError, ParameterError
from glmflash.media.arrays import Pixels, Tensor, check_size, levels, read_array
from glmflash.media.orientation import orientation
from glmflash.media.policy import InputPolicy, Limits
from glmflash.media.sources import DataUrl, Url, name_of, read_bytes

__all__ = ["explained", "is_picture", "opened", "read", "upright_rgb"]

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
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def __dir__() -> list[str]:
    return __all__


def read(
    source: object, *, policy: InputPolicy | None = None, give_up: Callable[[], bool] | None = None
) -> Pixels:
    """Read a picture as a person would see it: upright, on white, in 8-bit RGB, its first frame.

    Transparent parts show white. 16-bit samples keep their high byte. CMYK is converted by the plain
    formula, without colour profiles. Orientation is applied; malformed metadata is ignored.

    Args:
        source: A path (`str` or `Path`), bytes-like object, binary file, PIL image, NumPy array or torch
            tensor (see `arrays.read_array`), `DataUrl` or `Url`. A plain string is always a path. A PIL
            image is taken as it is, whatever format it was opened from. What the caller passes in is
            neither changed, closed nor kept.
        policy: Limits; `InputPolicy()` if not given.
        give_up: Asked again and again while a URL is fetched; if it says yes, that ends at once.

    Shapes:
        -> (H, W, 3) uint8, C-contiguous, in memory of its own

    Raises:
        ImageError: If there is no picture, it is damaged, too large, or of a format that is not allowed.
        FetchError: If `source` is a `Url`, and may not or cannot be fetched.
        ParameterError: If `policy` is not an `InputPolicy`.

    Example:
        >>> read(np.zeros((2, 4), np.uint8)).shape
        (2, 4, 3)
    """
    policy = InputPolicy() if policy is None else policy
    if not isinstance(policy, InputPolicy):
        raise ParameterError("input_policy", f"is a {type(policy).__name__}; allowed: an InputPolicy or None")
    try:
        return _read(source, policy, give_up)
    except FetchError:
        raise
    except ImageError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - Pillow raises nearly every kind, a caller's file any
        problem = explained(error)
    # Raised outside the handlers: the cause's text can hold addresses, and its frames the caller's object.
    raise ImageError(f"{name_of(source)}: {problem}")


def is_picture(value: object) -> bool:
    """Whether a value is a picture by its type: a PIL image, `DataUrl`, `Url`, or an array of three axes.

    Paths and bytes may hold a picture or anything else, so they are none.

    Example:
        >>> is_picture(np.zeros((2, 4, 3))), is_picture(np.zeros((2, 4))), is_picture("receipt.png")
        (True, False, False)
    """
    if isinstance(value, np.ndarray | Tensor):
        return len(value.shape) == 3
    return isinstance(value, Image.Image | DataUrl | Url)


def _read(source: object, policy: InputPolicy, give_up: Callable[[], bool] | None) -> Pixels:
    if isinstance(source, Image.Image):
        return upright_rgb(source, policy)
    data = read_bytes(source, policy=policy, give_up=give_up)
    if data is not None:
        with opened(data, policy) as image:
            return upright_rgb(image, policy)
    samples = read_array(source, policy=policy)
    if samples is None:
        raise ImageError(
            "is not a picture; allowed: a path, bytes, a binary file, a PIL image, a NumPy array or torch "
            "tensor, glmflash.DataUrl, glmflash.Url"
        )
    if samples.shape[2] == 4:
        return upright_rgb(Image.fromarray(samples), policy)
    return samples if samples.shape[2] == 3 else _grey(samples[:, :, 0])


def opened(data: bytes, policy: Limits) -> Image.Image:
    """An encoded picture of an allowed format, by its header; nothing is decoded yet.

    Raises:
        ImageError: If it is of no allowed format.
    """
    allowed = ", ".join(policy.formats)
    if not data:
        raise ImageError(f"is empty; allowed: {allowed}")
    found = next((name for name, at, magic in _MAGIC if data.startswith(magic, at)), None)
    if found not in policy.formats:
        hint = "; glmflash.read_pdf has the pages of a PDF as pictures" if found == "PDF" else ""
        raise ImageError(
            f"is not an allowed picture: found {found or 'no known format'}; allowed: {allowed}{hint}"
        )
    return Image.open(io.BytesIO(data), formats=(found,))


def upright_rgb(image: Image.Image, policy: Limits) -> Pixels:
    """The frame that a PIL image stands at, as a person would see it.

    Shapes:
        -> (H, W, 3) uint8

    Raises:
        ImageError: If it is too large, or has samples that are none.
    """
    check_size(*image.size, policy=policy)  # from the header: nothing is decoded yet
    turn = _UPRIGHT.get(orientation(image.info))
    key = _transparent_colour(image)
    image.load()
    check_size(*image.size, policy=policy)  # a GIF's first frame may be larger than its header says
    if image.mode.startswith("I") or image.mode == "F":
        return _deep(image, key, turn)
    rgb = _rgb(image, key)
    return np.array(rgb if turn is None else rgb.transpose(turn))  # (H, W, 3)


def _rgb(image: Image.Image, key: object) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if "transparency" in image.info:
        image = image.copy()  # converting a palette writes the transparency into it
        image.info["transparency"] = key
    if image.mode == "La":
        image = image.convert("LA")  # Pillow has no way from there straight to RGBA
    layer = image.convert("RGBA")
    white = Image.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer.getchannel("A"))
    return white


def _transparent_colour(image: Image.Image) -> object:
    """PNG counts its transparent colour in the samples of the file; pixels come out in 8 bits."""
    key = image.info.get("transparency")
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) and image.format == "PNG" else []
    raw = str(tiles[0].args) if tiles else ""
    if isinstance(key, int) and raw in ("L;2", "L;4"):
        top = {"L;2": 3, "L;4": 15}[raw]
        return (key & top) * 255 // top
    if isinstance(key, tuple) and raw == "RGB;16B":
        return tuple(sample >> 8 for sample in key)
    return key


def _deep(image: Image.Image, key: object, turn: Image.Transpose | None) -> Pixels:
    """Samples of 16 bits, as Pillow holds them in modes I;16 and I, or floats 0..1 in mode F."""
    if turn is not None:
        image = image.transpose(turn)
    samples = np.asarray(image)
    if image.mode == "F":
        return _grey(levels(samples))
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > 0xFFFF:
        raise ImageError(f"has samples from {low} to {high} in mode {image.mode}; allowed: 0 to 65535")
    grey = (samples >> 8).astype(np.uint8)  # the high byte, as for 16-bit RGB; a convert() would clip
    if isinstance(key, int):
        grey[samples == key] = 255
    return _grey(grey)


def _grey(samples: Pixels) -> Pixels:
    return np.repeat(samples[:, :, None], 3, axis=2)  # (H, W, 3)


def explained(error: Exception) -> str:
    """Say what a library's exception means, in our words: its own may hold addresses or payload."""
    kind = type(error).__name__
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"has far too many pixels ({kind}); make the picture smaller"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return f"is damaged or cut short, and cannot be decoded ({kind})"
