"""Pictures of questions → a digest that names each, and thumbnails for a report."""

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from glmflash.errors import ImageError, InputError, ParameterError
from glmflash.evaluate.question import Question
from glmflash.media import DataUrl, Url, read
from glmflash.media.pixels import thumbnail

__all__ = ["Thumbnail", "fingerprint", "picture_digests", "thumbnails"]

_SIDE = 440  # pixels: twice what a report shows, for sharp screens
_CHARACTERS = 32


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture.

    Args:
        kind: "png" or "jpeg", whichever is smaller.
        data: The file.
        size: Width and height of the thumbnail, in pixels.
    """

    kind: str
    data: bytes
    size: tuple[int, int]


def picture_digests(questions: Iterable[Question]) -> dict[str, tuple[str, ...]]:
    """Names of each question's pictures, by its id: of a file's contents, or of the pixels.

    Raises:
        ImageError: If a file is not there: then it is a wrong path rather than a hard question.
        ParameterError: If something is no picture at all.
    """
    known: dict[Path, str] = {}
    return {one.id: tuple(_digest(image, one.id, known) for image in one.images) for one in questions}


def fingerprint(questions: Iterable[Question], digests: Mapping[str, tuple[str, ...]]) -> str:
    """Name questions by all that answers and scores depend on.

    Example:
        >>> ask = Question(id="7", text="How many?", answers=("3",))
        >>> fingerprint([ask], {"7": ()}) == fingerprint([ask], {"7": ("1f",)})
        False
    """
    state = hashlib.sha256(b"glmflash-questions-1")
    for one in questions:
        parts = (one.id, one.text, one.answers, one.kind, one.metric, digests[one.id])
        state.update(repr(parts).encode())
    return state.hexdigest()[:_CHARACTERS]


def thumbnails(questions: Iterable[Question], digests: Mapping[str, tuple[str, ...]]) -> dict[str, Thumbnail]:
    """Small pictures of these questions, by digest; those that cannot be read are left out."""
    made: dict[str, Thumbnail] = {}
    for one in questions:
        for image, digest in zip(one.images, digests[one.id], strict=True):
            if digest not in made and not isinstance(image, Url):
                try:
                    made[digest] = _thumbnail(image)
                except InputError:  # the answers say so already
                    continue
    return made


def _thumbnail(image: object) -> Thumbnail:
    picture = thumbnail(read(image), _SIDE)
    files = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 82})):
        file = io.BytesIO()
        picture.save(file, kind, **options)
        files.append(Thumbnail(kind, file.getvalue(), picture.size))
    return min(files, key=lambda one: len(one.data))


def _digest(image: object, where: str, known: dict[Path, str]) -> str:
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if path not in known:
            known[path] = _file(path, where)
        return known[path]
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()[:_CHARACTERS]
    if isinstance(image, Url | DataUrl):
        text = f"{type(image).__name__} {image.url}"  # their repr keeps it back
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_CHARACTERS]
    if isinstance(digest := getattr(image, "digest", None), str):  # one that was encoded before
        return digest[:_CHARACTERS]
    if hasattr(image, "read"):
        raise ParameterError("images", f"question {where!r:.80} has an open file; give its path or its bytes")
    pixels = read(image)
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:_CHARACTERS]


def _file(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_CHARACTERS]
    except OSError as error:
        raise ImageError(f"question {where!r:.80}: {path.name} cannot be read ({error.strerror})") from None
