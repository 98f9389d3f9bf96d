"""What a person writes for pages, such as "1-3, 7" → their numbers, counted from 1, each of them there."""

import re
from collections.abc import Iterable, Iterator

from glmflash.errors import ImageError, ParameterError

__all__ = ["page_numbers"]

_SPAN = re.compile(r"(\d{1,9})(?:\s*(-)\s*(\d{1,9})?)?", re.ASCII)
_ALLOWED = 'a number, a list of numbers, or text such as "1-3, 7, 9-"'


def __dir__() -> list[str]:
    return __all__


def page_numbers(pages: str | int | Iterable[int] | None, *, total: int, most: int) -> tuple[int, ...]:
    """Choose pages of a document, in the order given; one may be given twice.

    Args:
        pages: Numbers from 1: one, several, or text with spans, of which the last may be open; None is all.
        total: How many pages there are.
        most: How many may be chosen.

    Raises:
        ParameterError: If it is none of these, or a page is not there.
        ImageError: If there are too many.

    Example:
        >>> page_numbers("1-3, 7, 9-", total=10, most=100)
        (1, 2, 3, 7, 9, 10)
    """
    chosen: list[int] = []
    for number in _spelled(pages, total):
        if type(number) is not int:
            raise ParameterError("pages", f"holds a {type(number).__name__}; allowed: {_ALLOWED}")
        if not 1 <= number <= total:
            raise ParameterError(
                "pages", f"holds {number!r:.40}; they are numbered from 1, and the last is {total}"
            )
        if len(chosen) == most:
            raise ImageError(
                f"has {total} pages, and more than {most} are asked for, which is max_pages; choose some "
                'of them, such as pages="1-20", or raise max_pages'
            )
        chosen.append(number)
    if not chosen:
        raise ParameterError("pages", f"names no page; allowed: {_ALLOWED}, or None for all")
    return tuple(chosen)


def _spelled(pages: object, total: int) -> Iterator[object]:
    if pages is None:
        yield from range(1, total + 1)
    elif isinstance(pages, str):
        for span in pages.split(","):
            yield from _span(span.strip(), total)
    elif isinstance(pages, Iterable) and not isinstance(pages, bytes | bytearray | memoryview):
        yield from pages
    else:
        yield pages


def _span(text: str, total: int) -> Iterator[int]:
    found = _SPAN.fullmatch(text)
    if not found:
        raise ParameterError("pages", f"holds {text!r:.40}; allowed: {_ALLOWED}, numbered from 1")
    first = int(found[1])
    last = int(found[3]) if found[3] else total if found[2] else first
    if last < first and first <= total:
        raise ParameterError("pages", f"holds {text!r:.40}, which ends before it begins")
    yield from range(first, max(first, last) + 1)
