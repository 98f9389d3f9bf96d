"""A path, bytes, binary file, data URL or URL → the encoded picture's bytes, within the policy's limit."""

import base64
import binascii
import io
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Protocol, runtime_checkable

from glmflash.errors import FetchError, ImageError, ParameterError
from glmflash.media.fetch.client import fetch
from glmflash.media.folders import inside, unmoved
from glmflash.media.policy import InputPolicy, Limits

__all__ = ["BinaryFile", "DataUrl", "Url", "from_url", "name_of", "read_bytes"]

_CHUNK = 2**20
_SPACE = b" \t\n\r\f\v"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class DataUrl:
    """A picture inside a `data:image/...;base64,` URL. The payload is kept out of its `repr`.

    Example:
        >>> DataUrl("data:image/png;base64,iVBORw0KGgo=")
        DataUrl()

    Raises:
        ParameterError: If the URL is not a string.
    """

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        _check_text(self.url)


@dataclass(frozen=True, slots=True)
class Url:
    """A picture somewhere on the network, which is fetched if `InputPolicy.urls` allows it.

    Its text, which may hold credentials, is kept out of its `repr`.

    Raises:
        ParameterError: If the URL is not a string.
    """

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        _check_text(self.url)


@runtime_checkable
class BinaryFile(Protocol):
    """Anything that `read(size)` gives bytes of: an open file, `io.BytesIO`, a socket's file."""

    def read(self, size: int, /) -> bytes:
        """Give at most `size` bytes, and none at the end."""


def from_url(url: str) -> DataUrl | Url:
    """Name the kind of an `image_url`, by its scheme and nothing else.

    Example:
        >>> type(from_url("https://example.org/a.png")).__name__, type(from_url("DATA:image/png,")).__name__
        ('Url', 'DataUrl')
    """
    return DataUrl(url) if url[:5].lower() == "data:" else Url(url)


def read_bytes(
    source: object,
    *,
    policy: InputPolicy,
    limits: Limits | None = None,
    give_up: Callable[[], bool] | None = None,
) -> bytes | None:
    """Fetch the bytes of an encoded picture; None if `source` is of no kind that holds encoded bytes.

    Args:
        source: A path, bytes-like object, binary file, `DataUrl` or `Url`. A plain string is a path.
            A seekable file is read from its start, and its position is put back.
        policy: Gives the most bytes that are read, the folders that files may lie in, and the hosts that they
            may be fetched from.
        limits: Gives the most bytes in its place.
        give_up: Asked again and again while a URL is fetched; if it says yes, that ends at once.

    Raises:
        ImageError: If there are no bytes, too many, or they cannot be read.
        FetchError: If `source` is a `Url`, and may not or cannot be fetched.
    """
    limits = policy if limits is None else limits
    if isinstance(source, Url):
        if policy.urls is None:
            raise FetchError(_no_fetch(source.url))
        return fetch(source.url, policy.urls, max_bytes=limits.max_bytes, give_up=give_up)
    if isinstance(source, DataUrl):
        return _data_url(source.url, limits)
    if isinstance(source, str | os.PathLike):
        return _path(source, policy, limits)
    if isinstance(source, bytes | bytearray | memoryview):
        _check_size(memoryview(source).nbytes, limits)
        return bytes(source)
    if isinstance(source, BinaryFile):
        return _file(source, limits)
    return None


def name_of(source: object) -> str:
    """Name a source in messages: a file by its name, anything else by its type.

    Text that somebody took for a path, a URL with credentials or base64, is not echoed.

    Example:
        >>> name_of("scans/page.png"), name_of("https://me:secret@example.org/a.png"), name_of(b"")
        ("'page.png'", 'text', 'picture (bytes)')
    """
    if not isinstance(source, str | PurePath):
        return f"picture ({type(source).__name__})"
    name = PurePath(source).name
    return "text" if len(name) > 100 or _SCHEME.match(str(source)) else repr(name)


def _check_text(url: object) -> None:
    if not isinstance(url, str):
        raise ParameterError("url", f"is a {type(url).__name__}; allowed: a string")


def _no_fetch(url: str) -> str:
    if _SCHEME.match(url):
        return (
            "URLs are off: fetch the picture yourself, and pass its bytes or its path; or allow its host with"
            ' InputPolicy(urls=UrlPolicy(hosts=("images.example.com",)))'
        )
    return "not a URL: 'image_url' takes data: URLs only here; give a local path under 'image'"


def _check_size(size: int, policy: Limits) -> None:
    if size > policy.max_bytes:
        raise ImageError(
            f"has more than {policy.max_bytes} bytes, which is {type(policy).__name__}.max_bytes"
        )


def _path(path: str | os.PathLike[str], policy: InputPolicy, limits: Limits) -> bytes:
    if re.match(r"[\\/]{2}", os.fspath(path)):
        raise ImageError("is a path on another machine; allowed: files of this one")
    place = None if policy.folders is None else inside(path, policy.folders)
    # Without O_NONBLOCK, opening a FIFO would wait for its writer. The open file is judged, not the
    # name, so that nothing can be swapped in between.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path if place is None else place, flags)
    except (OSError, ValueError) as error:
        problem = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "not a path"
        raise ImageError(f"cannot be opened: {problem}{_hint(path)}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is not a regular file")
        if place is not None and not unmoved(place, status):
            raise ImageError("was moved while it was opened")
        _check_size(status.st_size, limits)
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            return _drain(file, limits)
    finally:
        os.close(descriptor)  # here and not by `file`, which a folder's descriptor never becomes


def _hint(path: str | os.PathLike[str]) -> str:
    if isinstance(path, str) and _SCHEME.match(path):
        kind = type(from_url(path)).__name__
        return f". A string is always a path; wrap it as glmflash.{kind}(...) to say that it is a URL"
    return ". A string is always a path" if isinstance(path, str) else ""


def _file(file: BinaryFile, policy: Limits) -> bytes:
    # Judged by trying: many file-like objects have no `seekable`, or one that does not tell the truth.
    try:
        position = file.seek(0, io.SEEK_CUR)  # type: ignore[attr-defined]  # optional, hence the try
        file.seek(0)  # type: ignore[attr-defined]  # the same
    except (AttributeError, OSError):
        return _drain(file, policy)
    except ValueError:
        raise ImageError("is a file that has been closed") from None
    try:
        return _drain(file, policy)
    finally:
        file.seek(position)  # type: ignore[attr-defined]  # the same


def _drain(file: BinaryFile, policy: Limits) -> bytes:
    pieces, size = [], 0
    while piece := file.read(min(_CHUNK, policy.max_bytes + 1 - size)):
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise ImageError("was opened in text mode; open it with mode 'rb'")
        pieces.append(piece)
        size += len(piece)
        _check_size(size, policy)
    return b"".join(pieces)


def _data_url(url: str, policy: Limits) -> bytes:
    header, comma, payload = url.partition(",")
    if not comma or header[:5].lower() != "data:" or not header.lower().endswith(";base64"):
        raise ImageError("does not begin with 'data:image/...;base64,'")
    if len(payload) > policy.max_bytes * 3 // 2:  # 4/3 for base64, the rest for line breaks
        _check_size(policy.max_bytes + 1, policy)
    try:
        # not by `split`: many short lines would be many strings
        data = base64.b64decode(payload.encode("ascii").translate(None, _SPACE), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("holds text after 'base64,' that is not base64") from None
    _check_size(len(data), policy)
    return data
