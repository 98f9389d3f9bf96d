"""D1, identity of pictures: two that differ never share a key; what is not seen of them never makes one."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, PngImagePlugin

from glmflash.config import PreprocessorConfig
from glmflash.media import read
from glmflash.media.pixels import digest

CONFIG = PreprocessorConfig(12544, 9633792, 14, 2, 2, (0.5,) * 3, (0.5,) * 3, "Glm46V")
NOISE = np.random.default_rng(9).integers(0, 256, (24, 36, 3), np.uint8)


def key(source) -> str:
    return digest(read(source), CONFIG)


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def palette(colours: list[int], transparent: int | None = None) -> bytes:
    image = Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12) % 4, "L").convert("P")
    image.putpalette(colours + [0] * (768 - len(colours)))
    return encode(image, **({} if transparent is None else {"transparency": transparent}))


def grey(mode: str, value: int) -> Image.Image:
    return Image.new(mode, (12, 12), value)


FLAT = NOISE.reshape(-1)
COLOURS = [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]
PAIRS = {
    "transposed shape": (FLAT.reshape(24, 36, 3), FLAT.reshape(36, 24, 3)),
    "same bytes, wider": (FLAT.reshape(24, 36, 3), FLAT.reshape(12, 72, 3)),
    "transposed picture": (NOISE, NOISE.transpose(1, 0, 2)),
    "rows swapped": (NOISE, NOISE[::-1]),
    "channels swapped": (NOISE, NOISE[:, :, ::-1]),
    "one bit": (
        NOISE,
        NOISE ^ np.eye(24, 36, dtype=np.uint8)[:, :, None] * (np.arange(3) == 2).astype(np.uint8),
    ),
    "palettes": (palette(COLOURS), palette(COLOURS[::-1])),
    "transparent entries": (palette(COLOURS), palette(COLOURS, transparent=0)),
    "mode 1 and L": (grey("1", 1), grey("L", 1)),
    "L and I;16": (grey("L", 7), grey("I;16", 7)),
    "alpha": (np.dstack([NOISE, NOISE[:, :, 0]]), np.dstack([NOISE, 255 - NOISE[:, :, 0]])),
    "CMYK and RGBA": (Image.new("CMYK", (12, 12), (9, 0, 0, 0)), Image.new("RGBA", (12, 12), (9, 0, 0, 0))),
    "padded": (NOISE, np.pad(NOISE, ((0, 0), (0, 1), (0, 0)))),
    "a black row": (np.zeros((24, 36, 3), np.uint8), np.zeros((25, 36, 3), np.uint8)),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_d1_pictures_that_differ_have_different_keys(one, other):
    assert key(one) != key(other)


def test_d1_a_key_is_of_what_is_seen_and_never_of_what_a_file_says():
    exif = Image.Exif()
    exif[0xA420] = "0123456789abcdef0123456789abcdef"  # ImageUniqueID
    same_id = [encode(Image.fromarray(pixels), exif=exif) for pixels in (NOISE, NOISE[::-1])]
    assert key(same_id[0]) != key(same_id[1])
    text = PngImagePlugin.PngInfo()
    text.add_text("id", "other")
    ways = (encode(Image.fromarray(NOISE), pnginfo=text), encode(Image.fromarray(NOISE), compress_level=1))
    assert {key(way) for way in (*ways, same_id[0], NOISE, Image.fromarray(NOISE))} == {key(NOISE)}
    assert len(key(NOISE)) == 64


pictures = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)), elements=st.integers(0, 3)
)


@pytest.mark.property
@given(pictures, pictures)
def test_d1_keys_are_equal_only_if_pictures_are(one, other):
    assert (digest(one, CONFIG) == digest(other, CONFIG)) == (
        one.shape == other.shape and (one == other).all()
    )


def test_d1_ten_thousand_small_pictures_have_as_many_keys():
    rng = np.random.default_rng(1)
    keys: dict[str, tuple] = {}
    for _ in range(10_000):
        shape = (*(int(side) for side in rng.integers(1, 5, 2)), 3)
        pixels = rng.integers(0, 2, shape, np.uint8)
        seen = (shape, pixels.tobytes())
        assert keys.setdefault(digest(pixels, CONFIG), seen) == seen
    assert len(set(keys.values())) == len(keys) > 1000


@pytest.mark.slow
def test_d1_no_two_pictures_of_the_corpus_share_a_key(test_data):
    import warnings

    keys: dict[str, bytes] = {}
    for path in sorted((test_data / "data" / "hostile").iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = read(path)
                name = digest(pixels, CONFIG, size=(28, 28))
            except ValueError:
                continue
        seen = repr(pixels.shape).encode() + pixels.tobytes()
        assert keys.setdefault(name, seen) == seen
    assert len(keys) > 50
