"""Clips against transformers: frames, patches, ids and positions; vision tokens, logits, greedy answers."""

import json
import math
import random

import pytest
import torch
from films import frames
from parity_chain import STAGES
from parity_clips import ClipChain, processed, sampled
from preprocessors import FLASH

from glmflash import Clip
from glmflash.engine.clips import read_clip
from glmflash.media import InputPolicy
from glmflash.media.frames import Timeline, choose
from glmflash.testing import random_checkpoint

pytestmark = pytest.mark.parity

CHANCE = random.Random(5)
RATES = [
    1.0,
    2.0,
    5.0,
    7.5,
    10.0,
    12.0,
    15.0,
    24000 / 1001,
    24.0,
    25.0,
    30000 / 1001,
    30.0,
    50.0,
    60.0,
    120.0,
]
FILMS = [
    *((count, rate) for rate in RATES for count in (7, 90, 181, 900, 901, 1803, 9000, 9001, 20000)),
    *((CHANCE.randint(7, 30000), CHANCE.choice(RATES)) for _ in range(150)),
    *((CHANCE.randint(200, 9000), CHANCE.uniform(0.3, 130)) for _ in range(150)),
]


@pytest.mark.parametrize("family", ["Glm46V", "Glm4v"])
def test_the_same_frames_are_chosen(family):
    compared = 0
    for count, rate in FILMS:
        if family == "Glm46V" and math.floor(count / rate * 6) < 1:
            continue  # the reference takes none, and fails
        assert list(choose(Timeline(count, rate), family=family)) == sampled(family, count, rate), (
            count,
            rate,
        )
        compared += 1
    assert compared > 400


@pytest.mark.parametrize(("count", "rate"), [(6, 2.0), (7, 2.0), (24, 8.0), (40, 30.0), (100, 1.0)])
def test_the_same_patches(count, rate):
    film = frames(count, 90, 130)
    ours, theirs = read_clip(Clip(film, fps=rate), FLASH, InputPolicy()), processed(film, rate, FLASH)
    grids = [(group.grid.t, group.grid.h, group.grid.w) for group in ours.groups]
    assert grids == [(1, *theirs["grid"][1:])] * theirs["grid"][0]
    rows = torch.cat([group.rows for group in ours.groups])
    torch.testing.assert_close(rows, theirs["rows"], atol=1e-6, rtol=1e-6)


def ask(*clips, words=("First look: ", "then ", "what happens? 发生了什么?")):
    parts = [{"type": "text", "text": words[0]}]
    for film, rate in clips:
        parts += [{"type": "video", "video": Clip(film, fps=rate)}, {"type": "text", "text": words[1]}]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": words[2]}]}]


ONE, TWO = (frames(10, 60, 90, seed=1), 2.0), (frames(45, 84, 56, seed=2), 15.0)
CHATS = {"one": [ONE], "two of unequal grids": [ONE, TWO], "an odd number of frames": [(ONE[0][:5], 1.0)]}


@pytest.fixture(
    scope="module", params=[(chat, family) for chat in CHATS for family in ("Glm46V", "Glm4v")], ids=str
)
def chain(request, tmp_path_factory):
    chat, family = request.param
    folder = random_checkpoint(tmp_path_factory.mktemp("clips") / "nano", "nano", seed=7)
    file = folder / "video_preprocessor_config.json"
    data = json.loads(file.read_text()) | {"video_processor_type": f"{family}VideoProcessor"}
    file.write_text(json.dumps(data))
    return ClipChain(folder, ask(*CHATS[chat]), CHATS[chat])


def patches(chain):
    rows = torch.cat([group.rows for group in chain.inputs.pictures])
    torch.testing.assert_close(rows, chain.pictures["pixel_values_videos"], atol=1e-6, rtol=1e-6)
    assert len(chain.inputs.pictures) == chain.pictures["video_grid_thw"][:, 0].sum()


@pytest.mark.parametrize("stage", STAGES)
def test_stage(chain, stage):
    ({"patches": patches} | {name: one for name, one in STAGES.items() if name != "patches"})[stage](chain)
