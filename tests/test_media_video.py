"""Encoded videos, by PyAV: frames, times, and files that lie, end early or point elsewhere."""

import contextlib
import importlib
import io
import random
import re
import struct
import sys
import time

import numpy as np
import pytest
from films import frames, video

from glmflash.errors import ImageError
from glmflash.media import Clip, ClipPolicy, InputPolicy, open_clip

pytestmark = pytest.mark.extras
av = pytest.importorskip("av")

FRAMES = frames(40)
KINDS = [
    ("mp4", "libx264"), ("mp4", "mpeg4"), ("mp4", "libx265"), ("mov", "libx264"), ("webm", "libvpx-vp9"),
    ("webm", "libvpx"), ("matroska", "libx264"), ("mp4", "libsvtav1"),
]  # fmt: skip


def encoded(form, codec, pictures=FRAMES, **options):
    try:
        av.codec.Codec(codec, "w")
    except av.error.FFmpegError:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    if codec == "libx265":
        options["x265-params"] = "log-level=none:pools=1:keyint=12"
    return video(pictures, form=form, codec=codec, **options)


def decoded(data):
    """Every frame, as PyAV gives them when it is asked for all of them."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def shown(data, wanted, **limits):
    return list(open_clip(Clip(data), policy=InputPolicy(clips=ClipPolicy(**limits))).frames(wanted))


def attempt(data, **limits):
    """The first hundred frames of what may be damaged; and the error, which leaks nothing."""
    pixels = []
    try:
        film = open_clip(Clip(data), policy=InputPolicy(clips=ClipPolicy(**limits)))
        pixels += film.frames(range(min(film.timeline.count, 100)))
    except ImageError as error:
        problem = error
    else:
        return pixels, ""
    assert problem.__cause__ is None
    assert "0x" not in str(problem)
    return pixels, str(problem)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "codec"), KINDS)
def test_every_frame_is_the_one_that_is_asked_for(form, codec):
    """Also those in the middle of a run, before and behind ones that were left out."""
    data = encoded(form, codec)
    film, everything = open_clip(Clip(data)), decoded(data)
    assert (film.timeline.count, film.timeline.rate, film.timeline.times) == (40, 30.0, None)
    chance = random.Random(1)
    asked = [list(range(40)), [0], [39], [11, 12], [13, 37], [0, 39]]
    asked += [sorted(chance.sample(range(40), chance.randint(1, 5))) for _ in range(6)]
    for wanted in asked:
        pixels = list(film.frames(wanted))
        assert len(pixels) == len(wanted)
        assert all(np.array_equal(one, everything[index]) for one, index in zip(pixels, wanted, strict=True))


def test_only_runs_that_are_needed_are_decoded():
    data = video(FRAMES)
    area = 48 * 64
    assert shown(data, [30], max_total_pixels=12 * area)
    with pytest.raises(ImageError, match="max_total_pixels"):
        shown(data, [0, 15, 30], max_total_pixels=12 * area)


def test_frames_that_come_unevenly_keep_their_times():
    times = [0, 40, 80, 1000, 1040, 5000]
    film = open_clip(Clip(video(FRAMES[:6], form="matroska", times=times)))
    assert [film.timeline.time(index) for index in range(6)] == pytest.approx([t / 1000 for t in times])
    assert 5.0 < film.timeline.duration < 7.0


def test_a_video_that_was_turned_is_upright():
    upright = decoded(video(FRAMES[:2]))
    data = bytearray(video(FRAMES[:2]))
    matrix = data.index(b"tkhd") + 4 + 40  # after version, times, duration, layer, volume
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)  # a quarter turn
    (turned,) = shown(bytes(data), [0])
    assert turned.shape == (64, 48, 3)
    assert np.array_equal(turned, np.rot90(upright[0], -1))


def test_sound_alone_is_no_clip():
    file, silence = io.BytesIO(), np.zeros((1, 1024), np.float32)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for index in range(4):
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.rate, frame.pts = 8000, 1024 * index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ImageError, match="no moving pictures"):
        open_clip(Clip(file.getvalue()))


def test_codecs_that_are_not_allowed_are_named():
    with pytest.raises(ImageError, match=r"a video in ffv1; allowed: h264"):
        open_clip(Clip(video(FRAMES[:2], form="matroska", codec="ffv1")))


def test_avi_is_there_when_asked_for():
    data = video(FRAMES, form="avi", codec="mpeg4")
    with pytest.raises(ImageError, match="found AVI; allowed: MP4"):
        open_clip(Clip(data))
    everything = decoded(data)
    (pixels,) = shown(data, [17], formats=("AVI",))
    assert np.array_equal(pixels, everything[17])


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"max_bytes": 500}, "max_bytes"),
        ({"max_frames": 39}, "max_frames"),
        ({"max_seconds": 1}, "max_seconds"),
        ({"max_pixels": 3000}, "max_pixels"),
    ],
)
def test_each_limit_holds_before_anything_is_decoded(limits, name, monkeypatch):
    data = video(FRAMES)
    module = importlib.import_module("glmflash.media.video")
    monkeypatch.setattr(module, "_decode", None)  # calling it would raise another error
    with pytest.raises(ImageError, match=rf"ClipPolicy\.{name}"):
        open_clip(Clip(data), policy=InputPolicy(clips=ClipPolicy(**limits)))


def boxes(data, name):
    """Where boxes of this name begin."""
    at = -1
    while (at := data.find(name, at + 1)) >= 0:
        yield at


def test_a_header_that_claims_another_size_leads_to_no_large_frame():
    """The size in the header is small; the stream inside says otherwise."""
    data = bytearray(video(frames(4, 480, 640)))
    for at in boxes(data, b"avc1"):
        if at + 30 < len(data):
            data[at + 28 : at + 32] = struct.pack(">HH", 64, 48)
    assert re.search(rb"avc1.{24}\0\x40\0\x30", bytes(data), re.DOTALL)
    pixels, error = attempt(bytes(data), max_pixels=64 * 48)
    assert error or all(one.shape[0] * one.shape[1] <= 64 * 48 for one in pixels)


def test_a_header_that_claims_frames_without_end():
    """The number of frames is counted, not believed."""
    data = bytearray(video(FRAMES[:4]))
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        for at in boxes(data, name):
            size = struct.unpack(">I", data[at - 4 : at])[0]
            data[at + 16 : at + size - 4 - 20] = data[at + 16 : at + size - 4 - 20].replace(
                struct.pack(">I", 133), b"\x7f\xff\xff\xff"
            )
    began = time.perf_counter()
    with contextlib.suppress(ImageError):
        assert open_clip(Clip(bytes(data))).timeline.count == 4
    assert time.perf_counter() - began < 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("matroska", "libx264")]
)
def test_a_file_cut_short_is_refused_or_shorter(form, codec):
    data = encoded(form, codec)
    for length in range(0, len(data), max(1, len(data) // 40)):
        cut = data[:length]
        pixels, error = attempt(cut)
        assert error or len(pixels) <= 40


@pytest.mark.slow
@pytest.mark.parametrize(("form", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("mp4", "mpeg4")])
def test_damaged_files_are_refused_or_read_within_bounds(form, codec):
    """Two hundred files with wrong bytes: frames of the right size, or one error that leaks nothing."""
    data, chance = encoded(form, codec), random.Random(2)
    began, errors = time.perf_counter(), 0
    for _ in range(200):
        wrong = bytearray(data)
        for _ in range(chance.choice([1, 3, 30])):
            wrong[chance.randrange(len(wrong))] = chance.randrange(256)
        pixels, error = attempt(bytes(wrong), max_pixels=10_000)
        errors += bool(error)
        assert all(one.shape[0] * one.shape[1] <= 10_000 for one in pixels)
    assert 0 < errors < 200
    assert time.perf_counter() - began < 60


def pointing(name: bytes) -> bytes:
    """A QuickTime file whose frames lie in another one of this name, by a Macintosh alias."""
    data = video(FRAMES[:4], form="mov")
    path = b"/" + name
    record = (
        bytes(10) + b"\0" + bytes(27 + 12) + b"\0" + bytes(63 + 16) + struct.pack(">HH", 1, 1) + bytes(16)
    )
    record += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + b"\xff\xff\0\0"
    alias = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    at = data.index(b"dref")
    size = struct.unpack(">I", data[at - 4 : at])[0]
    dref = struct.pack(">I4sII", 16 + len(alias), b"dref", 0, 1) + alias
    out = bytearray(data[: at - 4] + dref + data[at - 4 + size :])
    for parent in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        place = bytes(out).rindex(parent, 0, at) - 4
        old = struct.unpack(">I", out[place : place + 4])[0]
        out[place : place + 4] = struct.pack(">I", old + len(dref) - size)
    return bytes(out)


def test_no_file_opens_another_one(monkeypatch):
    data, asked = pointing(b"secret.mp4"), []

    def refuse(url, flags, options):
        asked.append(url)
        raise PermissionError

    with contextlib.suppress(OSError, av.error.FFmpegError):  # FFmpeg would, if it were let
        av.open(io.BytesIO(data), format="mov", options={"enable_drefs": "1"}, io_open=refuse).close()
    assert asked == ["secret.mp4"]
    asked.clear()
    monkeypatch.setattr(importlib.import_module("glmflash.media.video"), "_open_nothing", refuse)
    with contextlib.suppress(ImageError):
        shown(data, [0])
    assert asked == []


def test_without_pyav_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImageError, match=r"pip install 'glmflash\[video\]'"):
        open_clip(Clip(b"\0\0\0\x1cftypisom" + bytes(100)))


def put(data: bytes, name: bytes, offset: int, *numbers: int) -> bytes:
    """The same file with other numbers in a box, so many bytes behind its name."""
    changed = bytearray(data)
    struct.pack_into(f">{len(numbers)}I", changed, data.index(name) + 4 + offset, *numbers)
    return bytes(changed)


@pytest.mark.parametrize("kind", ["stsz", "trun", "elst", "hidden", "compressed"])
def test_tables_that_claim_samples_without_end_are_not_believed(kind, monkeypatch):
    many = 2**31
    plain = video(FRAMES[:4])
    if kind == "stsz":
        data = put(plain, b"stsz", 4, 1, many)
    elif kind == "elst":
        data = put(plain, b"elst", 4, 10_000_000)
    elif kind == "compressed":
        data = plain.replace(b"udta", b"cmov")
    else:
        whole = put(fragmented(), b"trun", 4, many)
        hidden = b"mdat" + whole[whole.index(b"moof") - 4 :] + struct.pack(">I4s", 8, b"sidx")
        data = whole if kind == "trun" else plain + struct.pack(">I", len(hidden) - 4) + hidden
    monkeypatch.setattr("glmflash.media.video._container", lambda *_: pytest.fail("was opened"))
    with pytest.raises(ImageError, match=r"has tables of more samples|compressed tables"):
        open_clip(Clip(data))


def test_tables_of_real_files_are_read():
    """Fragments, and sound that is not compressed, which has millions of samples."""
    assert open_clip(Clip(fragmented())).timeline.count == 12
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        pictures, sound = (
            container.add_stream("mpeg4", rate=30),
            container.add_stream("pcm_s16le", rate=48_000),
        )
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        for picture in FRAMES[:12]:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        noise.sample_rate = 48_000
        container.mux(sound.encode(noise))
        container.mux(pictures.encode())
    few = InputPolicy(clips=ClipPolicy(max_frames=20))
    assert open_clip(Clip(file.getvalue()), policy=few).timeline.count == 12
    with pytest.raises(ImageError, match="tables"):
        open_clip(Clip(file.getvalue().replace(b"soun", b"vide")), policy=few)


def fragmented() -> bytes:
    """An MP4 as it is streamed."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in FRAMES[:12]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
