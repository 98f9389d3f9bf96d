"""Weights packed one after another: each is what the kernel makes of it alone."""

import gc
import importlib
import weakref
from collections import Counter

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


@pytest.fixture(params=[1, 2, 3, 4, 16])
def threads(request):
    """oneDNN lays weights out otherwise for other numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def is_template(*shape):
    """Whether oneDNN lays a weight of this shape out here as `blocks` does."""
    return NAMED["onednn"].pack(*random_weight(*shape))._is_template


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (100, 70), (128, 70), (70, 128), (192, 320)], ids=str)
@pytest.mark.parametrize("change", EXTREMES.values(), ids=EXTREMES)
def test_the_second_of_a_shape_is_what_it_would_be_alone(name, shape, change):
    weight, scale = random_weight(*shape, seed=2)
    check(name, random_weight(*shape, seed=1)[0], change(weight), scale)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (192, 64), (320, 192), (512, 512)], ids=str)
@pytest.mark.parametrize("change", EXTREMES.values(), ids=EXTREMES)
def test_whatever_the_first_was_and_however_many_threads(name, shape, change, threads):
    """Zeros look alike in any order, so they do not show how others are laid out."""
    first, scale = random_weight(*shape, seed=1)
    check(name, change(first), random_weight(*shape, seed=2)[0], scale)


def check(name, first, weight, scale):
    packer, x = Packer(name), torch.randn(5, weight.shape[1])
    packer.pack(first, scale)
    packed, kernel = packer.pack(weight, scale)
    alone = NAMED[name].pack(weight, scale)
    assert kernel == name
    assert torch.equal(packed.unpack(), weight)
    assert packed.nbytes == alone.nbytes
    for split in (0.0, 4.0):
        out, wanted = packed.linear(x, split=split), alone.linear(x, split=split)
        if name == "reference":  # on several threads sums of floating numbers are made in any order
            torch.testing.assert_close(out, wanted)
        else:
            assert torch.equal(out, wanted)


def test_the_kernel_is_the_best_or_the_one_of_that_name():
    assert Packer().pack(*random_weight(8, 8))[1] == choose_kernel(CPU).name
    with pytest.raises(ParameterError, match="nobody's"):
        Packer("nobody's").pack(*random_weight(8, 8))


@needs_onednn
@settings(deadline=None, max_examples=25)
@given(tall=st.integers(1, 5), wide=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_copy_written_over_has_the_bytes_of_onednn(tall, wide, seed):
    if not is_template(64 * tall, 64 * wide):
        pytest.skip("oneDNN has another layout here")
    first, weight = (random_weight(64 * tall, 64 * wide, seed=seed + one)[0] for one in (0, 1))
    template, alone = onednn._pack(first), onednn._pack(weight)
    before = blocks._memory(template).clone()
    packed = blocks.packed_like(weight, template)
    assert torch.equal(blocks._memory(packed), blocks._memory(alone))
    assert torch.equal(blocks._memory(template), before)


@needs_onednn
@pytest.mark.parametrize("lost", ["sums", "order", "address", "copies", "nothing"])
def test_another_layout_is_noticed_and_left_to_onednn(lost, monkeypatch):
    if not is_template(128, 128):
        pytest.skip("oneDNN has another layout here")
    if lost == "sums":
        monkeypatch.setattr(blocks, "row_sums", lambda weight: row_sums(weight) + 1)
    elif lost == "order":
        monkeypatch.setattr(blocks, "_ROWS", 32)
    elif lost == "address":
        monkeypatch.setattr(torch.ops.mkldnn, "data_ptr", missing(AttributeError))
    elif lost == "copies":
        monkeypatch.setattr(torch.Tensor, "clone", missing(RuntimeError))
    template = NAMED["onednn"].pack(torch.zeros(128, 128, dtype=torch.int8), torch.ones(128))
    assert template._is_template == (lost == "nothing")
    weight, scale = random_weight(128, 128, seed=2)
    assert torch.equal(template.another(weight, scale).unpack(), weight)


def missing(error):
    def raise_(*_):
        raise error("no such thing")

    return raise_


@needs_onednn
def test_what_is_not_aligned_is_packed_all_the_same():
    packer, scale = Packer("onednn"), torch.ones(64)
    memory = torch.randint(-127, 128, (64 * 64 + 3,), dtype=torch.int8)
    for start in range(4):
        weight = memory[start : start + 64 * 64].view(64, 64)
        assert torch.equal(packer.pack(weight, scale)[0].unpack(), weight)


@needs_onednn
def test_other_numbers_than_int8_are_refused_each_time():
    packer, scale = Packer("onednn"), torch.ones(64)
    packer.pack(random_weight(64, 64)[0], scale)
    with pytest.raises(RuntimeError):
        packer.pack(torch.zeros(64, 64, dtype=torch.uint8), scale)


@needs_onednn
def test_sizes_that_do_not_fill_blocks_are_left_to_onednn():
    assert not is_template(100, 128)
    assert not is_template(128, 100)


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
    shapes, pack = [], onednn._pack
    monkeypatch.setattr(onednn, "_pack", lambda weight: shapes.append(tuple(weight.shape)) or pack(weight))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # two workers may both be the first
    model = load_model("tiny", device="cpu", quantize=QuantizationConfig(kernel="onednn"))
    packed_by_onednn = Counter(shapes)
    found = {
        id(layer.packed): layer.packed for layer in model.modules() if isinstance(layer, QuantizedLinear)
    }
    wholes = {getattr(packed, "whole", packed) for packed in found.values()}  # q, k and v are one
    packed = [getattr(whole, "packed", whole) for whole in wholes]
    counts = Counter(one._shape for one in packed)
    templates = {shape for shape in counts if is_template(*shape)}
    if not templates:
        pytest.skip("oneDNN has other layouts here")
    assert max(counts[shape] for shape in templates) > 1
    for shape, count in counts.items():
        assert packed_by_onednn[shape] == (1 if shape in templates else count)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (2000, 700)], ids=str)
def test_sums_of_rows(shape):
    weight, _ = random_weight(*shape)
    assert torch.equal(row_sums(weight), weight.sum(1, dtype=torch.int32))
