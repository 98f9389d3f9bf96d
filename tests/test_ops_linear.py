"""Products of rows: every kernel gives what the plain formula gives."""

import sys

import pytest
import torch
import torch.nn.functional as F

from glmflash.ops.linear import linear

MODULE = sys.modules["glmflash.ops.linear"]


@pytest.fixture(params=[320, 480], ids=["short", "long"])
def weight(request):
    torch.manual_seed(0)
    return torch.randn(208, request.param) * 0.05


@pytest.fixture(params=["wide", "narrow"], autouse=True)
def registers(request, monkeypatch):
    """Both kinds of processors, whichever this one is, and no weight too small for the kernels."""
    monkeypatch.setattr(MODULE, "_wide", lambda: request.param == "wide")
    monkeypatch.setattr(MODULE, "_LARGE", 1000)
    monkeypatch.setattr(MODULE, "_LONG", 400)


@pytest.mark.parametrize("rows", [1, 2, 8, 9, 30, 64, 95, 96, 257])
@pytest.mark.parametrize("biased", [True, False])
def test_float32_equals_the_formula_in_float64(weight, rows, biased):
    x, bias = torch.randn(rows, weight.shape[1]), torch.randn(len(weight)) if biased else None
    with torch.inference_mode():
        got = linear(x, weight, bias)
    wanted = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert got.dtype == torch.float32
    assert (got - wanted).abs().max() < 1e-5


def test_each_of_a_few_rows_is_as_if_with_any_others(weight):
    x = torch.randn(64, weight.shape[1])
    with torch.inference_mode():
        whole = linear(x, weight, None)
        for rows in (4, 7, 16, 33):
            assert (linear(x[:rows].clone(), weight, None) - whole[:rows]).abs().max() < 1e-5


def test_rows_that_do_not_lie_side_by_side(weight):
    wide = torch.randn(8, 2 * weight.shape[1])
    with torch.inference_mode():
        got = linear(wide[:, ::2], weight, None)
        assert (got - F.linear(wide[:, ::2], weight)).abs().max() < 1e-5


def test_gradients_flow(weight):
    x = torch.randn(8, weight.shape[1], requires_grad=True)
    linear(x, weight, None).sum().backward()
    assert torch.allclose(x.grad, weight.sum(0).expand(8, -1), atol=1e-5)


def test_without_the_kernel_it_is_the_plain_one(weight, monkeypatch):
    monkeypatch.setattr(MODULE, "_onednn", lambda: None)
    x = torch.randn(8, weight.shape[1])
    with torch.inference_mode():
        assert torch.equal(linear(x, weight, None), F.linear(x, weight))


@pytest.mark.parametrize("unit", ["none", "vector", "matrix"])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 40])
@pytest.mark.parametrize("biased", [True, False])
def test_bfloat16_is_the_formula_in_float64_rounded_once(weight, monkeypatch, unit, rows, biased):
    monkeypatch.setattr(MODULE, "_bfloat16_unit", lambda: unit)
    monkeypatch.setattr(MODULE, "_PART", 25 * weight.shape[1])  # several parts and a smaller one
    x, bias = (
        torch.randn(rows, weight.shape[1]).bfloat16(),
        torch.randn(len(weight)).bfloat16() if biased else None,
    )
    with torch.inference_mode():
        got = linear(x, weight.bfloat16(), bias)
    wanted = F.linear(x.double(), weight.bfloat16().double(), None if bias is None else bias.double())
    assert got.dtype == torch.bfloat16
    assert torch.allclose(got.double(), wanted, rtol=2**-8, atol=2e-5)


@pytest.mark.parametrize("unit", ["none", "vector", "matrix"])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_small_weights_and_no_rows(monkeypatch, unit, rows):
    monkeypatch.setattr(MODULE, "_bfloat16_unit", lambda: unit)
    x, weight, bias = torch.randn(rows, 8), torch.randn(3, 8), torch.randn(3)
    with torch.inference_mode():
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
        x, weight, bias = x.bfloat16(), weight.bfloat16(), bias.bfloat16()
        got = linear(x, weight, bias)
    wanted = F.linear(x.double(), weight.double(), bias.double())
    assert torch.allclose(got.double(), wanted, rtol=2**-8, atol=1e-5)


def test_other_dtypes_are_the_plain_formula():
    x, weight = torch.randn(5, 8).double(), torch.randn(3, 8).double()
    with torch.inference_mode():
        assert torch.equal(linear(x, weight, None), F.linear(x, weight))


@pytest.mark.parametrize(
    ("onednn", "wide", "flags", "expected"),
    [
        (False, False, (), "none"),  # AVX2
        (True, True, (), "none"),  # AVX-512 alone: oneDNN would emulate
        (True, True, ("avx512_bf16",), "vector"),
        (True, True, ("avx512_bf16", "amx_bf16"), "matrix"),
        (True, False, (), "matrix"),  # ARM
        (None, True, ("avx512_bf16",), "none"),  # built without oneDNN
    ],
)
@pytest.mark.parametrize("torch_is_new", [True, False])
def test_which_instructions_there_are_for_bfloat16(monkeypatch, onednn, wide, flags, expected, torch_is_new):
    def supported():
        if onednn is None:
            raise AttributeError
        return onednn

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", supported, raising=False)
    monkeypatch.setattr(MODULE, "_wide", lambda: wide)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    if torch_is_new:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags, True), raising=False)
    else:
        for flag, name in {
            "avx512_bf16": "_is_avx512_bf16_supported",
            "amx_bf16": "_is_amx_tile_supported",
        }.items():
            monkeypatch.setattr(torch.cpu, name, lambda flag=flag: flag in flags, raising=False)
    assert MODULE._bfloat16_unit.__wrapped__() == expected
