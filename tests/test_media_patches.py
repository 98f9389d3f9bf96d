"""Pixels → patch rows, against the formula of the layout written out plainly."""

import dataclasses

import numpy as np
import pytest
import torch
from preprocessors import FLASH

from glmflash.errors import ImageError
from glmflash.media.patches import ClipPatches, clip, still
from glmflash.media.pixels import resize
from glmflash.shapes import Grid


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_formula(frames, config):
    """Rows by nested loops over t, bh, bw, mh, mw; columns by ((c * T + tau) * P + y) * P + x."""
    patch, merge, pair = config.patch_size, config.merge_size, config.temporal_patch_size
    mean, std = np.array(config.image_mean), np.array(config.image_std)
    film = np.stack([(frame / 255 - mean) / std for frame in frames])  # (T, H, W, C)
    rows = []
    for t in range(0, len(film), pair):
        for top in range(0, film.shape[1], merge * patch):
            for left in range(0, film.shape[2], merge * patch):
                for y in range(top, top + merge * patch, patch):
                    for x in range(left, left + merge * patch, patch):
                        cut = film[t : t + pair, y : y + patch, x : x + patch]
                        rows.append(cut.transpose(3, 0, 1, 2).ravel())
    return np.stack(rows)


@pytest.mark.parametrize("size", [(84, 140), (20, 20), (100, 300), (31, 57)])
@pytest.mark.parametrize(("patch", "merge"), [(14, 2), (8, 1), (7, 3)])
def test_a_still_is_one_frame_of_each_pair(size, patch, merge):
    config = dataclasses.replace(FLASH, patch_size=patch, merge_size=merge)
    pixels = noise(*size)
    patches = still(pixels, config)
    resized = resize(pixels, patches.grid.h * patch, patches.grid.w * patch)
    single = dataclasses.replace(config, temporal_patch_size=1)
    assert patches.rows.dtype == torch.float32
    assert patches.rows.is_contiguous()
    assert patches.rows.shape == (patches.grid.num_patches, 3 * patch**2)
    np.testing.assert_allclose(patches.rows, by_formula([resized], single), atol=1e-6)
    assert patches.size == (size[1], size[0])


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_a_clip_is_pairs_of_frames(count):
    frames = [noise(60, 90, seed) for seed in range(count)]
    pairs = clip(frames, FLASH)
    (grid,) = {pair.grid for pair in pairs}
    resized = [resize(frame, grid.h * 14, grid.w * 14) for frame in frames]
    resized += resized[-1:] * (count % 2)
    assert len(pairs) == (count + 1) // 2
    assert all(pair.rows.shape == (grid.num_patches, 1176) for pair in pairs)
    np.testing.assert_allclose(
        torch.cat([pair.rows for pair in pairs]), by_formula(resized, FLASH), atol=1e-6
    )
    assert {pair.size for pair in pairs} == {(90, 60)}


def test_frames_that_come_one_by_one_need_their_number_for_the_size():
    frames = [noise(600, 900, seed) for seed in range(40)]
    listed = clip(frames, FLASH)
    streamed = clip(iter(frames), FLASH, count=40)
    assert [pair.digest for pair in listed] == [pair.digest for pair in streamed]
    assert clip(frames[:2], FLASH)[0].grid.h > listed[0].grid.h


def test_a_group_is_named_by_what_is_seen_and_by_nothing_else():
    one, two, three = (noise(56, 56, seed) for seed in range(3))
    first, again = clip([one, two, two, three], FLASH), clip([three, three, one, two], FLASH)
    assert first[0].digest == again[1].digest
    assert len({pair.digest for pair in (*first, *again)}) == 3
    assert clip([two, one], FLASH)[0].digest != first[0].digest
    told = [ClipPatches(first, stamps).digest for stamps in (("0", "1"), ("0", "2"))]
    assert told[0] != told[1]


def test_a_still_and_a_clip_of_it_agree_but_are_named_apart():
    pixels = noise(50, 70)
    one, (two,) = still(pixels, FLASH), clip([pixels, pixels], FLASH)
    pairs = two.rows.view(-1, 3, 2, 196)
    assert torch.equal(pairs[:, :, 0], one.rows.view(-1, 3, 196))
    assert torch.equal(pairs[:, :, 0], pairs[:, :, 1])
    assert one.grid == two.grid
    assert one.digest != two.digest


def test_a_token_limit_trades_detail():
    whole, less = still(noise(300, 400), FLASH), still(noise(300, 400), FLASH, max_image_tokens=30)
    assert whole.grid == Grid(1, 22, 28)
    assert less.grid == Grid(1, 10, 12)
    assert less.grid.num_tokens(2) == 30
    assert less.digest != whole.digest
    short = clip([noise(300, 400)] * 4, FLASH, max_image_tokens=30)
    assert [pair.grid for pair in short] == [Grid(1, 10, 12)] * 2


def test_neither_torchs_defaults_nor_the_callers_pixels_matter():
    pixels = noise(28, 448)
    pixels.flags.writeable = False
    expected = still(pixels, FLASH).rows
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            rows = still(pixels, FLASH).rows
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(rows, expected)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((28, 28), np.uint8),
        np.zeros((28, 28, 4), np.uint8),
        np.zeros((28, 28, 3), np.float32),
        np.zeros((0, 28, 3), np.uint8),
        None,
    ],
)
def test_what_is_not_pixels_is_refused(pixels):
    with pytest.raises(ImageError, match="pixels are"):
        still(pixels, FLASH)
    with pytest.raises(ImageError, match="pixels are"):
        clip([pixels], FLASH)


def test_a_clip_needs_frames_of_one_size():
    with pytest.raises(ImageError, match="no frames"):
        clip([], FLASH)
    with pytest.raises(ImageError, match="one size"):
        clip([noise(28, 28), noise(28, 56)], FLASH)
