"""An encoded video → a film, by FFmpeg through PyAV: the one place that imports it.

FFmpeg reads a file in memory, as the one format that its first bytes are of, by a few decoders; it is given
no way to open anything else. First its packets are counted, and nothing decoded; then what is asked for is
decoded, from the last place before it at which that can begin.
"""

import importlib
import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from glmflash.errors import ImageError
from glmflash.media.arrays import Pixels, check_size
from glmflash.media.clip_policy import ClipPolicy, check_length
from glmflash.media.frames import Film, Timeline
from glmflash.media.tables import check_tables

__all__ = ["open_video"]

_DEMUXERS = {"MP4": "mov", "WEBM": "matroska", "AVI": "avi"}
_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg")
_FASTEST = 1000.0  # frames a second; a header that says more is not believed


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class _Packets:
    """What a video's packets say, in the order in which they are stored.

    Args:
        size: (width, height) of a frame.
        order: For each packet the index of its frame, by time; None if it is not shown.
        index: Frame of each time stamp; empty if they do not tell frames apart.
        starts: Packets from which on can be decoded, without those before, and the other way round.
    """

    size: tuple[int, int]
    order: tuple[int | None, ...]
    index: dict[int, int]
    starts: tuple[int, ...]


def open_video(data: bytes, form: str, *, policy: ClipPolicy) -> Film:
    """Count a video's frames and find out when they are shown.

    Args:
        data: The file.
        form: "MP4", "WEBM" or "AVI".
        policy: Limits; frames are counted, whatever the header says.

    Raises:
        ImageError: If PyAV is not installed, it is too large, or of a codec that is not allowed.
        Exception: Whatever PyAV raises if the file is damaged.
    """
    if form == "MP4":
        check_tables(data, policy)
    with _container(data, form, policy) as container:
        stream = _stream(container)
        size = stream.codec_context.width, stream.codec_context.height
        check_size(*size, policy=policy)
        stored = list(_stored(container, stream, policy))
        timeline, packets = _sort(stored, stream, size)
    check_length(timeline.count, 0, timeline.duration, policy=policy)
    return Film(timeline, partial(_decode, data, form, policy, packets))


def _container(data: bytes, form: str, policy: ClipPolicy) -> Any:  # noqa: ANN401 - PyAV need not be there
    try:
        av = importlib.import_module("av")
    except ImportError:
        raise ImageError(
            "is a video, which needs PyAV: pip install 'glmflash[video]'"
            " (lists of frames and animated pictures work without it)"
        ) from None
    demuxer = _DEMUXERS[form]
    options = {
        "format_whitelist": demuxer,
        "protocol_whitelist": "none",  # the name of no protocol
        "max_pixels": str(policy.max_pixels),  # also while the streams are looked at
        "threads": "1",
    }
    if form == "MP4":
        options["enable_drefs"] = "0"  # tracks in other files
    return av.open(
        io.BytesIO(data), format=demuxer, options=options, metadata_errors="ignore", io_open=_open_nothing
    )


def _open_nothing(url: str, flags: int, options: dict[str, str]) -> io.BytesIO:  # noqa: ARG001 - PyAV's own
    """What a file refers to is not opened, wherever it is."""
    raise PermissionError("a video may not refer to other files")


def _stream(container: Any) -> Any:  # noqa: ANN401 - see above
    """The first moving picture in the file: covers are stills."""
    for stream in container.streams.video:
        if stream.disposition & type(stream.disposition).attached_pic:
            continue
        decoder = stream.codec_context
        name = "an unknown codec" if decoder is None else decoder.codec.canonical_name
        if name not in _CODECS:
            raise ImageError(f"is a video in {name}; allowed: {', '.join(_CODECS)}")
        return stream
    raise ImageError("holds no moving pictures")


def _stored(container: Any, stream: Any, policy: ClipPolicy) -> Iterator[tuple[int | None, bool, bool, int]]:  # noqa: ANN401 - see above
    """Of each packet: its time, whether it can be decoded alone, whether it is shown, how long."""
    shown = 0
    for packet in container.demux(stream):
        if not packet.size:
            continue  # the one that ends the stream
        if packet.is_corrupt:
            raise ImageError("is damaged or cut short")
        shown += not packet.is_discard
        check_length(shown, 0, 0, policy=policy)
        yield packet.pts, packet.is_keyframe, not packet.is_discard, packet.duration or 0


def _sort(
    stored: Sequence[tuple[int | None, bool, bool, int]],
    stream: Any,  # noqa: ANN401 - see above
    size: tuple[int, int],
) -> tuple[Timeline, _Packets]:
    times = sorted(time for time, _, shown, _ in stored if shown and time is not None)
    count = sum(shown for _, _, shown, _ in stored)
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    if len(set(times)) < count:  # not every frame has a time of its own
        if not 0 < rate <= _FASTEST:
            raise ImageError("does not say when its frames are shown")
        return Timeline(count, rate), _Packets(size, (None,) * len(stored), {}, (0,))
    index = {time: number for number, time in enumerate(times)}
    order = tuple(index[time] if shown and time is not None else None for time, _, shown, _ in stored)
    tick = float(stream.time_base)
    last = max((length for time, _, _, length in stored if time == times[-1]), default=0) if times else 0
    line = _timeline([(time - times[0]) * tick for time in times], last * tick, rate)
    keys = [key for _, key, _, _ in stored]
    return line, _Packets(size, order, index, _starts([time for time, *_ in stored], keys))


def _timeline(begins: Sequence[float], last: float, rate: float) -> Timeline:
    """Evenly, if the file's rate tells every time to half a frame; its times are rounded."""
    count = len(begins)
    if not count:
        return Timeline(0, rate or 1.0)
    if 0 < rate <= _FASTEST and all(abs(begin - i / rate) < 0.5 / rate for i, begin in enumerate(begins)):
        return Timeline(count, rate)
    end = begins[-1] + (last or begins[-1] / max(count - 1, 1) or 1 / _FASTEST)
    return Timeline(count, count / end, times=tuple(begins), seconds=end)


def _starts(times: Sequence[int | None], keys: Sequence[bool]) -> tuple[int, ...]:
    """Keyframes which all that is stored before is shown before, and all behind, behind."""
    stamps = [0 if time is None else time for time in times]
    before = np.maximum.accumulate(stamps)
    behind = np.minimum.accumulate(stamps[::-1])[::-1]
    return (
        0,
        *(
            at
            for at in range(1, len(stamps))
            if keys[at]
            and before[at - 1] < stamps[at] == behind[at]
            and None not in (times[at - 1], times[at])
        ),
    )


def _decode(
    data: bytes, form: str, policy: ClipPolicy, packets: _Packets, wanted: Sequence[int]
) -> Iterator[Pixels]:
    left = iter(wanted)
    target = next(left, None)
    runs = _runs(packets, wanted)
    _check_work(packets, runs, policy)
    with _container(data, form, policy) as container:
        for number, frame in enumerate(_frames(container, packets, runs, policy.max_pixels)):
            if (packets.index.get(frame.pts) if packets.index else number) != target:
                continue
            yield _pixels(frame, packets.size)
            target = next(left, None)
            if target is None:
                return
    if target is not None:
        raise ImageError("is damaged or cut short: not all of its frames can be decoded")


def _runs(packets: _Packets, wanted: Sequence[int]) -> frozenset[int]:
    """Numbers of the runs, each from one start to the next, that hold what is wanted."""
    if not packets.index:
        return frozenset({0})
    asked = set(wanted)
    return frozenset(
        bisect_right(packets.starts, at) - 1 for at, index in enumerate(packets.order) if index in asked
    )


def _check_work(packets: _Packets, runs: frozenset[int], policy: ClipPolicy) -> None:
    ends = (*packets.starts[1:], len(packets.order))
    frames = sum(ends[run] - packets.starts[run] for run in runs)
    check_length(0, frames * packets.size[0] * packets.size[1], 0, policy=policy)


def _frames(
    container: Any,  # noqa: ANN401 - see above
    packets: _Packets,
    runs: frozenset[int],
    limit: int,
) -> Iterator[Any]:
    """Decode these runs, in order."""
    stream, last = _stream(container), None
    decoder = stream.codec_context
    stream.thread_type, decoder.thread_count = "NONE", 1
    decoder.options = {"max_pixels": str(limit)}  # a stream may claim another size midway
    stored = (packet for packet in container.demux(stream) if packet.size)
    for number, packet in enumerate(stored):
        run = bisect_right(packets.starts, number) - 1
        if run not in runs:
            continue
        if last is not None and run > last + 1:  # what was left out would be missed
            yield from decoder.decode(None)
            decoder.flush_buffers()
        last = run
        yield from decoder.decode(packet)
    yield from decoder.decode(None)


def _pixels(frame: Any, size: tuple[int, int]) -> Pixels:  # noqa: ANN401 - see above
    if frame.is_corrupt:
        raise ImageError("is damaged or cut short")
    if (frame.width, frame.height) != size:
        raise ImageError(f"changes its size from {size} to {(frame.width, frame.height)}; allowed: one size")
    pixels: Pixels = frame.to_ndarray(format="rgb24")  # (H, W, 3)
    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # how the camera was held
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
