"""The one decode function: what a person would see, through every door, or one typed error."""

import base64
import csv
import gc
import io
import re
import struct
import warnings
import weakref
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from glmflash.errors import FetchError, ImageError, ParameterError
from glmflash.media import DataUrl, InputPolicy, Url, read

RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, depth, colour, rows, *chunks):
    """A PNG by hand, for what Pillow does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = [chunk(b"IHDR", header), *(chunk(*pair) for pair in chunks)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*body, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def test_the_same_picture_through_every_door(tmp_path):
    image = Image.fromarray(NOISE)
    data = encode(image)
    path = tmp_path / "noise.jpg"  # the name says nothing
    path.write_bytes(data)
    tensor = torch.tensor(NOISE)
    sources = [
        path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), path.open("rb"), image,
        Image.open(path), NOISE, NOISE.transpose(2, 0, 1), NOISE / 255, tensor, tensor.permute(2, 0, 1),
        tensor / 255, DataUrl("data:image/png;base64," + base64.b64encode(data).decode()),
    ]  # fmt: skip
    for source in sources:
        pixels = read(source)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.owndata
        assert pixels.flags.writeable
        np.testing.assert_array_equal(pixels, NOISE)
    sources[6].close()


def test_the_callers_objects_are_neither_changed_nor_kept():
    image = Image.fromarray(NOISE).convert("P")
    image.info["transparency"] = bytes(256)
    before = (image.mode, image.tobytes(), image.palette.tobytes(), dict(image.info))
    array = NOISE.copy()
    held = [weakref.ref(image), weakref.ref(array)]
    pixels = [read(image), read(array)]
    assert (image.mode, image.tobytes(), image.palette.tobytes(), dict(image.info)) == before
    assert (pixels[0] == 255).all()
    np.testing.assert_array_equal(read(image), pixels[0])
    del image, array
    gc.collect()
    assert [ref() for ref in held] == [None, None]


def test_an_error_does_not_keep_the_callers_object():
    array = np.full((4, 4, 3), np.nan)
    held = weakref.ref(array)
    try:
        read(array)
    except ImageError as error:
        kept = error.with_traceback(None)
    del array
    gc.collect()
    assert held() is None
    assert kept.__context__ is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("value", range(1, 9))
def test_pictures_stand_upright(kind, value):
    upright = Image.new("RGB", (48, 32), "white")
    upright.paste("red", (0, 0, 24, 16))
    upright.paste("blue", (24, 16, 48, 32))
    stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[value]  # the inverse of the turn
    stored = upright if stored is None else upright.transpose(Image.Transpose(stored))
    tags = Image.Exif()
    tags[0x0112] = value
    options = (
        {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    )
    data = encode(stored, kind, exif=tags.tobytes(), **options)
    for source in (data, Image.open(io.BytesIO(data))):
        pixels = read(source)
        assert pixels.shape == (32, 48, 3)
        assert np.abs(pixels.astype(int) - np.asarray(upright)).max() <= (3 if kind == "JPEG" else 0)


def test_malformed_exif_is_ignored():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(40))
    np.testing.assert_array_equal(read(encode(Image.fromarray(NOISE), exif=exif)), NOISE)
    np.testing.assert_array_equal(read(encode(Image.fromarray(NOISE), exif=b"LoremIpsumDolor")), NOISE)


ALPHA = np.array([[0, 64, 128, 255]], np.uint8)
ON_WHITE = [[255, 227, 200, 145]]  # 145 over white, rounded


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_alpha_is_laid_on_white(mode):
    layer = Image.merge("LA", (Image.new("L", (4, 1), 145), Image.fromarray(ALPHA)))
    pixels = read(layer.convert("RGBA").convert(mode) if mode != "La" else layer.convert("La"))
    assert np.abs(pixels[:, :, 0].astype(int) - ON_WHITE).max() <= (2 if mode in ("La", "RGBa") else 0)


def test_an_array_with_alpha_is_laid_on_white():
    samples = np.concatenate([np.full((1, 4, 3), 145, np.uint8), ALPHA[:, :, None]], axis=2)
    assert read(samples)[:, :, 1].tolist() == ON_WHITE
    assert read(encode(Image.fromarray(samples)))[:, :, 1].tolist() == ON_WHITE
    assert read(encode(Image.fromarray(samples), "WEBP", lossless=True))[:, :, 1].tolist() == ON_WHITE


def test_palette_entries_may_be_transparent():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert read(image).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    for transparency in (0, b"\0\xff"):
        assert read(encode(image, transparency=transparency)).tolist() == [[[255] * 3, [40, 50, 60]]]
    assert read(encode(image, transparency=b"\x80\xff"))[0, 0].tolist() == [132, 137, 142]
    assert read(encode(image, "GIF", transparency=1)).tolist() == [[[10, 20, 30], [255] * 3]]


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, b"\0\x40", 1, [0, 255]),
        (2, b"\0\x60", 1, [255, 170]),
        (4, b"\0\x35", 3, [255, 85]),
        (8, b"\0\x03\x05", 3, [255, 5]),
        (16, b"\0\x12\x34\x12\x35", 0x1234, [255, 0x12]),
    ],
)
def test_a_transparent_grey_is_counted_in_the_samples_of_the_file(depth, row, key, expected):
    data = png(2, 1, depth, 0, row, (b"tRNS", struct.pack(">H", key)))
    assert read(data)[0, :, 0].tolist() == expected
    assert read(Image.open(io.BytesIO(data)))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_counted_in_the_samples_of_the_file(depth):
    scale = {8: "B", 16: "H"}[depth]
    low = [1, 2, 3, 4, 5, 6] if depth == 8 else [value * 256 for value in (1, 2, 3, 4, 5, 6)]
    row = b"\0" + struct.pack(">6" + scale, *low)
    data = png(2, 1, depth, 2, row, (b"tRNS", struct.pack(">HHH", *low[:3])))
    assert read(data).tolist() == [[[255] * 3, [4, 5, 6]]]


def test_16_bit_grey_is_scaled_not_clipped():
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for source in (
        Image.fromarray(deep),
        encode(Image.fromarray(deep)),
        Image.fromarray(deep.astype(np.int32)),
    ):
        assert read(source)[:, :, 2].ravel().tolist() == list(range(256))
    with pytest.raises(ImageError, match="65535"):
        read(Image.fromarray(np.array([[0, 70000]], np.int32)))


def test_16_bit_grey_is_turned_upright():
    tags = Image.Exif()
    tags[0x0112] = 3
    data = encode(Image.fromarray(np.array([[0, 0x4000, 0xFFFF]], np.uint16)), exif=tags.tobytes())
    assert read(data)[0, :, 0].tolist() == [255, 64, 0]


def test_modes_with_a_plain_meaning():
    assert read(Image.new("1", (2, 1), 1)).tolist() == [[[255] * 3] * 2]
    assert read(Image.new("L", (1, 1), 9)).tolist() == [[[9] * 3]]
    assert read(Image.new("CMYK", (1, 1), (255, 0, 0, 0))).tolist() == [[[0, 255, 255]]]
    assert read(encode(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG"))[0, 0].tolist() == [0, 0, 0]
    assert read(Image.new("YCbCr", (1, 1), (128, 128, 128))).tolist() == [[[128] * 3]]
    assert read(Image.new("LAB", (1, 1), (255, 128, 128)))[0, 0].min() >= 254
    assert read(Image.new("F", (1, 1), 0.5)).tolist() == [[[128] * 3]]
    with pytest.raises(ImageError, match="0 to 1"):
        read(Image.new("F", (1, 1), 2.0))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "MPO"])
def test_only_the_first_frame_is_shown(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    options = {} if kind == "MPO" else {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    pixels = read(data)
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels[8, 8].astype(int) - [255, 0, 0]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_picture_cut_short_is_an_error_and_never_grey(kind):
    data = encode(Image.fromarray(NOISE), kind)
    whole = read(data)
    for cut in np.linspace(0, len(data) - 1, 64).astype(int):
        try:
            pixels = read(data[:cut])
        except ImageError:
            continue
        np.testing.assert_array_equal(pixels, whole)  # only an end marker was missing
        assert cut > len(data) - 16


@pytest.mark.parametrize("policy", [0, "strict", {"max_bytes": 3}, InputPolicy])
def test_a_policy_of_another_type_is_the_callers_mistake(policy):
    with pytest.raises(ParameterError, match=r"input_policy: is a .*; allowed: an InputPolicy or None"):
        read(NOISE, policy=policy)


@pytest.mark.parametrize("make", [lambda x: x.to("meta"), lambda x: x[:, :, 0].to_sparse()])
def test_tensors_without_samples_are_refused_in_words(make):
    with pytest.raises(ImageError, match="allowed: a dense tensor that holds data"):
        read(make(torch.ones(4, 4, 3)))


def test_formats_are_judged_by_content_and_named():
    tiff = encode(Image.fromarray(NOISE), "TIFF")
    with pytest.raises(ImageError, match="found TIFF; allowed: PNG, JPEG, WEBP, GIF, BMP"):
        read(tiff)
    np.testing.assert_array_equal(read(tiff, policy=InputPolicy(formats=("TIFF",))), NOISE)
    with pytest.raises(ImageError, match="found PNG; allowed: JPEG"):
        read(encode(Image.fromarray(NOISE)), policy=InputPolicy(formats=("JPEG",)))
    for kind in ("ICO", "PPM", "PCX", "TGA", "EPS", "JPEG2000", "AVIF", "PDF", "DIB", "SGI"):
        with pytest.raises(ImageError, match="not an allowed picture"):
            read(encode(Image.fromarray(NOISE), kind))


@pytest.mark.parametrize("source", [b"", None, 3, [[0, 0]], object(), "", b"nothing", {"image": 1}])
def test_what_is_no_picture_is_refused(source):
    with pytest.raises(ImageError) as caught:
        read(source)
    assert not re.search("0x[0-9a-f]{6,}", str(caught.value))


def test_too_many_pixels_are_refused_from_the_header(monkeypatch):
    bomb = png(60_000, 60_000, 8, 2, b"")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(ImageError, match=r"60000 x 60000 pixels, more than the 33500000"):
        read(bomb)
    with pytest.raises(ImageError, match="max_pixels"):
        read(encode(Image.fromarray(NOISE)), policy=InputPolicy(max_pixels=NOISE.size // 3 - 1))


def test_pillows_own_alarm_is_typed_too():
    with pytest.raises(ImageError, match="far too many pixels"):
        read(
            png(60_000, 60_000, 8, 2, b""),
            policy=InputPolicy(max_pixels=2**32, max_total_pixels=2**32, max_memory=2**40),
        )


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_a_picture_without_pixels_is_refused(size):
    with pytest.raises(ImageError, match="at least one"):
        read(Image.new("RGB", size))


def test_hostile_pictures_decode_or_are_typed(test_data):
    table = (test_data / "data" / "hostile.tsv").read_text("utf-8")
    rows = list(csv.DictReader(table.splitlines(), delimiter="\t"))
    refused = {}
    for row in rows:
        path = test_data / "data" / "hostile" / row["file"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of some
            try:
                pixels = read(path)
            except ImageError as error:
                refused[row["file"]] = str(error)
                continue
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3
            url = DataUrl("data:;base64," + base64.b64encode(path.read_bytes()).decode())
            np.testing.assert_array_equal(read(url), pixels)
    assert not [text for text in refused.values() if "0x" in text or len(text) > 500]
    fine = [row["file"] for row in rows if row["pillow_13_outcome"] == "ok"]
    assert not [name for name in fine if "found TIFF" not in refused.get(name, "found TIFF")]
    assert len(fine) - len(refused.keys() & fine) > 150


def test_urls_keep_their_own_error():
    with pytest.raises(FetchError):
        read(Url("https://example.org/a.png"))
