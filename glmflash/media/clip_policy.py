"""Limits on clips → one frozen value, part of the policy that every reader is handed."""

from dataclasses import dataclass, fields

from glmflash.errors import ImageError, ParameterError

__all__ = ["ClipPolicy", "check_length"]

_SUPPORTED = ("MP4", "WEBM", "AVI", "GIF", "WEBP", "PNG")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class ClipPolicy:
    """Which clips may be read, and how much of them. All is judged before the first frame is decoded.

    Args:
        max_bytes: Most bytes of one encoded clip.
        max_seconds: Longest clip.
        max_frames: Most frames that a clip has, shown to the model or not; frames of a list count too.
        max_pixels: Most `width * height` of a frame.
        max_total_pixels: Most of the same of all frames that have to be decoded, which bounds the time.
        formats: What may be decoded, judged by content and never by a file's name; none turns encoded clips
            off. MP4 is also QuickTime, WEBM also Matroska; GIF, WEBP and PNG are animated pictures. AVI can
            be added; it is off by default because it is old, and few need it.

    Raises:
        ParameterError: If a limit is not a positive whole number, or a format is not supported.

    Example:
        >>> ClipPolicy(max_seconds=60).formats
        ('MP4', 'WEBM', 'GIF', 'WEBP', 'PNG')
    """

    max_bytes: int = 100 * 2**20
    max_seconds: int = 3600
    max_frames: int = 200_000
    max_pixels: int = 8_900_000
    max_total_pixels: int = 6_000_000_000
    formats: tuple[str, ...] = ("MP4", "WEBM", "GIF", "WEBP", "PNG")

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "formats"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ParameterError(name, f"is {value!r:.80}; allowed: a whole number of at least 1")
        if not _are_formats(self.formats):
            raise ParameterError(
                "formats", f"is {self.formats!r:.80}; allowed: a tuple of {', '.join(_SUPPORTED)}"
            )


def _are_formats(value: object) -> bool:
    return isinstance(value, tuple) and all(name in _SUPPORTED for name in value)


def check_length(frames: int, pixels: int, seconds: float, *, policy: ClipPolicy) -> None:
    """Refuse a clip that is too long.

    Args:
        frames: That it has.
        pixels: Of all of them that have to be decoded, together.
        seconds: That it lasts.
        policy: The limits.

    Raises:
        ImageError: With the limit that it breaks.
    """
    for name, value, what in (
        ("max_frames", frames, "frames"),
        ("max_total_pixels", pixels, "pixels to be decoded"),
        ("max_seconds", seconds, "seconds"),
    ):
        if value > (limit := getattr(policy, name)):
            raise ImageError(
                f"has more than {limit} {what}, which is ClipPolicy.{name}; cut it, or raise the limit"
            )
