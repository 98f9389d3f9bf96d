"""Answers in the memory of this process: the ones used longest ago make room."""

import sys
import threading
import time
from collections import OrderedDict

from glmflash.answers.store import read_size

__all__ = ["MemoryAnswers"]

_ENTRY = 256  # bytes of a place in the dictionary, a pair and a number


def __dir__() -> list[str]:
    return __all__


class MemoryAnswers:
    """Up to so many bytes of answers, in this process and as long as it lives.

    Args:
        max_bytes: Bytes that keys, values and their places may take, or a text such as "64 MiB".

    Raises:
        ParameterError: If `max_bytes` is not as above.

    Example:
        >>> store = MemoryAnswers("1 MB")
        >>> store.put("key", b"value", ttl=60)
        >>> store.get("key")
        b'value'
    """

    def __init__(self, max_bytes: str | int = "64 MiB") -> None:
        self.max_bytes = read_size(max_bytes)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes now."""
        return self._nbytes

    def get(self, key: str) -> bytes | None:
        """See `AnswerStore`; takes microseconds."""
        with self._lock:
            value, until = self._kept.get(key, (None, 0.0))
            if value is not None and time.monotonic() >= until:
                self._drop(key)
                value = None
            if value is not None:
                self._kept.move_to_end(key)
            return value

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """See `AnswerStore`. What does not fit alone is not kept."""
        size = _size(key, value)
        with self._lock:
            self._drop(key)
            if size > self.max_bytes:
                return
            self._kept[key] = value, time.monotonic() + ttl
            self._nbytes += size
            while self._nbytes > self.max_bytes:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._nbytes = 0

    def close(self) -> None:
        """The same: nothing outlives it."""
        self.clear()

    def _drop(self, key: str) -> None:
        value, _ = self._kept.pop(key, (None, 0.0))
        if value is not None:
            self._nbytes -= _size(key, value)


def _size(key: str, value: bytes) -> int:
    return sys.getsizeof(key) + sys.getsizeof(value) + _ENTRY
