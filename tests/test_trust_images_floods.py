"""A3, floods of metadata: a file of 20 MiB of the smallest parts is refused after a few of them."""

import time
import zlib

import pytest
from hostile_pictures import FLOODS, animated, chunk, encoded, frame, gif, jpeg, png, segment, webp

from glmflash import InputPolicy
from glmflash.errors import ImageError
from glmflash.media import read
from glmflash.media.scan import format_of, scan

LIMIT = InputPolicy().max_bytes
POLICY = InputPolicy(formats=InputPolicy.trusted().formats)


class Counted(bytes):
    """Bytes that know how often a single one was looked at."""

    looks = 0

    def __getitem__(self, key):
        type(self).looks += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("name", FLOODS)
def test_a3_floods_are_refused_before_pillow_sees_them(name, monkeypatch):
    make, what = FLOODS[name]
    data = make(LIMIT - 2000)
    assert len(data) <= LIMIT
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("was opened"))
    began = time.perf_counter()
    with pytest.raises(ImageError, match=what):
        read(data, policy=POLICY)
    assert time.perf_counter() - began < 1.5  # measured: at most 0.13 s


@pytest.mark.parametrize("name", ["gif-comments", "gif-junk", "gif-comment", "jpeg-padding", "jpeg-comments"])
def test_a3_the_work_is_bounded_whatever_the_length(name):
    looks = []
    for size in (2**18, 2**19):
        data = Counted(FLOODS[name][0](size))
        Counted.looks = 0
        with pytest.raises(ImageError):
            scan(data, format_of(bytes(data[:16])))
        looks.append(Counted.looks)
    assert looks[0] == looks[1] < 300_000


def test_a3_what_real_files_hold_is_far_below():
    many = 900
    for data in (
        png(chunk(b"tEXt", b"k\0v") * many),
        png(after=[chunk(b"tIME", bytes(7)) * many]),
        png(chunk(b"IDAT") * 5000),
        png(*[chunk(b"iTXt", b"k\0\0\0en\0\0v")] * many),
        png(chunk(b"zTXt", b"k\0\0" + zlib.compress(b"v")) * 16),
        png(
            animated(2000), frame(0), after=[frame(2 * i + 1) + chunk(b"fdAT", bytes(4)) for i in range(2000)]
        ),
        jpeg(segment(0xFE, b"x") * many),
        jpeg(segment(0xE1, b"Exif\0\0") * 2 + segment(0xDB, b"\0" + b"\1" * 64) * 20),
        jpeg(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))),
        gif(b"!\xfe\x01a\0" * many),
        gif(b"!\xff\x0bXMP DataXMP" + b"\xff" + bytes([255]) * 255 + b"\0"),
        webp(*[b"abcd" + bytes(4)] * many),
    ):
        assert read(data).shape == (8, 8, 3)


def test_a3_behind_the_picture_there_may_be_anything():
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        data = encoded(kind)
        for more in (b"\0" * 100_000, b"\xff" * 100_000, data * 50, b"\xff\xda" * 5000):
            assert read(data + more).shape == (8, 8, 3), kind


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (jpeg(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 9), "segments of Exif"),
        (png(chunk(b"iCCP", b"n\0\0x") * 5), "colour profiles"),
    ],
)
def test_a3_what_unpacks_is_counted_too(data, what):
    with pytest.raises(ImageError, match=what):
        read(data)


def test_a2_a_part_of_a_picture_is_kept_as_the_whole_is():
    whole = encoded("JPEG", (64, 64), progressive=True, subsampling=0)
    first = whole.index(b"\xff\xda")
    part = whole[: whole.index(b"\xff\xda", first + 2)] + b"\xff\xd9"
    plain = encoded("JPEG", (64, 64), subsampling=0)
    assert [scan(data, "JPEG").cost for data in (whole, part, plain)] == [10, 10, 7]
