"""Patch rows and grids against the reference processors of transformers."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from preprocessors import FLASH
from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil, smart_resize

from glmflash.media.patches import clip, still
from glmflash.media.pixels import resize

pytestmark = pytest.mark.parity

RNG = np.random.default_rng(11)
SIZES = [
    (20, 20), (1, 1), (1, 200), (14, 700), (28, 5600), (5600, 28), (27, 29), (70, 98), (84, 84), (112, 112),
    (480, 640), *((int(h), int(w)) for h, w in RNG.integers(1, 700, (25, 2)) if max(h, w) < 200 * min(h, w)),
]  # fmt: skip


def noise(height, width):
    """Coarse and fine structure, with hard edges, where filters differ most."""
    coarse = (
        RNG.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3)).repeat(9, 0).repeat(9, 1)[:height, :width]
    )
    return np.where(
        RNG.random((height, width, 1)) < 0.5, coarse, RNG.integers(0, 256, (height, width, 3))
    ).astype(np.uint8)


def reference(config):
    return Glm46VImageProcessorPil(
        size={"shortest_edge": config.min_pixels, "longest_edge": config.max_pixels},
        patch_size=config.patch_size,
        temporal_patch_size=config.temporal_patch_size,
        merge_size=config.merge_size,
        image_mean=list(config.image_mean),
        image_std=list(config.image_std),
    )


def assert_equal(pixels, config):
    theirs = reference(config)(Image.fromarray(pixels), return_tensors="pt")
    ours = still(pixels, config)
    assert [ours.grid.t, ours.grid.h, ours.grid.w] == theirs["image_grid_thw"][0].tolist()
    columns = ours.rows.view(-1, 3, 1, config.patch_size**2)
    rows = columns.expand(-1, -1, config.temporal_patch_size, -1).flatten(1)
    assert torch.equal(rows, theirs["pixel_values"])  # to the last bit


@pytest.mark.parametrize("size", SIZES)
def test_stills(size):
    assert_equal(noise(*size), FLASH)


@pytest.mark.parametrize("longest", [12_544, 50_000, 200_000, 500_000])
@pytest.mark.parametrize("size", [(300, 400), (1500, 900), (60, 4000), (777, 333)])
def test_pictures_made_smaller(size, longest):
    assert_equal(noise(*size), dataclasses.replace(FLASH, max_pixels=longest))


@pytest.mark.parametrize(
    ("patch", "merge", "temporal"), [(14, 1, 2), (8, 2, 2), (7, 3, 2), (16, 2, 1), (14, 2, 3)]
)
def test_other_checkpoints(patch, merge, temporal):
    config = dataclasses.replace(
        FLASH, patch_size=patch, merge_size=merge, temporal_patch_size=temporal, image_mean=(0.5, 0.1, 0.9)
    )
    assert_equal(noise(123, 217), config)


def test_every_level_of_every_channel():
    levels = np.arange(256, dtype=np.uint8).repeat(49).reshape(112, 112)
    assert_equal(np.stack([levels, levels[::-1], levels.T], axis=2), FLASH)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_clips(count):
    """The reference reads clips with torchvision only; its sizes are asked for, its layout is written out."""
    frames = [noise(90, 130) for _ in range(count)]
    ours = clip(frames, FLASH)
    height, width = smart_resize(count, 90, 130, min_pixels=FLASH.min_pixels, max_pixels=FLASH.max_pixels)
    film = torch.tensor(np.stack([resize(frame, height, width) for frame in frames]))
    film = torch.cat([film, film[-1:].expand(count % 2, -1, -1, -1)])
    mean, std = (torch.tensor(value) for value in (FLASH.image_mean, FLASH.image_std))
    film = ((film - 255 * mean) / (255 * std)).permute(0, 3, 1, 2)  # in one step, as in the reference
    t, h, w = len(film) // 2, height // 14, width // 14
    assert [(pair.grid.t, pair.grid.h, pair.grid.w) for pair in ours] == [(1, h, w)] * t
    split = film.reshape(t, 2, 3, h // 2, 2, 14, w // 2, 2, 14)
    rows = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, 1176)
    torch.testing.assert_close(torch.cat([pair.rows for pair in ours]), rows, atol=1e-6, rtol=1e-6)
