"""Temporaries of a forward: the plan's sums beside what the network's own code has alive."""

import inspect

import pytest
import torch
from live_memory import network, picture_peak, prompt_peak

from glmflash.config import ModelConfig
from glmflash.ops.int8 import by_levels, cuda
from glmflash.plan.steps import TILES, Sizes
from glmflash.testing import config_dict


def test_tiles_are_those_of_the_kernels() -> None:
    assert inspect.signature(by_levels).parameters["tile"].default == TILES["cpu"]
    assert TILES["cuda"] == cuda._TILE


@pytest.mark.slow  # PyTorch imports its compiler for the meta device
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", ["flash", "ocr", "nano"])
def test_sums_are_what_is_alive(size: str, dtype: torch.dtype, int8: bool) -> None:
    config = ModelConfig.from_dict(config_dict(size))
    model = network(config, dtype, int8=int8)
    sizes = Sizes(itemsize=dtype.itemsize, int8=int8, tile=TILES["cpu"])
    for options in (
        {"tokens": 512, "context": 512},
        {"tokens": 512, "context": 4096},
        {"tokens": 512, "context": 2048, "batch": 4, "int8_kv": True},
    ):
        alive = prompt_peak(model, **options)  # type: ignore[arg-type]
        assert sizes.prompt(config.text, **options) == pytest.approx(alive, rel=0.02)  # type: ignore[arg-type]
    alive = prompt_peak(model, 64, context=64, batch=16)  # where scores of the vocabulary are the most
    assert sizes.prompt(config.text, 64, context=64, batch=16) == pytest.approx(alive, rel=0.13)
    assert sizes.picture(config.vision, 1024) == pytest.approx(picture_peak(model, 1024), rel=0.02)
    assert sizes.picture(config.vision, 64) == pytest.approx(picture_peak(model, 64), rel=0.1)
