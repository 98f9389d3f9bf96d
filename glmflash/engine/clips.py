"""A clip of any kind → the groups of frames that the model sees of it, and when each is shown."""

from collections.abc import Callable, Iterator, Sequence

from glmflash.config import PreprocessorConfig
from glmflash.errors import ImageError
from glmflash.media.arrays import Pixels
from glmflash.media.clips import Clip, open_clip
from glmflash.media.frames import Film, choose, fewer, stamps, whole
from glmflash.media.patches import ClipPatches, clip
from glmflash.media.policy import InputPolicy
from glmflash.media.sources import from_url
from glmflash.prompt.messages import ImageUrl

__all__ = ["as_clip", "read_clip"]


def __dir__() -> list[str]:
    return __all__


def as_clip(source: object) -> Clip | ClipPatches:
    """What stands in a message as a video, as a clip; one that was read before stays as it is."""
    if isinstance(source, Clip | ClipPatches):
        return source
    return Clip(from_url(source.url) if isinstance(source, ImageUrl) else source)


def read_clip(
    source: Clip | ClipPatches,
    preprocessor: PreprocessorConfig,
    policy: InputPolicy,
    *,
    max_image_tokens: int | None = None,
    give_up: Callable[[], bool] | None = None,
) -> ClipPatches:
    """Choose, decode and cut the frames of a clip; one that was read before stays as it is.

    Args:
        source: The clip.
        preprocessor: The checkpoint's, for clips.
        policy: Limits.
        max_image_tokens: Most vision tokens of each group of frames.
        give_up: Asked before each frame; if it says yes, that ends at once.

    Raises:
        ImageError: If it cannot be read, or breaks the policy.
        FetchError: If it is a URL.
    """
    if isinstance(source, ClipPatches):
        return source
    film, temporal = open_clip(source, policy=policy), preprocessor.temporal_patch_size
    chosen = _chosen(source, film, preprocessor)
    frames = _while_wanted(film.shown(chosen), give_up)
    groups = clip(frames, preprocessor, count=len(chosen), max_image_tokens=max_image_tokens)
    return ClipPatches(groups, stamps(film.timeline, chosen, family=preprocessor.family, temporal=temporal))


def _while_wanted(frames: Iterator[Pixels], give_up: Callable[[], bool] | None) -> Iterator[Pixels]:
    for frame in frames:
        if give_up is not None and give_up():
            raise ImageError("nobody waits for the clip any more")
        yield frame


def _chosen(source: Clip, film: Film, preprocessor: PreprocessorConfig) -> Sequence[int]:
    temporal, count = preprocessor.temporal_patch_size, film.timeline.count
    if source.timestamps is not None and count:  # chosen by the caller
        return whole(fewer(range(count), source.max_frames), temporal)
    return choose(film.timeline, family=preprocessor.family, temporal=temporal, max_frames=source.max_frames)
