"""Products of rows: every kernel gives what the plain formula gives."""

import sys

import pytest
import torch
import torch.nn.functional as F

from glmflash.ops.linear import linear


@pytest.fixture(scope="module")
def weight():
    torch.manual_seed(0)
    return torch.randn(2048, 2560) * 0.02  # large enough for the kernel of few rows


@pytest.fixture(params=["wide", "narrow"], autouse=True)
def registers(request, monkeypatch):
    """Both kinds of processors, whichever this one is."""
    monkeypatch.setattr(sys.modules["glmflash.ops.linear"], "_wide", lambda: request.param == "wide")


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 16, 30, 64, 128, 129])
@pytest.mark.parametrize("biased", [True, False])
def test_float32_equals_the_formula_in_float64(weight, rows, biased):
    x, bias = torch.randn(rows, 2560), torch.randn(2048) if biased else None
    with torch.inference_mode():
        got = linear(x, weight, bias)
    wanted = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert got.dtype == torch.float32
    assert (got - wanted).abs().max() < 1e-5


def test_each_of_a_few_rows_is_as_if_with_any_others(weight):
    x = torch.randn(64, 2560)
    with torch.inference_mode():
        whole = linear(x, weight, None)
        for rows in (4, 7, 16, 33):
            assert (linear(x[:rows].clone(), weight, None) - whole[:rows]).abs().max() < 1e-5


def test_rows_that_do_not_lie_side_by_side(weight):
    wide = torch.randn(8, 2 * 2560)
    with torch.inference_mode():
        got = linear(wide[:, ::2], weight, None)
        assert (got - F.linear(wide[:, ::2], weight)).abs().max() < 1e-5


def test_gradients_flow(weight):
    x = torch.randn(8, 2560, requires_grad=True)
    linear(x, weight, None).sum().backward()
    assert torch.allclose(x.grad, weight.sum(0).expand(8, -1), atol=1e-5)


def test_without_the_kernel_it_is_the_plain_one(weight, monkeypatch):
    monkeypatch.setattr(sys.modules["glmflash.ops.linear"], "_onednn", lambda: None)
    x = torch.randn(8, 2560)
    with torch.inference_mode():
        assert torch.equal(linear(x, weight, None), F.linear(x, weight))


@pytest.mark.parametrize("biased", [True, False])
def test_one_row_of_bfloat16(weight, biased):
    x, bias = torch.randn(1, 2560).bfloat16(), torch.randn(2048).bfloat16() if biased else None
    got = linear(x, weight.bfloat16(), bias)
    wanted = F.linear(x.float(), weight.bfloat16().float(), None if bias is None else bias.float())
    assert torch.allclose(got.float(), wanted, rtol=2**-7, atol=2**-7)
