"""A checkpoint's folder → copies of it that are changed or damaged, for the tests of INT8 checkpoints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glmflash.model import Glm4v
from glmflash.quant import card

WEIGHTS, MANIFEST = "model.safetensors", "quantization.json"


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return {
        name: tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def foreign(
    saved: Path, folder: Path, change: Callable[[dict[str, Tensor]], object] = lambda t: None
) -> Path:
    """What another program would have written: no manifest."""
    shutil.copytree(saved, folder, dirs_exist_ok=True)
    (folder / MANIFEST).unlink()
    tensors = tensors_of(saved)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    edit_config(folder, lambda config: config.pop("quantization_manifest"))
    return folder


def edit_config(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def assert_same(one: Glm4v, other: Glm4v) -> None:
    """Bit for bit: INT8 weights, scales, everything else, and the card."""
    mine, others = one.state_dict(), other.state_dict()
    assert mine.keys() == others.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == others[name].dtype, name
        assert torch.equal(tensor, others[name]), name
    assert card(one) == card(other)
