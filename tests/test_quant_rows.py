"""INT8 rows: no element is off by more than half a level, whatever the row looks like."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glmflash import ParameterError
from glmflash.quant import quantize_rows, rows

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def back(found) -> torch.Tensor:
    return found.weight.double() * found.scale.double()[:, None]


def check_bound(weight: torch.Tensor) -> None:
    """Half a level, and a little for the float32 quotient, which may round a number in the middle up."""
    found, exact = quantize_rows(weight), weight.double()
    scale = found.scale.double()[:, None]
    assert found.weight.dtype == torch.int8
    assert found.weight.abs().max() <= 127
    assert ((back(found) - exact).abs() <= scale * (0.5 + 1e-4)).all()
    peak = exact.abs().amax(1)
    least = torch.finfo(torch.float32).tiny
    assert torch.allclose(found.scale.double(), (peak / 127).clamp_min(least), rtol=1e-6, atol=0)


rows_of_floats = st.integers(1, 12).flatmap(
    lambda width: st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=width, max_size=width),
        min_size=1,
        max_size=5,
    )
)


@pytest.mark.property
@given(rows_of_floats)
def test_error_is_at_most_half_a_level(values):
    check_bound(torch.tensor(values, dtype=torch.float32))


@pytest.mark.property
@given(
    st.integers(0, 10**6), st.sampled_from(DTYPES), st.integers(1, 40), st.integers(1, 70), st.floats(-30, 30)
)
def test_error_is_at_most_half_a_level_in_any_dtype(seed, dtype, outputs, inputs, exponent):
    torch.manual_seed(seed)
    limit = 4 if dtype == torch.float16 else 30
    size = 10 ** max(-limit, min(limit, exponent))
    check_bound((torch.randn(outputs, inputs, dtype=torch.float64) * size).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_finite_numbers(dtype):
    top = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    check_bound(torch.tensor([[top, -top, top / 3], [-top, 0, 1]], dtype=dtype))


@pytest.mark.parametrize("size", [1e-45, 3e-44, 1e-40, 1e-38, 3e-37])
def test_numbers_too_small_for_a_normal_scale(size):
    check_bound(torch.tensor([[size, -size / 2, 0.0], [1.0, size, 0.0]]))


def test_the_smallest_of_a_narrow_dtype_are_not_lost():
    weight = torch.full((1, 4), 2**-24, dtype=torch.float16)
    assert quantize_rows(weight).weight.tolist() == [[127] * 4]


def test_zeros_stay_zeros_and_count_as_no_error():
    found = quantize_rows(torch.tensor([[0.0, -0.0], [2.0, 1.0]]))
    assert found.weight[0].tolist() == [0, 0]
    assert found.scale.isfinite().all()
    assert quantize_rows(torch.zeros(3, 4)).error == 0.0


@pytest.mark.property
@given(st.integers(0, 10**6), st.floats(1e-20, 1e20))
def test_what_lies_on_the_grid_comes_back_exactly(seed, size):
    torch.manual_seed(seed)
    levels = torch.randint(-127, 128, (4, 9))
    levels[:, 0] = 127
    scale = torch.rand(4) * size + size / 100
    found = quantize_rows(levels * scale[:, None])
    assert torch.equal(found.weight.long(), levels)
    assert found.error < 1e-6


@pytest.mark.property
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_rows_do_not_depend_on_their_neighbours(seed, parts):
    torch.manual_seed(seed)
    weight = torch.randn(30, 16) * torch.logspace(-20, 20, 30)[:, None]
    whole, alone = quantize_rows(weight), [quantize_rows(part) for part in weight.split(parts)]
    assert torch.equal(whole.weight, torch.cat([part.weight for part in alone]))
    assert torch.equal(whole.scale, torch.cat([part.scale for part in alone]))


@pytest.mark.parametrize("elements", [1, 24, 100])
def test_nor_on_how_many_are_looked_at_at_once(elements, monkeypatch):
    weight = torch.randn(37, 24)
    whole = quantize_rows(weight)
    monkeypatch.setattr(rows, "_PART", {"cpu": elements})
    parts = quantize_rows(weight)
    assert torch.equal(whole.weight, parts.weight)
    assert torch.equal(whole.scale, parts.scale)
    assert parts.error == pytest.approx(whole.error, rel=1e-6)


def test_the_weight_itself_is_left_alone():
    weight = torch.randn(5, 8)
    copy = weight.clone()
    quantize_rows(weight)
    assert torch.equal(weight, copy)


def test_transposed_weights_give_the_same():
    weight = torch.randn(8, 5)
    assert torch.equal(quantize_rows(weight.t()).weight, quantize_rows(weight.t().contiguous()).weight)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_error_is_the_norm_of_the_change_over_the_norm(size):
    weight = torch.randn(60, 80, generator=torch.Generator().manual_seed(0)) * size
    weight[3] *= 1000
    found = quantize_rows(weight)
    wanted = (back(found) - weight.double()).norm() / weight.double().norm()
    assert found.error == pytest.approx(float(wanted), rel=1e-3)
    assert 0.005 < found.error < 0.012


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_what_is_not_finite_in_float32_is_refused(bad):
    weight = torch.ones(4, 3, dtype=torch.float64)
    weight[2, 1] = bad
    with pytest.raises(ParameterError, match=r"weight: .* not finite"):
        quantize_rows(weight)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (torch.ones(3), "3 float32 on 'cpu'"),
        (torch.ones(2, 3, 4), "2x3x4 float32"),
        (torch.ones(2, 3, dtype=torch.int8), "2x3 int8"),
        (torch.ones(0, 3), "0x3 float32"),
        (torch.ones(3, 0), "3x0 float32"),
        (torch.ones(2, 2, device="meta"), "on 'meta'"),
    ],
)
def test_what_is_no_floating_matrix_is_refused(weight, said):
    with pytest.raises(ParameterError, match=said):
        quantize_rows(weight)
