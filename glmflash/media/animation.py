"""An animated GIF, WEBP or PNG → a film: when its frames are shown, and each of them when it is asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from PIL import Image

from glmflash.errors import ImageError
from glmflash.media.arrays import Pixels, check_size
from glmflash.media.clip_policy import ClipPolicy, check_length
from glmflash.media.frames import Film, Timeline
from glmflash.media.read import opened, upright_rgb

__all__ = ["open_animation"]

_UNSAID = 100  # milliseconds, as browsers have it where a file says nothing or next to nothing
_LEAST = 11


def __dir__() -> list[str]:
    return __all__


def open_animation(source: bytes | Image.Image, *, policy: ClipPolicy) -> Film:
    """Find out when its frames are shown; for that all are gone through, one at a time.

    Args:
        source: The encoded animation, or a PIL image, whose frame at hand stays where it is.
        policy: Limits; held after each frame.

    Raises:
        ImageError: If it breaks them, or is of no allowed format.
    """
    begins, now, pixels = list[float](), 0, 0
    with _at_hand(source, policy) as image:
        check_size(*image.size, policy=policy)
        while _seek(image, len(begins)):
            begins.append(now / 1000)
            now += _milliseconds(image)
            pixels += image.width * image.height
            check_length(len(begins), pixels, now / 1000, policy=policy)
    rate = len(begins) * 1000 / now
    even = all(abs(begin - i / rate) < 0.0005 for i, begin in enumerate(begins))
    line = Timeline(len(begins), rate, times=None if even else tuple(begins), seconds=now / 1000)
    return Film(line, partial(_frames, source, policy))


def _frames(source: bytes | Image.Image, policy: ClipPolicy, wanted: Sequence[int]) -> Iterator[Pixels]:
    with _at_hand(source, policy) as image:
        for index in wanted:
            if not _seek(image, index):
                raise ImageError(f"has no frame {index} any more")
            yield upright_rgb(image, policy)


@contextmanager
def _at_hand(source: bytes | Image.Image, policy: ClipPolicy) -> Iterator[Image.Image]:
    if isinstance(source, bytes):
        with opened(source, policy) as image:
            yield image
        return
    place = source.tell()
    try:
        yield source
    finally:
        source.seek(place)


def _seek(image: Image.Image, index: int) -> bool:
    try:
        image.seek(index)
        image.load()  # only now do all formats know how long the frame is shown
    except EOFError:
        return False
    return True


def _milliseconds(image: Image.Image) -> int:
    told = image.info.get("duration", 0)
    return int(told) if isinstance(told, int | float) and told >= _LEAST else _UNSAID
