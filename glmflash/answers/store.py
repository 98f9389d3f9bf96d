"""What every store of answers does: bytes by key, for a time, up to a size."""

from typing import Protocol

from glmflash.errors import ParameterError
from glmflash.kv.memory import parse_memory

__all__ = ["AnswerStore", "read_size"]


def __dir__() -> list[str]:
    return __all__


class AnswerStore(Protocol):
    """Bytes by key. Write one of your own by these five, and give it to an `AnswerCache`.

    The cache calls `get` from one thread and all others from a second one. What a store gives back is
    checked, so it may lose anything; and it may be slow or raise, which costs hits.
    """

    def get(self, key: str) -> bytes | None:
        """What was put by this key; None if it is not there any more."""

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value for so many seconds; others may have to go for it."""

    def clear(self) -> None:
        """Forget everything."""

    def close(self) -> None:
        """Give back what the store holds of the system. What it has kept stays, if it can."""

    @property
    def nbytes(self) -> int | None:
        """Size of what it keeps, as far as it is known without looking."""


def read_size(value: str | int, *, parameter: str = "max_bytes", least: int = 1) -> int:
    """Bytes, from a number or a text such as "64 MiB".

    Raises:
        ParameterError: If it is none of these, or less than `least`.

    Example:
        >>> read_size("64 MiB")
        67108864
    """
    size = None if value == "auto" else parse_memory(value, parameter=parameter)
    if size is None or size < least:
        allowed = f'bytes from {least:,}, or a text like "64 MiB"'
        raise ParameterError(parameter, f"is {value!r:.40}; allowed: {allowed}")
    return size
