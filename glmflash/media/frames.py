"""When the frames of a clip are shown → which of them the model sees, and the words that say when."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from glmflash.errors import ImageError
from glmflash.media.arrays import Pixels

__all__ = ["Film", "Timeline", "choose", "fewer", "stamps", "whole"]

# The samplers of the reference; times are in seconds, rates in pairs of frames a second.
_DENSE = ((30, 3.0), (300, 1.0), (2400, 0.5))  # Glm46V: up to this long, at this rate
_MOST = 640
_EVEN_RATE, _EVEN_SECONDS = 2, 300  # Glm4v


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Timeline:
    """When the frames of a clip are shown.

    Args:
        count: Frames.
        rate: Frames a second, on average.
        times: Second at which each frame begins, if they do not come evenly.
        seconds: How long the clip is, if not `count / rate`.

    Example:
        >>> Timeline(60, 30.0).duration, Timeline(60, 30.0).time(15)
        (2.0, 0.5)
    """

    count: int
    rate: float
    times: tuple[float, ...] | None = None
    seconds: float | None = None

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return self.count / self.rate if self.seconds is None else self.seconds

    def time(self, index: int) -> float:
        """The second at which a frame begins."""
        return index / self.rate if self.times is None else self.times[index]

    def at(self, second: float) -> int:
        """The first frame that begins at this second or later; the last one, if there is none."""
        first = math.ceil(second * self.rate) if self.times is None else bisect_left(self.times, second)
        return min(first, self.count - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A clip of any kind, of which nothing is decoded yet.

    Args:
        timeline: When its frames are shown.
        frames: Decodes those with these indices, which must increase; each comes when it is asked for.
    """

    timeline: Timeline
    frames: Callable[[Sequence[int]], Iterator[Pixels]]

    def shown(self, chosen: Sequence[int]) -> Iterator[Pixels]:
        """The chosen frames in order; one that is chosen twice comes twice, and is decoded once.

        Shapes:
            -> each (H, W, 3) uint8
        """
        distinct = list(dict.fromkeys(chosen))
        for index, pixels in zip(distinct, self.frames(distinct), strict=True):
            for _ in range(chosen.count(index)):
                yield pixels


def choose(
    timeline: Timeline, *, family: str, temporal: int = 2, max_frames: int | None = None
) -> tuple[int, ...]:
    """Choose the frames that the model sees, as it was trained to see them.

    Frames are looked at in groups of `temporal`; a group that is not full shows its last frame again.

    Args:
        timeline: Of the clip.
        family: "Glm46V", which looks closer at short clips, or "Glm4v", which takes two frames a second.
        temporal: Frames of a temporal patch.
        max_frames: Most frames to take; of more, some are taken evenly.

    Returns:
        Indices of frames, not decreasing; a whole number of groups.

    Raises:
        ImageError: If there are no frames.

    Example:
        >>> choose(Timeline(90, 30.0), family="Glm4v")
        (0, 15, 30, 45, 60, 75)
        >>> choose(Timeline(90, 30.0), family="Glm46V", max_frames=4)
        (0, 25, 56, 85)

    Source: transformers glm46v and glm4v, `sample_frames`; parity in tests/parity/test_clips.py.
    """
    if timeline.count < 1:
        raise ImageError("the clip has no frames; at least one is needed")
    chosen = list(dict.fromkeys(_dense(timeline, temporal) if family == "Glm46V" else _even(timeline)))
    if not chosen:  # shorter than the time between two looks
        chosen = list(dict.fromkeys(_spread(0, timeline.count - 1, temporal)))
    return whole(fewer(chosen, max_frames), temporal)


def stamps(timeline: Timeline, chosen: Sequence[int], *, family: str, temporal: int = 2) -> tuple[str, ...]:
    """Say when each group of frames begins, in the words that the model was trained to read.

    Example:
        >>> stamps(Timeline(90, 30.0), (0, 25, 56, 85), family="Glm46V")
        ('0.0 seconds', '1.9 seconds')
        >>> stamps(Timeline(90, 30.0), (0, 25, 56, 85), family="Glm4v")
        ('0', '1')
    """
    times = [timeline.time(index) for index in chosen[::temporal]]
    return tuple(f"{time:.1f} seconds" if family == "Glm46V" else str(int(time)) for time in times)


def fewer(chosen: Sequence[int], most: int | None) -> list[int]:
    """Keep at most so many, evenly, the first and the last among them."""
    if most is None or len(chosen) <= most:
        return list(chosen)
    return [chosen[index] for index in _spread(0, len(chosen) - 1, most)]


def whole(chosen: Sequence[int], temporal: int) -> tuple[int, ...]:
    """Fill the last group with its last frame."""
    return (*chosen, *[chosen[-1]] * (-len(chosen) % temporal))


def _dense(line: Timeline, temporal: int) -> list[int]:
    seconds = min(line.duration, _DENSE[-1][0])
    rate = next(rate for limit, rate in _DENSE if seconds <= limit)
    wanted = min(int(seconds * rate * temporal), _MOST)
    if line.count < wanted:
        return _spread(0, line.count - 1, wanted)
    chosen = _looks(line, 1 / (temporal * rate))
    if len(chosen) < wanted:
        return _spread(chosen[0], chosen[-1], wanted)
    return chosen if len(chosen) == wanted else _spread(0, line.count - 1, wanted)


def _looks(line: Timeline, step: float) -> list[int]:
    """A look every `step` seconds, as long as whole seconds last."""
    chosen, look, frame = list[int](), 0.0, 1 / line.rate
    for index in range(line.count):
        # a product and not `time`, whose quotient rounds elsewhere: as in the reference
        if (index * frame if line.times is None else line.times[index]) >= look:
            chosen.append(index)
            look += step
            if look >= int(line.duration):
                break
    return chosen


def _even(line: Timeline) -> list[int]:
    if line.duration <= _EVEN_SECONDS:
        return [line.at(i / _EVEN_RATE) for i in range(max(math.floor(line.duration * _EVEN_RATE), 1))]
    most = _EVEN_SECONDS * _EVEN_RATE
    if most >= line.count:
        return list(range(line.count))
    return [line.at(float(second)) for second in np.linspace(0, line.duration, most)]


def _spread(first: int, last: int, count: int) -> list[int]:
    """So many whole numbers from first to last, rounded down; some twice if there are not enough."""
    return [int(index) for index in np.linspace(first, last, count, dtype=int)]
