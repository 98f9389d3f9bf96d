"""Anything that holds a picture → RGB pixels: the one place where pictures are decoded.

Every way in meets here, so that the same picture gives the same pixels by path, bytes, file, data URL, PIL
image, array or tensor; and everything that can go wrong leaves here, as one `ImageError`.
"""

import io
from collections.abc import Callable

import numpy as np
import PIL
import PIL.TiffImagePlugin  # these two by name: at the first such picture Pillow would load all its parsers,
import PIL.WebPImagePlugin  # of fifty formats
from PIL import Image, ImageFile

from glmflash.errors import FetchError, ImageError, ParameterError
from glmflash.media.arrays import Pixels, Tensor, check_size, levels, read_array
from glmflash.media.orientation import orientation
from glmflash.media.policy import InputPolicy, Limits
from glmflash.media.scan import format_of, scan
from glmflash.media.sources import DataUrl, Url, name_of, read_bytes
from glmflash.media.totals import Totals
from glmflash.version import warn_if_old

__all__ = ["explained", "is_picture", "opened", "read", "upright_rgb"]

# For each orientation: whether rows and columns change places, and then how each is gone through.
_UPRIGHT = {
    1: (False, 1, 1),
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, -1, 1),
    7: (True, -1, -1),
    8: (True, 1, -1),
}
_BAND = 2**20  # pixels that are converted at a time: a large picture is never there twice


def __dir__() -> list[str]:
    return __all__


def read(
    source: object,
    *,
    policy: InputPolicy | None = None,
    give_up: Callable[[], bool] | None = None,
    totals: Totals | None = None,
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
        totals: Counts the pictures of one request together; if not given, this one is all of them.

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
        return _read(source, policy, give_up, totals)
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


def _read(
    source: object, policy: InputPolicy, give_up: Callable[[], bool] | None, totals: Totals | None
) -> Pixels:
    totals = Totals(policy) if totals is None else totals
    totals.add(pictures=1)
    if isinstance(source, Image.Image):
        totals.add(pixels=source.width * source.height)
        return upright_rgb(source, policy)
    data = read_bytes(source, policy=policy, give_up=give_up)
    if data is not None:
        totals.add(bytes=len(data))
        with opened(data, policy, totals) as image:
            return upright_rgb(image, policy)
    samples = read_array(source, policy=policy)
    if samples is None:
        raise ImageError(
            "is not a picture; allowed: a path, bytes, a binary file, a PIL image, a NumPy array or torch "
            "tensor, glmflash.DataUrl, glmflash.Url"
        )
    totals.add(pixels=samples.shape[0] * samples.shape[1])
    if samples.shape[2] == 4:
        return upright_rgb(Image.fromarray(samples), policy)
    return samples if samples.shape[2] == 3 else np.repeat(samples, 3, axis=2)


def opened(data: bytes, policy: Limits, totals: Totals | None = None) -> Image.Image:
    """An encoded picture of an allowed format and size, by its structure; nothing is decoded yet.

    This is the only place where Pillow is handed what somebody encoded. Some of its plugins reserve memory
    for the whole picture as they open it, so its size is judged before that.

    Raises:
        ImageError: If it is of no allowed format, too large, or has more parts than any picture needs.
    """
    allowed = ", ".join(policy.formats)
    if not data:
        raise ImageError(f"is empty; allowed: {allowed}")
    found = format_of(data)
    if found is None or found not in policy.formats:
        hint = "; glmflash.read_pdf has the pages of a PDF as pictures" if found == "PDF" else ""
        raise ImageError(
            f"is not an allowed picture: found {found or 'no known format'}; allowed: {allowed}{hint}"
        )
    outline = scan(data, found, frames=policy.max_frames)
    check_size(outline.width, outline.height, policy=policy)
    memory = outline.width * outline.height * outline.cost
    if isinstance(policy, InputPolicy) and memory > policy.max_memory:
        raise ImageError(
            f"is {outline.width} x {outline.height} pixels, and would take {memory >> 20} MiB to decode as "
            f"{found}, more than the {policy.max_memory >> 20} of InputPolicy.max_memory; make the picture "
            "smaller, or save it otherwise"
        )
    if policy.max_frames is not None and outline.frames > policy.max_frames:
        name = f"{type(policy).__name__}.max_frames"
        raise ImageError(f"has more than {policy.max_frames} frames, which is {name}; give one of them")
    if totals is not None:
        totals.add(pixels=outline.width * outline.height)
    return Image.open(io.BytesIO(data), formats=(found,))


def upright_rgb(image: Image.Image, policy: Limits) -> Pixels:
    """The frame that a PIL image stands at, as a person would see it.

    Shapes:
        -> (H, W, 3) uint8

    Raises:
        ImageError: If it is too large, or has samples that are none.
    """
    check_size(*image.size, policy=policy)  # from the header: nothing is decoded yet
    key = _transparent_colour(image)
    image.load()
    # Only now: PNG may say it behind the pixels, and Pillow itself turns a TIFF, and then says no more of it.
    turned, *steps = _UPRIGHT[orientation(image.info)]
    check_size(*image.size, policy=policy)  # decoding may have found another
    width, height = image.size
    pixels = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)  # as it will stand
    stored = (pixels.swapaxes(0, 1) if turned else pixels)[:: steps[0], :: steps[1]]  # (height, width, 3)
    rows = max(_BAND // width, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = image if rows >= height else image.crop((0, top, width, bottom))
        stored[top:bottom] = _deep(band, key) if _is_deep(image.mode) else np.asarray(_rgb(band, key))
    return pixels


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


def _is_deep(mode: str) -> bool:
    return mode.startswith("I") or mode == "F"


def _deep(image: Image.Image, key: object) -> Pixels:
    """Samples of 16 bits, as Pillow holds them in modes I;16 and I, or floats 0..1 in mode F: (H, W, 1)."""
    samples = np.asarray(image)
    if image.mode == "F":
        return levels(samples)[:, :, None]
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > 0xFFFF:
        raise ImageError(f"has samples from {low} to {high} in mode {image.mode}; allowed: 0 to 65535")
    grey = (samples >> 8).astype(np.uint8)  # the high byte, as for 16-bit RGB; a convert() would clip
    if isinstance(key, int):
        grey[samples == key] = 255
    return grey[:, :, None]


def explained(error: Exception) -> str:
    """Say what a library's exception means, in our words: its own may hold addresses or payload."""
    kind = type(error).__name__
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"has far too many pixels ({kind}); make the picture smaller"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return f"is damaged or cut short, and cannot be decoded ({kind})"


warn_if_old("Pillow", PIL.__version__, (13,), holes="known holes in its decoders")
