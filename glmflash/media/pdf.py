"""A PDF → its pages as pictures, drawn when asked for, by pdfium: the one place that imports it."""

import importlib
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, overload

from PIL import Image

from glmflash.errors import FetchError, ImageError, ParameterError
from glmflash.media.pages import page_numbers
from glmflash.media.policy import InputPolicy
from glmflash.media.sources import name_of, read_bytes
from glmflash.shown import show

__all__ = ["PdfPages", "read_pdf"]

_POINTS = 72  # in an inch; what a page's size is counted in
_LOCK = threading.RLock()  # pdfium is not made for threads


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, repr=False)
class PdfPages(Sequence[Image.Image]):
    """Pages of a PDF, as a sequence of pictures; made by `read_pdf`.

    `pages[0]` draws the first of them, a slice draws nothing and is such a sequence again, and a loop draws
    one page at a time. It is a value: it holds the file's bytes and no open document, so there is nothing to
    close, threads may share it, and it can be pickled (with the password, if there is one).

    Args:
        numbers: The pages, by the numbers a reader shows: the first of a document is 1.
        dpi: Pixels per inch.
        total: How many pages the document has.
    """

    numbers: tuple[int, ...]
    dpi: float
    total: int
    _data: bytes
    _password: str | None
    _name: str
    _policy: InputPolicy = field(default_factory=InputPolicy)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> "PdfPages": ...

    def __getitem__(self, index: int | slice) -> "Image.Image | PdfPages":
        """Draw a page, in RGB; or choose some of them, by a slice.

        Raises:
            ImageError: If the page is damaged, or would have too many pixels.
        """
        if isinstance(index, slice):
            return replace(self, numbers=self.numbers[index])
        number = self.numbers[index]
        try:
            with _opened(self._data, self._password) as document:
                return self._draw(document, number - 1)
        except ImageError as error:
            problem = str(error)
        except MemoryError:
            problem = "does not fit into memory"
        except Exception as error:  # noqa: BLE001 - the library's own, in our words
            problem = f"is damaged, and cannot be drawn ({type(error).__name__})"
        raise ImageError(f"{self._name}: page {number} {problem}")

    def __repr__(self) -> str:
        return f"<PdfPages: {len(self)} of {self.total} pages of {self._name}, {self.dpi:g} dpi>"

    def _draw(self, document: Any, index: int) -> Image.Image:  # noqa: ANN401 - the library has no types
        scale = (
            self.dpi / _POINTS * (1 - 1e-9)
        )  # 792 points at 150 dpi are 1650 pixels, not 1650.0000000000002
        width, height = (edge * scale for edge in document.get_page_size(index))
        if not (width > 0 and height > 0 and math.isfinite(width * height)):
            raise ImageError(f"is {width:g} x {height:g} pixels; each side needs at least one")
        width, height = math.ceil(width), math.ceil(height)  # as the library does
        if width * height > self._policy.max_pixels:
            raise ImageError(
                f"would be {width} x {height} pixels, more than the {self._policy.max_pixels} of "
                f"InputPolicy.max_pixels; give fewer dpi than {self.dpi:g}, or raise the limit"
            )
        page = document.get_page(index)
        bitmap = page.render(scale=scale, rev_byteorder=True, draw_annots=True, may_draw_forms=False)
        try:
            return Image.fromarray(bitmap.to_numpy().copy())  # (H, W, 3)
        finally:
            bitmap.close()
            page.close()


def read_pdf(
    source: object,
    *,
    pages: str | int | Iterable[int] | None = None,
    dpi: float = 150.0,
    password: str | None = None,
    max_pages: int = 100,
    policy: InputPolicy | None = None,
) -> PdfPages:
    """Read a PDF; its pages are drawn when they are asked for. Needs the extra `pdf`.

    A page is drawn upright, on white, with its annotations. Nothing in the file is run or opened: no script,
    no action, no attachment. How long pdfium takes cannot be bounded from here: see the how-to guide before
    you read what strangers send.

    Args:
        source: A path, bytes, a binary file, or a `Url` that the policy allows.
        pages: Which pages, in which order, **by the numbers a reader shows, from 1**: `3`, `[1, 2, 7]`,
            `range(1, 4)`, or text as in a print dialogue, "1-3, 7, 9-". None is all. What is returned is
            a sequence as any other: its first page is `[0]`, its last `[-1]`.
        dpi: Pixels per inch: A4 has 1,241 x 1,754 pixels at 150.
        password: Of an encrypted file.
        max_pages: Most pages that may be chosen; each is a picture, if all go into one question.
        policy: Most bytes of the file, and pixels of a page, judged from its size before it is drawn.

    Raises:
        ImageError: If there is no PDF, or it is damaged, encrypted or too large; or has too many pages.
        ParameterError: If an argument is not one of those above, a page is not there, the password is
            wrong, or pypdfium2 is not installed.
        FetchError: If `source` is a `Url` that may not or cannot be fetched.
    """
    policy = InputPolicy() if policy is None else policy
    _check(dpi, password, max_pages, policy)
    library = _library()
    data, name = _bytes(source, policy), name_of(source)
    try:
        with _opened(data, password) as document:
            total = len(document)
    except library.PdfiumError as error:
        raise _refusal(library, error, name, password) from None
    numbers = page_numbers(pages, total=total, most=max_pages)
    return PdfPages(numbers, float(dpi), total, data, password, name, policy)


def _check(dpi: object, password: object, max_pages: object, policy: object) -> None:
    if isinstance(dpi, bool) or not isinstance(dpi, int | float) or not 0 < dpi < math.inf:
        raise ParameterError("dpi", f"is {show(dpi)}; allowed: a number above 0, such as 150")
    if not isinstance(password, str | None):
        raise ParameterError("password", f"is a {type(password).__name__}; allowed: a string or None")
    if password and ("\0" in password or any("\ud800" <= letter <= "\udfff" for letter in password)):
        raise ParameterError("password", "holds characters that no password has: NUL, or half of a pair")
    if type(max_pages) is not int or max_pages < 1:
        raise ParameterError("max_pages", f"is {show(max_pages)}; allowed: a whole number from 1")
    if not isinstance(policy, InputPolicy):
        raise ParameterError("policy", f"is a {type(policy).__name__}; allowed: an InputPolicy or None")


def _bytes(source: object, policy: InputPolicy) -> bytes:
    try:
        data = read_bytes(source, policy=policy)
        problem = "is not a PDF; allowed: a path, bytes or a binary file"
    except FetchError:
        raise
    except ImageError as error:
        data, problem = None, str(error)
    except Exception as error:  # noqa: BLE001 - a caller's file raises any
        data, problem = None, f"cannot be read ({type(error).__name__})"
    if data is None:  # raised outside the handlers, as in `read`
        raise ImageError(f"{name_of(source)}: {problem}")
    return data


@contextmanager
def _opened(data: bytes, password: str | None) -> Iterator[Any]:
    """The document, for one thread at a time; closed in the end, with all that was made of it."""
    library = _library()
    with _LOCK:
        document = library.PdfDocument(data, password=password)
        try:
            yield document
        finally:
            document.close()


def _refusal(library: Any, error: Any, name: str, password: str | None) -> Exception:  # noqa: ANN401 - as above
    """What it means that a document does not open."""
    if error.err_code == library.raw.FPDF_ERR_PASSWORD:
        if password is not None:
            return ParameterError("password", f"does not open {name}; give the one that it was made with")
        return ImageError(f"{name}: is encrypted; give its password: read_pdf(..., password=...)")
    if error.err_code == library.raw.FPDF_ERR_SECURITY:
        return ImageError(
            f"{name}: is encrypted in a way that is not supported; save it without, and try again"
        )
    return ImageError(f"{name}: is not a PDF, has no pages, or is damaged, and cannot be opened")


def _library() -> Any:  # noqa: ANN401 - a module that need not be there
    try:
        return importlib.import_module("pypdfium2")
    except ImportError:
        raise ParameterError("source", "PDFs need pypdfium2: pip install 'glmflash[pdf]'") from None
