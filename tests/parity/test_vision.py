"""Patches → vision tokens, stage by stage, beside transformers."""

import pytest
import torch
from parity_hooks import CLOSE, inputs_of, outputs_of
from torch.testing import assert_close

from glmflash.shapes import Grid

pytestmark = pytest.mark.parity


def reference_pass(pair, chat):
    pixels = chat.reference.get("pixel_values", chat.reference.get("pixel_values_videos"))
    grids = [[1, grid.h, grid.w] for grid in chat.grids for _ in range(grid.t)]
    return pair.reference.model.visual(pixels, torch.tensor(grids)).pooler_output


def test_patch_embedding_norm_and_positions(pair, chat):
    visual = pair.reference.model.visual
    (expected,) = inputs_of([visual.blocks[0]], lambda: reference_pass(pair, chat))
    assert_close(pair.ours.model.visual.embed(chat.rows, chat.grids), expected, **CLOSE)


def test_each_block(pair, chat):
    theirs = outputs_of(pair.reference.model.visual.blocks, lambda: reference_pass(pair, chat))
    ours = outputs_of(pair.ours.model.visual.blocks, lambda: pair.ours.encode_images(chat.rows, chat.grids))
    assert len(ours) == len(theirs) == pair.config.vision.depth
    for index, (mine, expected) in enumerate(zip(ours, theirs, strict=True)):
        # The residual stream grows with depth, and with it the rounding that processors differ in.
        close = CLOSE | {"atol": CLOSE["atol"] * max(1.0, expected.abs().max().item())}
        assert_close(mine, expected, **close, msg=lambda text, i=index: f"block {i}: {text}")


def test_last_norm(pair, chat):
    (expected,) = outputs_of([pair.reference.model.visual.post_layernorm], lambda: reference_pass(pair, chat))
    visual = pair.ours.model.visual
    assert_close(visual.encode(visual.embed(chat.rows, chat.grids), chat.grids), expected, **CLOSE)


def test_vision_tokens(pair, chat):
    with torch.no_grad():
        expected = reference_pass(pair, chat)
    tokens = pair.ours.encode_images(chat.rows, chat.grids)
    assert [len(part) for part in tokens] == [
        grid.num_tokens(pair.config.vision.spatial_merge_size) for grid in chat.grids
    ]
    assert_close(torch.cat(tokens), expected, **CLOSE)


def test_stills_with_the_whole_kernel(pair, two_pictures):
    chat = two_pictures(pair)
    with torch.no_grad():
        expected = reference_pass(pair, chat)
    whole = torch.cat(pair.ours.encode_images(chat.reference["pixel_values"], chat.grids))
    assert_close(whole, expected, **CLOSE)


@pytest.mark.parametrize(
    "shapes",
    [
        [Grid(1, 2, 2)],
        [Grid(1, 2, 100)],
        [Grid(1, 100, 2), Grid(1, 2, 2), Grid(1, 2, 2)],
        [Grid(1, 24, 24)],
        [Grid(1, 48, 36), Grid(1, 34, 46)],
        [Grid(1, 8, 8)] * 5,
    ],
)
@pytest.mark.parametrize("name", ["flash-like", "glm-ocr"])
def test_shapes(pair_of, make_prompt, name, shapes):
    pair = pair_of(name)
    chat = make_prompt(shapes, pair, clip=False)
    with torch.no_grad():
        expected = reference_pass(pair, chat)
    assert_close(torch.cat(pair.ours.encode_images(chat.rows, chat.grids)), expected, **CLOSE)
