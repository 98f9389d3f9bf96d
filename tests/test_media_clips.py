"""Clips that need no FFmpeg: lists, arrays, animated pictures; their limits, and what is refused."""

import base64
import io
import re
import tracemalloc

import numpy as np
import pytest
import torch
from films import animation, frames
from PIL import Image

from glmflash.errors import FetchError, ImageError, ParameterError
from glmflash.media import Clip, ClipPolicy, DataUrl, InputPolicy, Url, open_clip

FIVE = frames(5)


def shown(clip, indices=None, *, policy=None):
    film = open_clip(clip, policy=policy)
    return list(film.frames(range(film.timeline.count) if indices is None else indices))


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda pictures: pictures,
        tuple,
        lambda pictures: [png(picture) for picture in pictures],
        lambda pictures: [Image.fromarray(picture) for picture in pictures],
        np.stack,
        lambda pictures: np.stack(pictures) / 255,
        lambda pictures: np.stack(pictures).transpose(0, 3, 1, 2),
        lambda pictures: torch.tensor(np.stack(pictures)),
        lambda pictures: torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2),
        lambda pictures: [pictures[0], png(pictures[1]), torch.tensor(pictures[2]), *pictures[3:]],
    ],
)
def test_frames_of_every_kind_are_the_same_frames(make):
    film = open_clip(Clip(make(FIVE), fps=2))
    assert film.timeline.duration == 2.5
    assert equal(list(film.frames([0, 3])), [FIVE[0], FIVE[3]])


def test_only_what_is_asked_for_is_read():
    film = open_clip(Clip([FIVE[0], "missing.png", FIVE[2]], fps=1))
    assert equal(list(film.frames([0, 2])), [FIVE[0], FIVE[2]])
    with pytest.raises(ImageError, match=r"frame 1 of 3: 'missing\.png': cannot be opened"):
        list(film.frames([0, 1]))


def test_a_frame_that_is_shown_twice_is_read_once():
    class Counted(list):
        reads = 0

        def __getitem__(self, index):
            Counted.reads += 1
            return super().__getitem__(index)

    film = open_clip(Clip(tuple(FIVE[:3]), fps=1))
    object.__setattr__(film, "frames", lambda wanted: (Counted(FIVE)[index] for index in wanted))
    assert equal(list(film.shown([0, 1, 2, 2])), [*FIVE[:3], FIVE[2]])
    assert Counted.reads == 3


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize(
    ("durations", "times"),
    [(200, (0.0, 0.2, 0.4, 0.6, 0.8)), ([100, 700, 100, 50, 50], (0, 0.1, 0.8, 0.9, 0.95))],
)
def test_an_animated_picture_is_a_clip(form, durations, times):
    data = animation(FIVE, durations, form)
    film = open_clip(Clip(data))
    assert [film.timeline.time(index) for index in range(5)] == pytest.approx(times)
    assert film.timeline.duration == 1.0
    pixels = list(film.frames(range(5)))
    if form != "GIF":
        assert equal(pixels, FIVE)
    assert len({picture.tobytes() for picture in pixels}) == 5
    assert equal(list(film.frames([1, 4])), [pixels[1], pixels[4]])


def test_a_pil_image_with_frames_is_a_clip_and_stays_where_it_was():
    image = Image.open(io.BytesIO(animation(FIVE, 100)))
    image.seek(2)
    assert equal(shown(Clip(image)), FIVE)
    assert image.tell() == 2


def test_an_animated_picture_comes_by_every_way(tmp_path):
    data = animation(FIVE, 100)
    path = tmp_path / "bar.webp"
    path.write_bytes(data)
    url = "data:image/webp;base64," + base64.b64encode(data).decode()
    for source in (data, memoryview(data), io.BytesIO(data), path, str(path), DataUrl(url)):
        assert equal(shown(Clip(source), [0, 4]), [FIVE[0], FIVE[4]])


def test_frames_without_a_time_are_shown_for_a_tenth_of_a_second():
    film = open_clip(Clip(animation(FIVE, 0, "GIF")))
    assert film.timeline.duration == 0.5


def test_a_still_is_a_clip_of_one_frame():
    assert equal(shown(Clip(png(FIVE[0]))), FIVE[:1])


def test_times_may_be_given():
    film = open_clip(Clip(FIVE, timestamps=[0, 1, 1, 2.5, np.float32(8)]))
    assert [film.timeline.time(index) for index in range(5)] == [0, 1, 1, 2.5, 8]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"fps": float("inf")}, "fps"),
        ({"fps": True}, "fps"),
        ({"fps": "30"}, "fps"),
        ({"max_frames": 0}, "max_frames"),
        ({"max_frames": 1.5}, "max_frames"),
        ({"timestamps": "012"}, "timestamps"),
        ({"timestamps": 3}, "timestamps"),
        ({"timestamps": [0, -1]}, "timestamps"),
        ({"timestamps": [0, float("nan")]}, "timestamps"),
        ({"timestamps": [1, 0]}, "back in time"),
        ({"timestamps": [0], "fps": 1}, "both given"),
    ],
)
def test_what_is_said_about_a_clip_is_checked_at_once(given, message):
    with pytest.raises(ParameterError, match=message):
        Clip(FIVE, **given)


@pytest.mark.parametrize(
    ("clip", "error", "message"),
    [
        (Clip(FIVE), ParameterError, "fps: is missing"),
        (Clip(FIVE, timestamps=[0, 1]), ParameterError, "are 2 for 5 frames"),
        (Clip(animation(FIVE, 100), fps=2), ParameterError, "a file says them itself"),
        (Clip(np.zeros((4, 5, 6)), fps=1), ImageError, "has shape"),
        (Clip(np.zeros((4, 5, 6, 2)), fps=1), ImageError, "has shape"),
        (Clip("no.mp4"), ImageError, r"'no\.mp4': cannot be opened"),
        (Clip("https://u:p@example.org/a.mp4"), ImageError, "text: cannot be opened"),
        (Clip(Url("https://u:p@example.org/a.mp4")), FetchError, "not fetched"),
        (Clip(7), ImageError, r"clip \(int\): is not a clip"),
        (Clip(b""), ImageError, "is empty"),
        (Clip(b"#EXTM3U\nfile:///etc/passwd"), ImageError, "no known format"),
        (Clip(b"ffconcat version 1.0\nfile /etc/passwd"), ImageError, "no known format"),
        (Clip(b"RIFF\0\0\0\0AVI LIST"), ImageError, "found AVI"),
        (Clip(b"\0\0\0\x1cftypavif" + bytes(40)), ImageError, "AVIF"),
        (Clip(animation(FIVE, 100)[:200]), ImageError, "cut short"),
    ],
)
def test_what_is_no_clip_is_refused(clip, error, message):
    with pytest.raises(error, match=message) as caught:
        shown(clip)
    assert "0x" not in str(caught.value)
    assert "u:p" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("clip", "limits", "name"),
    [
        (Clip(animation(FIVE, 100)), {"max_bytes": 50}, "max_bytes"),
        (Clip(animation(FIVE, 100)), {"max_frames": 4}, "max_frames"),
        (Clip(animation(FIVE, 1000)), {"max_seconds": 3}, "max_seconds"),
        (Clip(animation(FIVE, 100)), {"max_pixels": 3000}, "max_pixels"),
        (Clip(animation(FIVE, 100)), {"max_total_pixels": 4 * 48 * 64}, "max_total_pixels"),
        (Clip(FIVE, fps=1), {"max_frames": 4}, "max_frames"),
        (Clip(FIVE, fps=1), {"max_seconds": 4}, "max_seconds"),
        (Clip(FIVE, timestamps=[0, 1, 2, 3, 9]), {"max_seconds": 8}, "max_seconds"),
    ],
)
def test_each_limit_holds_and_is_named(clip, limits, name):
    assert len(shown(clip)) == 5
    with pytest.raises(ImageError, match=re.escape(f"ClipPolicy.{name}")):
        open_clip(clip, policy=InputPolicy(clips=ClipPolicy(**limits)))


@pytest.mark.parametrize("name", ["max_bytes", "max_seconds", "max_frames", "max_pixels", "max_total_pixels"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, None])
def test_a_limit_that_is_no_positive_number_is_named(name, value):
    with pytest.raises(ParameterError, match=name):
        ClipPolicy(**{name: value})


@pytest.mark.parametrize("formats", [("FLV",), ["MP4"], None, ("mp4",)])
def test_formats_that_are_not_supported_are_refused(formats):
    with pytest.raises(ParameterError, match="formats"):
        ClipPolicy(formats=formats)
    with pytest.raises(ParameterError, match="clips"):
        InputPolicy(clips=formats)


def test_formats_can_be_turned_off():
    policy = InputPolicy(clips=ClipPolicy(formats=()))
    for data in (animation(FIVE, 100), b"\0\0\0\x1cftypisom"):
        with pytest.raises(ImageError, match="not an allowed"):
            open_clip(Clip(data), policy=policy)
    assert len(shown(Clip(FIVE, fps=1), policy=policy)) == 5


def test_an_animation_that_never_ends_is_left_early():
    """A GIF of two million frames in a few megabytes costs no more than those that are allowed."""
    whole = animation([np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)], 20, "GIF")
    last = whole.rindex(b"!\xf9")
    data = whole[:last] + whole[last:-1] * 100_000 + b";"
    tracemalloc.start()
    with pytest.raises(ImageError, match="max_frames"):
        open_clip(Clip(data), policy=InputPolicy(clips=ClipPolicy(max_frames=1000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(data)


def test_hostile_pictures_as_clips(test_data):
    """Whatever the file, one error that leaks nothing, or frames."""
    policy = InputPolicy(clips=ClipPolicy(max_frames=50, max_total_pixels=4_000_000, max_pixels=1_000_000))
    problems, read = [], 0
    for path in sorted((test_data / "data" / "hostile").iterdir())[::12]:
        try:
            read += len(shown(Clip(path), policy=policy))
        except ImageError as error:
            problems.append(str(error))
    assert read
    assert problems
    assert not [problem for problem in problems if "0x" in problem]
