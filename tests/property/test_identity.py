"""The digest of a picture: equal if and only if pixels, shape, size and preprocessing are."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preprocessors import FLASH

from glmflash import InputPolicy
from glmflash.media import read
from glmflash.media.pixels import digest

pytestmark = pytest.mark.property


@st.composite
def pictures(draw):
    """Small ones of few values, so that two of them are often equal."""
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    values = draw(st.lists(st.sampled_from([0, 1, 255]), min_size=3, max_size=3))
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = values
    for _ in range(draw(st.integers(0, 1))):
        pixels[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1)), 0] ^= 1
    return pixels


SIZES = st.sampled_from([(28, 28), (28, 56), (56, 28)])
WAYS = st.sampled_from(
    [
        FLASH,
        dataclasses.replace(FLASH, image_mean=(0.5, 0.5, 0.5)),
        dataclasses.replace(FLASH, image_std=(0.5, 0.5, 0.5)),
        dataclasses.replace(FLASH, patch_size=7),
    ]
)


def name(pixels, size, way):
    return pixels.shape, pixels.tobytes(), size, way


PAIRS = given(pictures(), pictures(), SIZES, SIZES, WAYS, WAYS)


def equal_exactly_if_all_that_counts_is_equal(one, other, size, other_size, way, other_way):
    same = digest(one, way, size=size) == digest(other, other_way, size=other_size)
    assert same == (name(one, size, way) == name(other, other_size, other_way))


def test_the_same_bytes_in_another_shape():
    wide, high = np.zeros((1, 2, 3), np.uint8), np.zeros((2, 1, 3), np.uint8)
    equal_exactly_if_all_that_counts_is_equal(wide, high, (28, 28), (28, 28), FLASH, FLASH)


def test_pairs_of_pictures():
    settings(max_examples=300)(PAIRS(equal_exactly_if_all_that_counts_is_equal))()


@pytest.mark.soak
def test_ten_thousand_pairs_of_pictures():
    settings(max_examples=10_000)(PAIRS(equal_exactly_if_all_that_counts_is_equal))()


@given(pictures(), st.lists(pictures(), min_size=1, max_size=3))
def test_a_clip_is_no_still_and_frames_count(one, frames):
    frames = [frame for frame in frames if frame.shape == frames[0].shape]
    clip = digest(frames, FLASH, size=(28, 28))
    assert clip != digest(one, FLASH, size=(28, 28))
    assert clip != digest([*frames, frames[-1]], FLASH, size=(28, 28))


@given(pictures(), st.sampled_from(["strides", "floats", "half", "first", "fortran"]))
def test_the_way_pixels_come_in_does_not_count(pixels, door):
    given_as = {
        "strides": np.repeat(pixels, 2, axis=1)[:, ::2],
        "floats": pixels / 255,
        "half": (pixels / 255).astype(np.float16),
        "first": pixels if 3 in pixels.shape[:2] or 1 in pixels.shape[:2] else pixels.transpose(2, 0, 1),
        "fortran": np.asfortranarray(pixels),
    }[door]
    came = read(given_as, policy=InputPolicy())
    assert digest(came, FLASH, size=(28, 28)) == digest(pixels, FLASH, size=(28, 28))
