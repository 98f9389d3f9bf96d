"""Limits on pictures → one frozen value that every reader is handed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeAlias

from glmflash.errors import ParameterError
from glmflash.media.clip_policy import ClipPolicy
from glmflash.media.fetch.policy import UrlPolicy

__all__ = ["InputPolicy", "Limits"]

_SUPPORTED = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_MIB = 2**20
_ALWAYS = ("max_bytes", "max_pixels", "max_memory", "max_pictures", "max_total_bytes", "max_total_pixels")
_OR_NONE = ("max_frames", "max_aspect")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class InputPolicy:
    """What may be read, and how much of it; on by default, and judged before anything is decoded.

    Formats are judged by content, sizes from the header. Besides, no file may hold more chunks, segments,
    blocks or directories than any picture needs; that cannot be switched off.

    Args:
        max_bytes: Most bytes of one encoded picture.
        max_pixels: Most `width * height` of one picture.
        max_memory: Most bytes of memory that decoding one picture may take, by its header: 7 a pixel, up to
            12 for a progressive JPEG, 16 for WEBP.
        max_frames: Most frames of a file given as a picture; None, and they are not counted, as only the
            first is ever read.
        max_aspect: Most times that one side may be as long as the other; None leaves it to the model, which
            sees none longer than 200.
        max_pictures: Most pictures that are read for one request; those encoded or read before are not.
        max_total_bytes: Most bytes of all encoded pictures of a request.
        max_total_pixels: Most pixels of all pictures of a request.
        formats: Formats that may be decoded. TIFF can be added; it is off by default because its parser is
            the largest.
        folders: Where files may lie that are named by a path, links followed; none, `()`, turns paths off,
            and None allows every place.
        urls: Where pictures may be fetched from; None, and nothing is.
        clips: The same for clips.

    Raises:
        ParameterError: If a limit is not a positive whole number, a format is not supported, or another value
            is of a wrong kind.

    Example:
        >>> InputPolicy(max_pixels=1_000_000).formats
        ('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP')
    """

    max_bytes: int = 20 * _MIB
    max_pixels: int = 33_500_000
    max_memory: int = 300 * _MIB
    max_frames: int | None = None
    max_aspect: int | None = None
    max_pictures: int = 250
    max_total_bytes: int = 200 * _MIB
    max_total_pixels: int = 335_000_000
    formats: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
    folders: Sequence[str | os.PathLike[str]] | None = None
    urls: UrlPolicy | None = None
    clips: ClipPolicy = field(default_factory=ClipPolicy)

    def __post_init__(self) -> None:
        for name in (*_ALWAYS, *_OR_NONE):
            value = getattr(self, name)
            if value is None and name in _OR_NONE:
                continue
            if type(value) is not int or value < 1:
                rest = " or None" if name in _OR_NONE else ""
                raise ParameterError(name, f"is {value!r:.80}; allowed: a whole number of at least 1{rest}")
        if not _are_formats(self.formats):
            raise ParameterError(
                "formats", f"is {self.formats!r:.80}; allowed: a tuple of {', '.join(_SUPPORTED)}"
            )
        if self.folders is not None:
            object.__setattr__(self, "folders", _folders(self.folders))
        urls: object = self.urls
        if not isinstance(urls, UrlPolicy | None):
            raise ParameterError("urls", f"is a {type(urls).__name__}; allowed: a UrlPolicy or None")
        if not isinstance(self.clips, ClipPolicy):
            raise ParameterError("clips", f"is a {type(self.clips).__name__}; allowed: a ClipPolicy")

    @classmethod
    def strict(cls) -> Self:
        """For what strangers upload: small, still, and never a path of this machine.

        2 MiB and 12.5 megapixels a picture, ten pictures and 50 megapixels a request, one frame (people see
        more of what moves than the model would), no paths, no URLs; clips of a minute. Single limits are
        changed with `dataclasses.replace`.

        Example:
            >>> from dataclasses import replace
            >>> replace(InputPolicy.strict(), max_bytes=4 * 2**20).max_frames
            1
        """
        return cls(
            max_bytes=2 * _MIB,
            max_pixels=12_500_000,
            max_frames=1,
            max_aspect=200,
            max_pictures=10,
            max_total_bytes=10 * _MIB,
            max_total_pixels=50_000_000,
            folders=(),
            clips=ClipPolicy(
                max_bytes=20 * _MIB, max_seconds=60, max_frames=3600, max_pixels=2_100_000,
                max_total_pixels=1_000_000_000,
            ),
        )  # fmt: skip

    @classmethod
    def trusted(cls) -> Self:
        """For files of your own: as large as Pillow takes without an alarm, and TIFF too.

        What cannot be switched off stays: structures are gone through before they are decoded.

        Example:
            >>> InputPolicy.trusted().formats[-1]
            'TIFF'
        """
        return cls(
            max_bytes=1024 * _MIB,
            max_pixels=89_478_485,  # from one more on, Pillow warns
            max_memory=2048 * _MIB,
            max_pictures=10_000,
            max_total_bytes=16 * 1024 * _MIB,
            max_total_pixels=10_000_000_000,
            formats=_SUPPORTED,
            clips=ClipPolicy(max_bytes=4096 * _MIB, max_seconds=24 * 3600, max_frames=5_000_000),
        )


#: What one picture, or one frame, may be.
Limits: TypeAlias = InputPolicy | ClipPolicy


def _are_formats(value: object) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(name in _SUPPORTED for name in value)


def _folders(given: object) -> tuple[str, ...]:
    """Where they are now, so that a change of the working folder changes nothing."""
    several = given if isinstance(given, Sequence) and not isinstance(given, str | bytes) else (None,)
    if not all(isinstance(one, str | os.PathLike) and os.fspath(one) for one in several):
        raise ParameterError(
            "folders", f"is {given!r:.80}; allowed: a tuple of paths to folders, () for none, or None"
        )
    return tuple(str(Path(one).absolute()) for one in several if one is not None)
