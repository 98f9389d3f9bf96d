"""Another checkpoint, dtype or layout gives another fingerprint; the same one never does."""

import copy
import time

import pytest
import torch
from torch import nn

from glmflash.model import Glm4v
from glmflash.weights import load_model
from glmflash.weights.fingerprint import fingerprint


class Holder(nn.Module):
    """Any one tensor, as a buffer."""

    def __init__(self, tensor: torch.Tensor, *, name: str = "tensor", persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer(name, tensor, persistent=persistent)


def test_a_model_loaded_twice_is_one(nano_model: Glm4v, nano_checkpoint) -> None:
    name = fingerprint(nano_model)
    assert len(name) == 32
    assert int(name, 16) > 0
    assert fingerprint(load_model(nano_checkpoint, device="cpu")) == name


def test_another_dtype_is_another_model(nano_model: Glm4v, nano_checkpoint) -> None:
    half = load_model(nano_checkpoint, dtype="bfloat16", device="cpu")
    assert fingerprint(half) != fingerprint(nano_model)
    assert fingerprint(half.float()) != fingerprint(nano_model)  # rounded for good


def test_any_training_shows(nano_model: Glm4v) -> None:
    trained = copy.deepcopy(nano_model)
    for name, weight in trained.named_parameters():
        before = fingerprint(trained)
        with torch.no_grad():
            weight.mul_(1.001)
        assert fingerprint(trained) != before, name


def test_settings_count(nano_model: Glm4v) -> None:
    names = {fingerprint(nano_model, *settings) for settings in [(), (1,), ("1",), (1, 2), ("1|2",)]}
    assert len(names) == 5


def test_names_shapes_and_buffers_count() -> None:
    tensor = torch.arange(6.0)
    holders = [
        Holder(tensor),
        Holder(tensor, name="other"),
        Holder(tensor.view(2, 3)),
        Holder(tensor.view(3, 2)),
        Holder(tensor.int()),
        Holder(tensor + 1),
    ]
    assert len({fingerprint(holder) for holder in holders}) == len(holders)
    assert fingerprint(Holder(tensor, persistent=False)) == fingerprint(Holder(tensor))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int8, torch.uint8, torch.bool])
@pytest.mark.parametrize("size", [0, 1, 1000, 100_001])
def test_any_dtype_and_size(dtype: torch.dtype, size: int) -> None:
    tensor = torch.zeros(size, dtype=dtype)
    before = fingerprint(Holder(tensor))
    for place in {0, size - 1} if size else ():
        changed = tensor.clone()
        changed[place] = 1
        assert fingerprint(Holder(changed)) != before


@pytest.mark.parametrize("size", [30, 700])
def test_strides_do_not_count(size: int) -> None:
    tensor = torch.randn(size, size)
    assert fingerprint(Holder(tensor.T.contiguous().T)) == fingerprint(Holder(tensor))
    assert not tensor.T.contiguous().T.is_contiguous()


def test_scalars_and_tied_weights() -> None:
    assert fingerprint(Holder(torch.tensor(1.0))) != fingerprint(Holder(torch.tensor(2.0)))
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert fingerprint(tied) == fingerprint(copy.deepcopy(tied))


def test_a_large_tensor_is_not_read_whole() -> None:
    """As many tensors as the published model has, each of a size that would take seconds in all."""
    large = torch.zeros(1).expand(4096, 13696)  # 224 MB if it were there; no memory is
    holder = nn.Module()
    for index in range(50):
        holder.register_buffer(f"tensor{index}", large)
    began = time.perf_counter()
    fingerprint(holder)
    assert time.perf_counter() - began < 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_the_device_does_not_count(nano_model: Glm4v) -> None:
    assert fingerprint(copy.deepcopy(nano_model).cuda()) == fingerprint(nano_model)
