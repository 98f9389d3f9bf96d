"""None, True, False or a function → one function that takes how much is done and how much there is."""

import sys
import time
from collections.abc import Callable

from glmflash.errors import ParameterError

__all__ = ["Line", "Progress", "answered", "loading", "reporter", "wants_bar"]

#: What a caller may ask for.
Progress = bool | Callable[[int, int], None] | None
#: Done, in all, and seconds since the first report → the line that is shown.
Line = Callable[[int, int, float], str]


def __dir__() -> list[str]:
    return __all__


def wants_bar(progress: Progress) -> bool:
    """True asks for a bar, False for none; None means one where a person watches (stderr is a terminal).

    Raises:
        ParameterError: If `progress` is none of these, and no function.
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ParameterError("progress", f"is {progress!r:.80}; allowed: None, True, False or a function")
    return sys.stderr.isatty() if progress is None else progress is True


def loading(done: int, total: int, seconds: float) -> str:  # noqa: ARG001  # as every `Line`
    """A bar for bytes.

    Example:
        >>> loading(10**9, 2 * 10**9, 3.0)
        'loading [###############               ] 1.00 of 2.00 GB'
    """
    return f"loading {_bar(done, total)} {done / 1e9:.2f} of {total / 1e9:.2f} GB"


def answered(done: int, total: int, seconds: float) -> str:
    """A bar for requests, with their rate and the time left at that rate.

    Example:
        >>> answered(12, 40, 4.0)
        'answered [#########                     ] 12 of 40, 3.0/s, 9 s left'
    """
    line = f"answered {_bar(done, total)} {done} of {total}"
    if not done or seconds <= 0:
        return line
    left = round((total - done) * seconds / done)
    minutes = f"{left // 60} min " if left >= 60 else ""
    return f"{line}, {done / seconds:.1f}/s, {minutes}{left % 60} s left"


def reporter(progress: Progress, *, line: Line = loading) -> Callable[[int, int], None]:
    """The function to call as work gets done.

    Args:
        progress: What the caller asked for.
        line: How a bar reads.

    Raises:
        ParameterError: As `wants_bar`.

    Example:
        >>> reporter(False)(1, 2)
        >>> reporter(lambda done, total: print(f"{done} of {total}"))(1, 2)
        1 of 2
    """
    if callable(progress):
        return progress
    return _Bar(line) if wants_bar(progress) else _silent


def _silent(done: int, total: int) -> None:
    """Report nothing."""


def _bar(done: int, total: int) -> str:
    filled = "#" * (30 * done // max(total, 1))
    return f"[{filled:<30}]"


class _Bar:
    """A line on stderr, rewritten ten times a second, and cleared at the end."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._began: float | None = None
        self._next = 0.0
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now < self._next:
            return
        self._began = now if self._began is None else self._began
        self._next = now + 0.1
        line = self._line(done, total, now - self._began).ljust(self._width)  # over a longer one
        self._width = len(line)
        end = "\r" + " " * len(line) + "\r" if done >= total else ""
        sys.stderr.write("\r" + line + end)
        sys.stderr.flush()
