"""None, True, False or a function → one function that takes how much is done and how much there is."""

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

from glmflash.errors import ParameterError
from glmflash.notebook import watched
from glmflash.shown import show

__all__ = ["ANSWERED", "LOADING", "QUANTISING", "Progress", "Report", "Work", "reporter", "wants_bar"]

#: What a caller may ask for. A function takes how much is done, and how much there is: None if nobody knows.
Progress = bool | Callable[[int, int], None] | Callable[[int, int | None], None] | None
#: What the work calls as it gets on.
Report = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Work:
    """How a bar reads.

    Args:
        name: What is being done.
        unit: In what it is counted.
        scaled: Whether thousands of it have their own names.
    """

    name: str
    unit: str
    scaled: bool = False


LOADING, QUANTISING = Work("loading", "B", scaled=True), Work("quantising", "B", scaled=True)
ANSWERED = Work("answered", " requests")

_PATIENCE = 0.5  # seconds that a bar which nobody asked for waits: what is over by then needs none


def __dir__() -> list[str]:
    return __all__


def wants_bar(progress: Progress) -> bool:
    """True asks for a bar, False for none; None means one where a person watches: a terminal or a notebook.

    Raises:
        ParameterError: If `progress` is none of these, and no function.
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ParameterError("progress", f"is {show(progress)}; allowed: None, True, False or a function")
    return (watched() or sys.stderr.isatty()) if progress is None else progress is True


def reporter(progress: Progress, work: Work = LOADING) -> AbstractContextManager[Report]:
    """The function to call as work gets done. A bar goes away at the end, however the work ends.

    Args:
        progress: What the caller asked for.
        work: How a bar reads.

    Raises:
        ParameterError: As `wants_bar`.

    Example:
        >>> with reporter(lambda done, total: print(f"{done} of {total}")) as report:
        ...     report(1, 2)
        1 of 2
    """
    bar = wants_bar(progress)
    if callable(progress):
        return nullcontext(cast(Report, progress))  # one that takes no None gets none: its work has an end
    return _drawn(work, _PATIENCE if progress is None else 0.0) if bar else nullcontext(_silent)


@contextmanager
def _drawn(work: Work, patience: float) -> Iterator[Report]:
    bar = _Bar(work, patience=patience)
    try:
        yield bar
    finally:
        bar.close()


def _silent(done: int, total: int | None) -> None:
    """Report nothing."""


class _Bar:
    """A bar of tqdm, drawn once it is worth it; any thread may report."""

    def __init__(self, work: Work, *, patience: float) -> None:
        self._work = work
        self._from = time.monotonic() + patience
        self._bar: Any = None
        self._closed = False
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int | None) -> None:
        with self._lock:
            if self._closed:  # by an interrupt that the work has not heard of
                return
            if self._bar is not None:
                self._bar.update(done - self._bar.n)
            elif time.monotonic() >= self._from and (kind := _tqdm()) is not None:
                self._bar = kind(
                    desc=self._work.name,
                    unit=self._work.unit,
                    unit_scale=self._work.scaled,
                    initial=done,
                    total=total,
                    leave=False,
                    dynamic_ncols=True,
                )

    def close(self) -> None:
        """Wipe it."""
        with self._lock:
            self._closed = True
            if self._bar is not None:
                self._bar.close()


def _tqdm() -> Any:  # noqa: ANN401  # which class it is depends on where we are
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets gets bars of text, and needs no advice
        try:
            from tqdm.auto import tqdm
        except ImportError:  # huggingface-hub brings it; without, there is no bar, and all else works
            return None
    # Without the thread that redraws bars whose work stands still: whoever uses this library starts threads.
    return type("Bar", (tqdm,), {"monitor_interval": 0})
