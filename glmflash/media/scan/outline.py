"""What a container's scan gives: size and frames, or a refusal of what is too much."""

from dataclasses import dataclass

from glmflash.errors import ImageError

__all__ = ["MOST_RECORDS", "Outline", "bounded", "damaged"]

#: Chunks, segments or blocks beside the picture's data. Each costs Pillow about ten microseconds.
MOST_RECORDS = 1000


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Outline:
    """A picture file by its structure.

    Args:
        width: Of the first frame in pixels, as it will be decoded; the larger one where the file contradicts
            itself.
        height: Likewise.
        frames: That were counted.
        cost: Bytes of memory that decoding it takes for each pixel, as measured: four as Pillow holds it and
            three of the result, more where a decoder keeps the whole picture too.
    """

    width: int
    height: int
    frames: int = 1
    cost: int = 7


def bounded(count: int, most: int, what: str) -> None:
    """Refuse a file that has too many parts of a kind.

    Raises:
        ImageError: With the limit.
    """
    if count > most:
        raise ImageError(
            f"has more than {most} {what}, more than any picture needs; save it anew without them"
        )


def damaged(what: str) -> ImageError:
    """The error for a file whose structure does not hold."""
    return ImageError(f"is damaged or cut short: {what}")
