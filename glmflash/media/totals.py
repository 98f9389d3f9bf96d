"""What the pictures of one request have come to → whether the next one may still be read."""

from glmflash.errors import ImageError
from glmflash.media.policy import InputPolicy

__all__ = ["Totals"]


def __dir__() -> list[str]:
    return __all__


class Totals:
    """Counts what is read for one request.

    Args:
        policy: Says how much that may be.

    Example:
        >>> totals = Totals(InputPolicy(max_pictures=1))
        >>> totals.add(pictures=1)
        >>> totals.add(pictures=1)
        Traceback (most recent call last):
            ...
        glmflash.errors.ImageError: one request has more than 1 pictures, which is InputPolicy.max_pictures
    """

    def __init__(self, policy: InputPolicy) -> None:
        self._policy = policy
        self._pictures = self._bytes = self._pixels = 0

    def add(self, *, pictures: int = 0, bytes: int = 0, pixels: int = 0) -> None:  # noqa: A002 - what they are
        """Count something, before it costs anything.

        Raises:
            ImageError: If it is more than allowed, with the limit.
        """
        self._pictures += pictures
        self._bytes += bytes
        self._pixels += pixels
        policy = self._policy
        for value, name, what in (
            (self._pictures, "max_pictures", "pictures"),
            (self._bytes, "max_total_bytes", "bytes of pictures"),
            (self._pixels, "max_total_pixels", "pixels"),
        ):
            if value > (limit := getattr(policy, name)):
                raise ImageError(f"one request has more than {limit} {what}, which is InputPolicy.{name}")
