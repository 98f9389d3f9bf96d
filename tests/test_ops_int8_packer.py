"""Weights packed one after another: each comes to the bytes that the kernel gives it alone."""

import gc
import importlib
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_weights import random_weight

from glmflash import ParameterError
from glmflash.ops.int8 import KERNELS, Packer, choose_kernel
from glmflash.ops.int8.row_sums import row_sums
from glmflash.quant import QuantizationConfig, QuantizedLinear
from glmflash.weights import load_model

CPU = torch.device("cpu")
NAMED = {kernel.name: kernel for kernel in KERNELS if kernel.why_not(CPU) is None}
needs_onednn = pytest.mark.skipif("onednn" not in NAMED, reason="oneDNN does not run here")
onednn = importlib.import_module("glmflash.ops.int8.onednn")
blocks = importlib.import_module("glmflash.ops.int8.blocks")
EXTREMES = {
    "random": lambda weight: weight,
    "largest": lambda weight: torch.full_like(weight, 127),
    "smallest": lambda weight: torch.full_like(weight, -127),
    "zero": torch.zeros_like,
    "transposed in memory": lambda weight: weight.T.contiguous().T,
}


def own_blocks():
    """Whether oneDNN lays a weight out here as `blocks` does."""
    weight, scale = random_weight(128, 128)
    return NAMED["onednn"].pack(weight, scale)._copied


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (100, 70), (128, 70), (70, 128), (192, 320)], ids=str)
@pytest.mark.parametrize("change", EXTREMES.values(), ids=EXTREMES)
def test_the_second_of_a_shape_is_what_it_would_be_alone(name, shape, change):
    packer, x = Packer(name), torch.randn(5, shape[1])
    packer.pack(*random_weight(*shape, seed=1))
    weight, scale = random_weight(*shape, seed=2)
    weight = change(weight)
    packed, kernel = packer.pack(weight, scale)
    alone = NAMED[name].pack(weight, scale)
    assert kernel == name
    assert torch.equal(packed.unpack(), weight)
    assert packed.nbytes == alone.nbytes
    for split in (0.0, 4.0):
        assert torch.equal(packed.linear(x, split=split), alone.linear(x, split=split))


def test_the_kernel_is_the_best_or_the_one_of_that_name():
    assert Packer().pack(*random_weight(8, 8))[1] == choose_kernel(CPU).name
    with pytest.raises(ParameterError, match="nobody's"):
        Packer("nobody's").pack(*random_weight(8, 8))


@needs_onednn
@settings(deadline=None, max_examples=25)
@given(tall=st.integers(1, 5), wide=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_copy_written_over_has_the_bytes_of_onednn(tall, wide, seed):
    if not own_blocks():
        pytest.skip("oneDNN has another layout here")
    first, weight = (random_weight(64 * tall, 64 * wide, seed=seed + one)[0] for one in (0, 1))
    template, alone = onednn._pack(first), onednn._pack(weight)
    before = blocks._memory(template).clone()
    packed = blocks.packed_like(weight, template)
    assert torch.equal(blocks._memory(packed), blocks._memory(alone))
    assert torch.equal(blocks._memory(template), before)


@needs_onednn
@pytest.mark.parametrize("lost", ["row_sums", "order"])
def test_another_layout_is_noticed_and_left_to_onednn(lost, monkeypatch):
    if lost == "row_sums":
        monkeypatch.setattr(blocks, "row_sums", lambda weight: row_sums(weight) + 1)
    else:
        monkeypatch.setattr(blocks, "_ROWS", 32)
    packer, x = Packer("onednn"), torch.randn(3, 128)
    template, _ = packer.pack(*random_weight(128, 128, seed=1))
    weight, scale = random_weight(128, 128, seed=2)
    packed, _ = packer.pack(weight, scale)
    assert not template._copied
    assert torch.equal(packed.unpack(), weight)
    assert torch.equal(packed.linear(x, split=0.0), NAMED["onednn"].pack(weight, scale).linear(x, split=0.0))


@needs_onednn
def test_sizes_that_do_not_fill_blocks_are_left_to_onednn():
    for shape in ((100, 128), (128, 100)):
        assert not NAMED["onednn"].pack(*random_weight(*shape))._copied


@needs_onednn
def test_bytes_keep_what_they_belong_to():
    packed = onednn._pack(random_weight(64, 64)[0])
    held, memory = weakref.ref(packed), blocks._memory(packed)[5:].view(torch.uint8)
    del packed
    gc.collect()
    assert held() is not None
    del memory
    gc.collect()
    assert held() is None


@needs_onednn
def test_onednn_packs_one_weight_of_each_shape_of_a_model(monkeypatch):
    if not own_blocks():
        pytest.skip("oneDNN has another layout here")
    shapes = []
    pack = onednn._pack
    monkeypatch.setattr(onednn, "_pack", lambda weight: shapes.append(tuple(weight.shape)) or pack(weight))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # two workers may both be the first
    model = load_model("tiny", device="cpu", quantize=QuantizationConfig(kernel="onednn"))
    layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLinear)]
    full = [shape for shape in shapes if not shape[0] % 64 and not shape[1] % 64]
    assert len(full) == len(set(full)) < len(layers)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (2000, 700)], ids=str)
def test_sums_of_rows(shape):
    weight, _ = random_weight(*shape)
    assert torch.equal(row_sums(weight), weight.sum(1, dtype=torch.int32))
