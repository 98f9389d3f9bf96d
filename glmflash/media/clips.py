"""Anything that holds moving pictures → a film, of which nothing is decoded yet.

Encoded videos, animated pictures, PIL images with several frames, lists of pictures, arrays and tensors: all
that can go wrong with any of them leaves here as one `ImageError`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import isfinite
from pathlib import PurePath

import numpy as np
from PIL import Image

from glmflash.errors import FetchError, ImageError, InputError, ParameterError
from glmflash.media.animation import open_animation
from glmflash.media.arrays import Pixels, Tensor
from glmflash.media.clip_policy import ClipPolicy, check_length
from glmflash.media.frames import Film, Timeline
from glmflash.media.policy import InputPolicy
from glmflash.media.read import explained, read
from glmflash.media.sources import Url, name_of, read_bytes
from glmflash.media.video import open_video

__all__ = ["Clip", "open_clip"]

_VIDEOS = (
    ("MP4", 4, b"ftyp"),
    ("MP4", 4, b"moov"),
    ("MP4", 4, b"wide"),
    ("WEBM", 0, b"\x1aE\xdf\xa3"),
    ("AVI", 8, b"AVI "),
)
_NO_FETCH = "clips are not fetched: fetch it yourself, and pass its bytes or its path"
_STILLS = (b"ftypavi", b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")  # AVIF and HEIC


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Clip:
    """Moving pictures to be asked about.

    Args:
        source: A video or animated picture (GIF, WEBP, PNG) as a path, bytes, binary file or `DataUrl`; a PIL
            image with several frames; a list of frames, each any kind of picture; or an array or tensor
            (T, H, W, 3) or (T, 3, H, W). A plain string is always a path.
        fps: Frames a second of a list or array; of these, frames are chosen as of a video. Files say it
            themselves.
        timestamps: Or the second at which each frame is shown; then all frames are.
        max_frames: Most frames that the model sees, for speed; None leaves that to the checkpoint.

    Raises:
        ParameterError: If an argument is none of these, or both `fps` and `timestamps` are given.

    Example:
        >>> Clip("cat.mp4", max_frames=16)
        Clip('cat.mp4', max_frames=16)
    """

    source: object = field(kw_only=False)
    fps: float | None = None
    timestamps: Sequence[float] | None = None
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not _positive(self.fps):
            raise ParameterError("fps", f"is {self.fps!r:.80}; allowed: a number above 0, or None")
        if self.timestamps is not None:
            if self.fps is not None:
                raise ParameterError("fps and timestamps", "are both given; allowed: one of them")
            _check_times(self.timestamps)
        most = self.max_frames
        if most is not None and (type(most) is not int or most < 1):
            raise ParameterError("max_frames", f"is {most!r:.80}; allowed: a whole number from 1, or None")

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in ("fps", "max_frames")}
        rest = "".join(f", {name}={value}" for name, value in given.items() if value is not None)
        return f"Clip({_name(self.source)}{rest})"


def open_clip(clip: Clip, *, policy: InputPolicy | None = None) -> Film:
    """Find out how long a clip is, and when its frames are shown.

    Args:
        clip: See there. What the caller passes in is neither changed, closed nor kept.
        policy: Limits, those of `policy.clips` above all; `InputPolicy()` if not given.

    Raises:
        ImageError: If there is no clip, it is damaged, too large, or of a format or codec not allowed.
        FetchError: If it is a `Url`, or one of its frames is.
        ParameterError: If frames come without times, or a file with them.

    Example:
        >>> film = open_clip(Clip(np.zeros((3, 2, 4, 3), np.uint8), fps=1))
        >>> film.timeline.duration, [pixels.shape for pixels in film.frames([0, 2])]
        (3.0, [(2, 4, 3), (2, 4, 3)])
    """
    policy = InputPolicy() if policy is None else policy
    with _one_error(clip):
        film = _film(clip, policy)
        check_length(film.timeline.count, 0, film.timeline.duration, policy=policy.clips)
    return Film(film.timeline, partial(_guarded, clip, film))


def _guarded(clip: Clip, film: Film, wanted: Sequence[int]) -> Iterator[Pixels]:
    frames = film.frames(wanted)
    while True:
        with _one_error(clip):
            pixels = next(frames, None)
        if pixels is None:
            return
        yield pixels


@contextmanager
def _one_error(clip: Clip) -> Iterator[None]:
    try:
        yield
    except (FetchError, ParameterError):
        raise
    except ImageError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - FFmpeg and Pillow raise nearly every kind
        problem = explained(error)
    else:
        return
    # Raised outside the handlers: the cause's text can hold addresses, and its frames the caller's object.
    raise ImageError(f"{_name(clip.source)}: {problem}")


def _film(clip: Clip, policy: InputPolicy) -> Film:
    source = clip.source
    if isinstance(source, Url):
        raise FetchError(_NO_FETCH)
    frames = _frames_of(source)
    if frames is not None:
        return Film(_given(clip, len(frames)), partial(_read, frames, policy))
    if clip.fps is not None or clip.timestamps is not None:
        raise ParameterError("fps and timestamps", "are for frames and arrays; a file says them itself")
    if isinstance(source, Image.Image):
        return open_animation(source, policy=policy.clips)
    data = read_bytes(source, policy=policy, limits=policy.clips)
    if data is None:
        raise ImageError(
            "is not a clip; allowed: a path, bytes, a binary file, glmflash.DataUrl, a PIL image, a list of"
            " pictures, an array or tensor of four axes"
        )
    return _encoded(data, policy.clips)


def _encoded(data: bytes, policy: ClipPolicy) -> Film:
    form = next((name for name, at, magic in _VIDEOS if data.startswith(magic, at)), None)
    if form is None or data.startswith(_STILLS, 4):
        return open_animation(data, policy=policy)
    if form not in policy.formats:
        raise ImageError(
            f"is not an allowed clip: found {form}; allowed: {', '.join(policy.formats) or 'none'}"
        )
    return open_video(data, form, policy=policy)


def _frames_of(source: object) -> Sequence[object] | None:
    """The frames of a list or array; None if it is neither."""
    if isinstance(source, list | tuple):
        return tuple(source)
    if not isinstance(source, np.ndarray | Tensor):
        return None
    if len(source.shape) != 4 or 3 not in (source.shape[1], source.shape[3]):
        raise ImageError(
            f"has shape {str(tuple(source.shape))[:80]}; allowed: (frames, height, width, 3) or"
            " (frames, 3, height, width)"
        )
    return source  # type: ignore[return-value]  # indexing gives frames, len() counts them


def _given(clip: Clip, count: int) -> Timeline:
    """When frames without a file are shown."""
    if clip.fps is not None:
        return Timeline(count, float(clip.fps))
    if clip.timestamps is None:
        raise ParameterError("fps", "is missing: frames do not say when they are shown; or give timestamps")
    times = tuple(float(time) for time in clip.timestamps)
    if len(times) != count:
        raise ParameterError("timestamps", f"are {len(times)} for {count} frames; allowed: one for each")
    length = max(times, default=0.0) or 1.0
    return Timeline(count, max(count, 1) / length, times=times, seconds=length)


def _read(frames: Sequence[object], policy: InputPolicy, wanted: Sequence[int]) -> Iterator[Pixels]:
    for index in wanted:
        if isinstance(frames[index], Url):
            raise FetchError(_NO_FETCH)
        try:
            pixels = read(frames[index], policy=policy)
        except InputError as error:
            problem = f"frame {index} of {len(frames)}: {error}"
        else:
            yield pixels
            continue
        raise ImageError(problem)


def _check_times(times: object) -> None:
    if not isinstance(times, Sequence | np.ndarray) or not all(
        time == 0 or _positive(time) for time in times
    ):
        raise ParameterError("timestamps", "are not what is allowed: a list of seconds from 0, or None")
    if any(later < earlier for earlier, later in pairwise(times)):
        raise ParameterError("timestamps", "go back in time; allowed: seconds that never decrease")


def _positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return False
    return isfinite(float(value)) and float(value) > 0


def _name(source: object) -> str:
    if isinstance(source, str | PurePath):
        return name_of(source)
    return f"clip ({type(source).__name__})"
