"""INT8 rows: how far off they are, and what happens to the odd ones."""

import pytest
import torch

from glmflash.kv.quantize import dequantize_rows, quantize_rows


def there_and_back(x: torch.Tensor) -> torch.Tensor:
    values, scale = quantize_rows(x)
    assert values.dtype == torch.int8
    assert scale.dtype == torch.float32
    assert scale.shape == x.shape[:-1]
    return dequantize_rows(values, scale, out=torch.empty_like(x))


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 300.0, 1e30])
def test_error_is_at_most_half_a_step(size):
    x = size * torch.randn(50, 2, 32, generator=torch.Generator().manual_seed(0))
    x[:, :, 0] *= 20  # an outlier in each row
    largest = x.abs().amax(-1, keepdim=True)
    error = (there_and_back(x) - x).abs()
    assert (error <= largest * (1 / 254 + 1e-6)).all()


def test_bfloat16_adds_only_its_own_rounding():
    x = torch.randn(50, 2, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    largest = x.float().abs().amax(-1, keepdim=True)
    error = (there_and_back(x).float() - x.float()).abs()
    assert (error <= largest * (1 / 254 + 2**-8)).all()


def test_zeros_stay_zeros():
    assert torch.equal(there_and_back(torch.zeros(3, 2, 4)), torch.zeros(3, 2, 4))


def test_the_smallest_numbers_come_back_close():
    x = torch.tensor([[1e-44, -1e-40, 0.0]])
    assert (there_and_back(x) - x).abs().max() < torch.finfo(torch.float32).tiny


def test_the_largest_of_each_row_comes_back_as_127_steps():
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(1))
    values, _ = quantize_rows(x)
    assert (values.abs().amax(-1) == 127).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_broken_row_stays_broken_and_alone(bad):
    x = torch.ones(3, 4)
    x[1, 2] = bad
    back = there_and_back(x)
    assert not back[1].isfinite().any()
    assert torch.equal(back[[0, 2]], torch.ones(2, 4))


def test_rows_do_not_depend_on_their_neighbours():
    x = torch.randn(9, 2, 8, generator=torch.Generator().manual_seed(2))
    together = quantize_rows(x)
    alone = [quantize_rows(row) for row in x.split(1)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(parts))
