"""A time limit, and a question whether anybody still waits → how long to wait at once."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from glmflash.errors import FetchError

__all__ = ["Patience"]

_AT_ONCE = 0.1  # seconds


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one fetch may take, whatever it is at.

    Args:
        seconds: In all; for messages.
        until: When they are over, by `time.monotonic`.
        give_up: Asked again and again; if it says yes, the fetch ends at once.

    Example:
        >>> Patience.of(10).left() > 9
        True
    """

    seconds: float
    until: float
    give_up: Callable[[], bool] | None = None

    @classmethod
    def of(cls, seconds: float, give_up: Callable[[], bool] | None = None) -> "Patience":
        """From now on."""
        return cls(seconds, time.monotonic() + seconds, give_up)

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            FetchError: If there are none, or nobody waits any more.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise FetchError(f"did not come within {self.seconds:g} s, which is UrlPolicy.timeout")
        if self.give_up is not None and self.give_up():
            raise FetchError("is not waited for any more")
        return left

    def slice(self) -> float:
        """Seconds to wait at once. Raises as `left` does."""
        return min(self.left(), _AT_ONCE)
