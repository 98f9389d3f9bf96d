"""Hostile pictures, class by class: memory, bombs, what people see, odd sizes, leaks, and names of files."""

import ast
import base64
import io
import os
import re
import struct
import time
import tracemalloc
import zlib
from dataclasses import replace
from importlib import import_module
from importlib.metadata import requires, version
from pathlib import Path

import numpy as np
import pytest
from hostile_pictures import chunk, encoded, gif, jpeg, png, segment, sized, webp
from PIL import Image, ImageFile

import glmflash
from glmflash import DataUrl, InputPolicy
from glmflash.errors import ImageError
from glmflash.media import read
from glmflash.media.totals import Totals
from glmflash.version import warn_if_old

ALL = InputPolicy.trusted().formats
EVERY_FORMAT = InputPolicy(formats=ALL)
NOISE = np.random.default_rng(3).integers(0, 256, (24, 32, 3), np.uint8)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# ------------------------------------------------------------------------- A1: memory corruption in decoders


def test_a1_pictures_are_opened_in_one_place_and_as_one_format():
    """Whoever opens or decodes elsewhere, or without naming a format, finds it here."""
    doors = re.compile(r"\b(Image\.open|Image\.core\..*|ImageFile\..*|imread|\w+ImageFile)$")
    calls = [
        (path.name, ast.unparse(node))
        for path in sorted(Path(glmflash.__file__).parent.rglob("*.py"))
        if "PIL" in (text := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and doors.search(ast.unparse(node.func))
    ]
    assert calls == [("read.py", "Image.open(io.BytesIO(data), formats=(found,))")]


@pytest.mark.parametrize(
    "kind", ["PCX", "TGA", "PPM", "ICO", "ICNS", "JPEG2000", "DDS", "EPS", "SGI", "AVIF"]
)
def test_a1_other_parsers_are_never_reached(kind, monkeypatch):
    Image.init()
    data = encode(Image.fromarray(np.repeat(np.repeat(NOISE, 2, 0), 2, 1)), kind)
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("was opened"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(ImageError, match="is not an allowed picture: found "):
        read(data, policy=InputPolicy.trusted())


def test_a1_the_floor_of_pillow_is_required():
    assert "pillow>=13.0.0" in {need.replace(" ", "").lower() for need in requires("glmflash") or ()}
    assert int(version("pillow").split(".")[0]) >= 13


def test_a1_an_older_pillow_is_warned_of(recwarn):
    warn_if_old("Pillow", "13.0.0", (13,))
    warn_if_old("Pillow", "14.2", (13,))
    assert not recwarn
    with pytest.warns(RuntimeWarning, match=r"Pillow 12\.3\.0 has known holes"):
        warn_if_old("Pillow", "12.3.0", (13,))


# ------------------------------------------------------------------------------------- A2: bombs of pixels


BOMBS = [
    ("PNG", 60_000, 60_000), ("PNG", 1, 178_000_000), ("PNG", 2**31 - 1, 2**31 - 1), ("JPEG", 65_500, 65_500),
    ("GIF", 65_535, 65_535), ("GIF, first frame", 65_535, 65_535), ("WEBP", 2**24, 2**24),
    ("WEBP, VP8L", 16_383, 16_383), ("BMP", 2**31 - 1, 2**31 - 1), ("BMP, top down", 60_000, 60_000),
    ("TIFF", 2**32 - 1, 2**32 - 1),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "width", "height"), BOMBS)
def test_a2_bombs_are_refused_before_anything_is_opened(kind, width, height, monkeypatch):
    bomb = sized(kind, width, height)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(
        ImageError, match=rf"is {width} x {height} pixels, more than .* InputPolicy\.max_pixels"
    ):
        read(bomb, policy=EVERY_FORMAT)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_a2_what_decodes_with_more_memory_may_have_fewer_pixels(kind, monkeypatch):
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(
        ImageError, match=rf"MiB to decode as {kind}, more than the 300 of InputPolicy\.max_mem"
    ):
        read(sized(kind, 5500, 6000), policy=EVERY_FORMAT)


def test_a2_scans_of_a_jpeg_cost_memory(monkeypatch):
    picture = bytearray(encoded("JPEG", progressive=True, subsampling=0))
    struct.pack_into(">HH", picture, picture.index(b"\xff\xc2") + 5, 5780, 5780)
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(ImageError, match=r"as JPEG, more than the 300 of InputPolicy\.max_memory"):
        read(bytes(picture))


def test_a2_a_request_has_totals():
    data = encoded("PNG", (10, 10))
    for limit, what in (
        ({"max_pictures": 2}, "2 pictures"),
        ({"max_total_bytes": len(data) * 5 // 2}, "bytes of pictures"),
        ({"max_total_pixels": 250}, "250 pixels"),
    ):
        policy = InputPolicy(**limit)
        totals = Totals(policy)
        for _ in range(2):
            read(data, policy=policy, totals=totals)
        with pytest.raises(ImageError, match=rf"one request has more than .*{what}"):
            read(data, policy=policy, totals=totals)
        read(data, policy=policy)  # alone it may


@pytest.mark.parametrize("source", ["array", "pil", "rgba"])
def test_a2_pictures_in_memory_count_too(source):
    array = np.zeros((10, 10, 4 if source == "rgba" else 3), np.uint8)
    given = Image.fromarray(array) if source == "pil" else array
    policy = InputPolicy(max_total_pixels=199)
    totals = Totals(policy)
    read(given, policy=policy, totals=totals)
    with pytest.raises(ImageError, match="max_total_pixels"):
        read(given, policy=policy, totals=totals)


def test_a2_an_mpo_is_its_first_picture():
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    data = encode(first, "MPO", save_all=True, append_images=[second])
    np.testing.assert_array_equal(read(data), read(encode(first, "JPEG")))
    huge = bytearray(data)  # the second one may claim what it likes: it is not read
    struct.pack_into(">HH", huge, huge.rindex(b"\xff\xc0") + 5, 65_500, 65_500)
    np.testing.assert_array_equal(read(bytes(huge)), read(data))


# ------------------------------------------------------ A4: what the person sees is what the model sees


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L", "1", "P", "LA", "PA", "RGBA", "RGBX", "LAB", "I;16"])
@pytest.mark.parametrize("value", range(1, 9))
def test_a4_large_pictures_are_converted_in_bands_to_the_same(mode, value, monkeypatch):
    """Whatever the mode and however it is turned: the same as in one piece."""
    image = Image.fromarray(NOISE).convert("L").convert("I;16") if mode == "I;16" else None
    image = image or Image.fromarray(NOISE).convert("L" if mode == "PA" else "RGB").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = value
    image.info["exif"] = exif.tobytes()
    if mode == "P":
        image.info["transparency"] = 5
    whole = read(image)
    monkeypatch.setattr(import_module("glmflash.media.read"), "_BAND", 40)
    np.testing.assert_array_equal(read(image), whole)
    assert whole.flags["C_CONTIGUOUS"]
    assert whole.shape == ((24, 32, 3) if value < 5 else (32, 24, 3))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Possibly corrupt", "ignore:Tag")  # Pillow's own
def test_a4_exif_of_any_kind_never_raises():
    ways = (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 90)
    for exif in ways:
        assert read(jpeg(segment(0xE1, exif))).shape == (8, 8, 3)
        assert read(webp(b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2))).shape == (
            8,
            8,
            3,
        )
        assert read(png(chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))).shape == (8, 8, 3)
    lines = chunk(b"tEXt", b"Raw profile type exif\0" + b"\n" * 2**20)
    assert read(png(lines)).shape == (8, 8, 3)


def damaged(kinds, pictures, cuts):
    """Of each: what is cut short and yet decodes to something else than the whole."""
    rng = np.random.default_rng(11)
    wrong = []
    for kind, options in kinds:
        for _ in range(pictures):
            size = tuple(int(side) for side in rng.integers(9, 120, 2))
            image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
            data = encode(image, kind, **options)
            whole = read(data)
            for cut in np.linspace(0, len(data) - 1, cuts).astype(int):
                try:
                    pixels = read(data[:cut])
                except ImageError:
                    continue
                if not np.array_equal(pixels, whole):
                    wrong.append((kind, size, len(data), cut))
    return wrong


KINDS = [
    ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"quality": 100, "subsampling": 0}),
    ("WEBP", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("GIF", {"interlace": 0}), ("BMP", {}),
    ("PNG", {"compress_level": 0}),
]  # fmt: skip


@pytest.mark.slow
def test_a4_fifty_pictures_cut_at_64_places_are_never_grey():
    assert damaged(KINDS, 5, 64) == []


def test_a4_an_animation_may_be_refused():
    frames = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    for kind in ("GIF", "PNG", "WEBP"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        read(data, policy=InputPolicy(max_frames=2))
        with pytest.raises(ImageError, match=r"more than 1 frames, which is InputPolicy\.max_frames"):
            read(data, policy=InputPolicy.strict())


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_a4_the_first_frame_costs_the_same_however_many_follow(kind, monkeypatch):
    """Frames behind the first are not decoded, and hardly looked at."""
    frames = [Image.fromarray(np.roll(NOISE, i, 1)) for i in range(40)]
    many = encode(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        **({"lossless": True} if kind == "WEBP" else {}),
    )
    seeks = []
    for plugin in (
        "GifImagePlugin.GifImageFile",
        "PngImagePlugin.PngImageFile",
        "WebPImagePlugin.WebPImageFile",
    ):
        monkeypatch.setattr(f"PIL.{plugin}.seek", lambda *_: seeks.append(1))
    first = read(many)
    assert not seeks
    if kind != "GIF":  # whose colours are few
        np.testing.assert_array_equal(first, NOISE)


# --------------------------------------------------------------------------------------- A5: odd dimensions


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])  # a GIF's first frame may have its own size
@pytest.mark.parametrize("size", [(0, 0), (0, 8), (8, 0)])
def test_a5_no_pixels_are_refused(kind, size):
    with pytest.raises(ImageError):
        read(sized(kind, *size))


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (3, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a5_thin_pictures_are_read(kind, size):
    assert read(encoded(kind, size)).shape == (size[1], size[0], 3)


def test_a5_an_aspect_may_be_refused_from_the_header(monkeypatch):
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(ImageError, match=r"100000 x 1 pixels, and so longer than 200 times"):
        read(sized("PNG", 100_000, 1), policy=InputPolicy.strict())


# ------------------------------------------------------------------------------- A6: what errors give away


def test_a6_messages_hold_no_address_and_no_payload():
    secret = b"SECRETPAYLOAD"
    for data in (
        secret, png(chunk(b"tEXt", b"k\0" + secret))[:70], jpeg(segment(0xFE, secret))[:400],
        gif(b"!\xfe\x0d" + secret + b"\0")[:200], b"\x89PNG\r\n\x1a\n" + secret * 9, b"BM" + secret * 9,
        b"\xff\xd8\xff" + secret * 9, b"RIFF\0\0\0\0WEBP" + secret * 9, b"II*\0" + secret * 9,
    ):  # fmt: skip
        for source in (data, io.BytesIO(data), DataUrl("data:;base64," + base64.b64encode(data).decode())):
            with pytest.raises(ImageError) as caught:
                read(source, policy=EVERY_FORMAT)
            text = str(caught.value)
            assert "SECRET" not in text
            assert not re.search(r"0x[0-9a-f]{6,}", text)
            assert len(text) <= 500
            assert caught.value.__context__ is caught.value.__cause__ is None


# ---------------------------------------------------------------------------- A7: a string is never guessed


@pytest.mark.parametrize(
    "text",
    ["/etc/passwd", "file:///etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc/self/mem",
     "~", "~/picture.png", r"\\host\share\a.png", "//host/share/a.png", "/", ".",
     "data:image/png;base64,iVBORw0KGgo=", "iVBORw0KGgo=", "https://example.org/a.png", "a\0b", "x" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("policy", [InputPolicy(), InputPolicy.strict(), InputPolicy(folders=("/srv/none",))])
def test_a7_strings_that_are_no_picture_are_refused_at_once(text, policy):
    began = time.perf_counter()
    with pytest.raises(ImageError):
        read(text, policy=policy)
    assert time.perf_counter() - began < 0.1


def test_a7_paths_stay_in_their_folders(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside, tmp_path / "inside-not"):
        folder.mkdir()
        (folder / "a.png").write_bytes(encoded("PNG"))
    (inside / "link.png").symlink_to(outside / "a.png")
    (inside / "folder").symlink_to(outside)
    (inside / "own.png").symlink_to(inside / "a.png")
    (inside / "circle").symlink_to(inside / "circle")
    os.mkfifo(inside / "fifo")
    policy = InputPolicy(folders=(inside,))
    for name in ("a.png", "own.png", "../inside/a.png"):
        assert read(inside / name, policy=policy).shape == (8, 8, 3)
        assert read(str(inside / name), policy=policy).shape == (8, 8, 3)
    refused = (
        "link.png",
        "folder/a.png",
        "../outside/a.png",
        "../inside-not/a.png",
        "../nothing",
        "/etc/passwd",
    )
    for name in refused:
        with pytest.raises(ImageError, match=r"lies in no folder that InputPolicy\.folders allows"):
            read(inside / name, policy=policy)
    for name in ("fifo", "circle", ""):
        with pytest.raises(ImageError):
            read(inside / name, policy=policy)
    with pytest.raises(ImageError, match="no folder"):
        read(inside / "a.png", policy=InputPolicy.strict())
    assert read((inside / "a.png").read_bytes(), policy=InputPolicy.strict()).shape == (8, 8, 3)


def test_a7_a_file_swapped_while_it_is_opened_is_refused(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded("PNG"))
    (tmp_path / "secret.png").write_bytes(encoded("PNG"))
    real = os.open

    def swapped(path, *rest, **more):
        place = tmp_path / "in" / "a.png"
        place.unlink()
        place.symlink_to(tmp_path / "secret.png")
        return real(path, *rest, **more)

    monkeypatch.setattr("os.open", swapped)
    with pytest.raises(ImageError, match="was moved while it was opened"):
        read(tmp_path / "in" / "a.png", policy=InputPolicy(folders=(tmp_path / "in",)))


def test_a7_folders_hold_for_clips_and_stay_where_they_were(tmp_path, monkeypatch):
    from glmflash.media import Clip, open_clip

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.gif").write_bytes(encoded("GIF"))
    policy = InputPolicy(folders=[Path()])
    assert policy.folders == (str(tmp_path),)
    monkeypatch.chdir("/")
    open_clip(Clip(tmp_path / "a.gif"), policy=policy)
    with pytest.raises(ImageError, match="no folder"):
        open_clip(Clip(tmp_path / "a.gif"), policy=InputPolicy.strict())


# --------------------------------------------------------------------------------------------- the host


def test_what_the_host_has_set_stays_and_does_not_matter(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        read(encoded(kind))
        with pytest.raises(ImageError):
            read(encoded(kind)[:60])
    assert Image.MAX_IMAGE_PIXELS is None
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_presets_are_policies_like_any_other():
    strict = replace(InputPolicy.strict(), max_bytes=4 * 2**20)
    assert (strict.max_frames, strict.folders, strict.urls) == (1, (), None)
    assert InputPolicy.strict().max_bytes == 2 * 2**20
    assert "TIFF" in InputPolicy.trusted().formats
    tall = np.zeros((1, 300, 3), np.uint8)
    read(tall)
    with pytest.raises(ImageError, match="max_aspect"):
        read(tall, policy=strict)


def test_a2_a_data_url_of_short_lines_takes_no_more_memory_than_one_of_long_lines():
    payload = "AA\n" * 500_000
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="found no known format"):
            read(DataUrl("data:image/png;base64," + payload))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(payload)  # a string for each line would take 25 times as much


@pytest.mark.parametrize("tag", [None, 6])
def test_a4_a_tiff_is_turned_once_wherever_it_says_so(tag):
    stored = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    tags = {700: b'<x tiff:Orientation="6"/>'} | ({} if tag is None else {274: tag})
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "TIFF", tiffinfo=tags)
    turned = np.repeat(np.rot90(stored, -1)[:, :, None], 3, axis=2)
    policy = InputPolicy.trusted()
    np.testing.assert_array_equal(read(file.getvalue(), policy=policy), turned)
    np.testing.assert_array_equal(read(Image.open(file), policy=policy), turned)


def test_a4_a_png_may_say_behind_its_pixels_how_it_stands():
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes([0, 10, 20, 30])))
    said = chunk(b"eXIf", exif)
    for before, after in (([said], []), ([], [said])):
        data = png(*before, size=(3, 1), data=pixels, after=after)
        assert read(data)[:, 0, 0].tolist() == [10, 20, 30]
