"""Memory that was freed → given back to the system."""

import ctypes
from collections.abc import Callable
from functools import cache

__all__ = ["give_memory_back"]


def __dir__() -> list[str]:
    return __all__


def give_memory_back() -> None:
    """Let the C library return what it keeps of freed memory; nothing where it is not glibc.

    glibc keeps freed pieces below 32 MB for later, in a heap for each thread, between pieces still in use.
    After thousands of tensors that is gigabytes that nobody uses. A call takes some hundredths of a second.

    Source: malloc_trim(3).
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # Windows, macOS, musl
        return None
    return found
