"""The structure of a picture: any bytes get a verdict, and never a size that decoding contradicts."""

import io
import warnings

import pytest
from hostile_pictures import FLOODS, encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glmflash import InputPolicy
from glmflash.errors import ImageError
from glmflash.media import read
from glmflash.media.scan import Outline, format_of, scan

pytestmark = pytest.mark.property

FORMATS = InputPolicy.trusted().formats
STARTS = {
    "PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF\0\0\0\0WEBP", "GIF": b"GIF89a",
    "BMP": b"BM", "TIFF": b"II*\0",
}  # fmt: skip
VALID = {
    "PNG": [encoded("PNG"), encoded("PNG", (40, 3))],
    "JPEG": [encoded("JPEG"), encoded("JPEG", (40, 30), progressive=True)],
    "WEBP": [encoded("WEBP"), encoded("WEBP", lossless=True)],
    "GIF": [encoded("GIF"), encoded("GIF", (40, 3))],
    "BMP": [encoded("BMP")],
    "TIFF": [encoded("TIFF"), encoded("TIFF", compression="tiff_lzw")],
}
for _make, _ in FLOODS.values():
    _data = _make(200)
    if (_form := format_of(_data)) is not None:
        VALID[_form].append(_data)
EDITS = st.lists(st.tuples(st.integers(0, 2**16), st.binary(max_size=6), st.integers(0, 8)), max_size=6)


@st.composite
def mutated(draw):
    form = draw(st.sampled_from(FORMATS))
    data = draw(st.sampled_from(VALID[form]))
    for at, new, gone in draw(EDITS):
        at %= len(data) + 1
        data = data[:at] + new + data[at + gone :]
    return form, data


def verdict(data, form, frames):
    try:
        return scan(data, form, frames=frames)
    except ImageError:
        return None


@given(st.sampled_from(FORMATS), st.binary(max_size=400), st.sampled_from([None, 1, 3]))
def test_any_bytes_get_a_verdict(form, rest, frames):
    for data in (STARTS[form] + rest, rest):
        outline = verdict(data, form, frames)
        assert outline is None or isinstance(outline, Outline)


@given(mutated(), st.sampled_from([None, 1, 3]))
def test_mutated_pictures_get_a_verdict(case, frames):
    form, data = case
    verdict(data, form, frames)


@given(mutated())
def test_what_decodes_is_no_larger_than_was_said(case):
    """Pillow never finds a picture that is larger than the outline that was judged."""
    form, data = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=(form,)) as image:
                width, height = image.size
                image.load()
        except Exception:  # noqa: BLE001 - Pillow raises nearly every kind
            return
    outline = verdict(data, form, None)
    if outline is not None:
        assert outline.width >= width
        assert outline.height >= height


@given(mutated())
def test_mutated_pictures_decode_or_are_typed(case):
    _, data = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = read(data, policy=InputPolicy(formats=FORMATS, max_pixels=200_000))
        except ImageError:
            return
    assert pixels.shape[2] == 3
