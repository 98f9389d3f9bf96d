"""Limits on pictures → one frozen value that every reader is handed."""

from dataclasses import dataclass, field
from typing import TypeAlias

from glmflash.errors import ParameterError
from glmflash.media.clip_policy import ClipPolicy
from glmflash.media.fetch.policy import UrlPolicy

__all__ = ["InputPolicy", "Limits"]

_SUPPORTED = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class InputPolicy:
    """What may be read, and how much of it.

    Args:
        max_bytes: Most bytes of one encoded picture.
        max_pixels: Most `width * height` of one picture; judged from its header, before decoding.
        formats: Formats that may be decoded, judged by content and never by a file's name.
            TIFF can be added; it is off by default because its parser is the largest.
        urls: Where pictures may be fetched from; None, and nothing is.
        clips: The same for clips.

    Raises:
        ParameterError: If a limit is not a positive whole number, or a format is not supported.

    Example:
        >>> InputPolicy(max_pixels=1_000_000).formats
        ('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP')
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 33_500_000
    formats: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
    urls: UrlPolicy | None = None
    clips: ClipPolicy = field(default_factory=ClipPolicy)

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ParameterError(name, f"is {value!r}; allowed: a whole number of at least 1")
        if not _are_formats(self.formats):
            raise ParameterError(
                "formats", f"is {self.formats!r}; allowed: a tuple of {', '.join(_SUPPORTED)}"
            )
        urls: object = self.urls
        if not isinstance(urls, UrlPolicy | None):
            raise ParameterError("urls", f"is a {type(urls).__name__}; allowed: a UrlPolicy or None")
        if not isinstance(self.clips, ClipPolicy):
            raise ParameterError("clips", f"is a {type(self.clips).__name__}; allowed: a ClipPolicy")


#: What one picture, or one frame, may be.
Limits: TypeAlias = InputPolicy | ClipPolicy


def _are_formats(value: object) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(name in _SUPPORTED for name in value)
