"""Bounds are reached by some input, and by none exceeded; what is shifted is shifted exactly."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glmflash.quant import QuantizedEmbedding, QuantizedLinear, quantize_rows
from glmflash.weights.rescale.bounds import (
    Normed,
    Rows,
    ball_bound,
    box_bound,
    column_peaks,
    length_bound,
    row_peaks,
)
from glmflash.weights.rescale.pairs import digits, gated_pair, headroom, plain_pair, shares, tightened
from glmflash.weights.rescale.rescaling import LIMIT
from glmflash.weights.rescale.shift import shift_rows_

CLOSE = 1 + 1e-5
sizes = st.integers(1, 24)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(inputs: int, outputs: int, *, bias: bool = True, seed: int = 0) -> Rows:
    layer = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
    layer.weight.copy_(random(outputs, inputs, seed=seed))
    if bias:
        layer.bias.copy_(random(outputs, seed=seed + 1))
    return Rows("layer", layer)


def normed(size: int, *, bias: bool = False, seed: int = 5) -> Normed:
    return Normed(size**0.5, random(size, seed=seed), random(size, seed=seed + 1) if bias else None)


@settings(max_examples=20)
@given(sizes, sizes, st.integers(0, 99))
def test_the_bound_of_a_ball_is_reached(inputs, outputs, seed):
    rows, entering = linear(inputs, outputs, seed=seed), normed(inputs, seed=seed + 2)
    bound = ball_bound(rows, entering)
    weight, bias = rows.layer.weight, rows.layer.bias
    towards = weight * entering.weight
    y = entering.radius * towards / towards.norm(dim=1, keepdim=True) * bias.sign()[:, None]  # (O, I)
    reached = rows.layer(y * entering.weight).diagonal().abs()
    torch.testing.assert_close(reached.double(), bound, rtol=1e-4, atol=1e-6)
    noise = nn.functional.normalize(random(50, inputs, seed=seed + 3)) * entering.radius
    assert (rows.layer(noise * entering.weight).abs() <= bound * CLOSE).all()


@given(sizes, sizes, st.integers(0, 99))
def test_the_bound_of_a_box_is_reached(inputs, outputs, seed):
    rows, limits = linear(inputs, outputs, seed=seed), random(inputs, seed=seed + 2).abs()
    corners = rows.layer.weight.sign() * rows.layer.bias.sign()[:, None] * limits  # (O, I)
    reached = rows.layer(corners).diagonal().abs()
    torch.testing.assert_close(reached.double(), box_bound(rows, limits), rtol=1e-4, atol=1e-6)


@given(sizes, sizes, st.integers(0, 99), st.booleans())
def test_the_bound_of_a_length_is_near_the_largest_singular_value(inputs, outputs, seed, biased):
    rows, entering = linear(inputs, outputs, bias=biased, seed=seed), normed(inputs, seed=seed)
    exact = entering.radius * torch.linalg.matrix_norm(rows.layer.weight * entering.weight, 2)
    rest = rows.layer.bias.norm() if biased else 0
    bound = length_bound(rows, entering)
    assert exact + rest <= bound * CLOSE
    assert bound <= 1.05 * inputs ** (1 / 16) * exact + rest  # two squarings of the Gram matrix


def test_a_norm_with_a_bias():
    entering, rows = normed(7, bias=True), linear(7, 5)
    y = nn.functional.normalize(random(2000, 7)) * entering.radius * torch.rand(2000, 1)
    given_out = y * entering.weight + entering.bias
    assert (given_out.abs() <= entering.peaks()).all()
    out = rows.layer(nn.functional.gelu(given_out))  # smaller elements are included
    assert (out.abs() <= ball_bound(rows, entering)).all()
    assert (torch.linalg.vector_norm(out, dim=1) <= length_bound(rows, entering)).all()


@pytest.mark.parametrize("biased", [True, False])
def test_a_gated_mlp_stays_under_both_bounds(biased):
    gate, up = (linear(96, 288, bias=biased, seed=seed) for seed in (1, 3))
    down, entering = linear(288, 96, bias=biased, seed=7), normed(96)
    pair = gated_pair(gate, up, down, entering)
    tight = tightened(pair)
    y = nn.functional.normalize(random(2000, 96)) * entering.radius * entering.weight
    middle = nn.functional.silu(gate.layer(y)) * up.layer(y)
    assert middle.abs().max() <= pair.middle
    assert (down.layer(middle).abs() <= tight.out).all()
    assert (tight.out <= pair.out).all()
    assert tight.out.max() < 0.7 * pair.out.max()  # which is what it is for


def test_averages_of_values_serve_several_heads():
    values, out, entering = linear(8, 2 * 4), linear(6 * 4, 5), normed(8)
    pair = plain_pair(values, out, entering, heads=2, repeat=3)
    bound = ball_bound(values, entering).view(2, 4)
    expected = box_bound(out, torch.cat([bound[0]] * 3 + [bound[1]] * 3))
    assert torch.equal(pair.out, expected)


@pytest.mark.parametrize("scheme", ["int8", "w8a8"])
def test_rounded_activations_stay_under_the_bound(scheme):
    weight = random(16, 64)
    layer = QuantizedLinear(quantize_rows(weight), None, scheme=scheme)
    rows, entering = Rows("layer", layer), normed(64)
    reconstructed = layer.unpack() * layer.weight_scale[:, None]
    towards = (
        nn.functional.normalize(reconstructed * entering.weight) * entering.radius
    )  # the worst of inputs
    out = layer(towards * entering.weight)
    assert (out.abs() <= ball_bound(rows, entering)).all()
    limits = entering.peaks()
    corners = (reconstructed.sign() * limits).float()
    assert (layer(corners).abs() <= box_bound(rows, limits)).all()


def test_peaks():
    rows = Rows("table", nn.Embedding.from_pretrained(torch.tensor([[1.0, -5.0], [-2.0, 3.0]])))
    assert row_peaks(rows).tolist() == [5.0, 3.0]
    assert column_peaks(rows).tolist() == [2.0, 5.0]
    table = Rows("table", QuantizedEmbedding(quantize_rows(torch.tensor([[1.0, -5.0], [-2.0, 3.0]]))))
    assert column_peaks(table).tolist() == pytest.approx([2.0, 5.0], abs=0.03)


def test_parts_of_large_weights_come_together(monkeypatch):
    rows, entering = linear(6, 9), normed(6)
    whole = ball_bound(rows, entering), length_bound(rows, entering), column_peaks(rows)
    monkeypatch.setattr("glmflash.weights.rescale.bounds._PART", 12)
    assert len(list(rows.parts())) == 5
    assert torch.equal(ball_bound(rows, entering), whole[0])
    assert length_bound(rows, entering) == pytest.approx(whole[1], rel=1e-5)
    assert torch.equal(column_peaks(rows), whole[2])


@given(st.floats(1e-3, 1e12), st.floats(1e-3, 1e12), st.integers(0, 40))
def test_what_is_shared_out_brings_both_into_range(between, out, total):
    pair = plain_pair(linear(2, 2), linear(2, 2), normed(2))
    pair = replace(pair, middle=between, given=between / 2, out=torch.tensor([out], dtype=torch.float64))
    first, second = shares(pair)
    assert between * 2.0**-first <= LIMIT
    assert out * 2.0 ** -(first + second) <= LIMIT
    assert (
        0 <= second <= first <= second + 1 or between * 2.0 ** (1 - first) > LIMIT
    )  # no more than is needed
    assert first + second == max(digits(out), digits(between))
    first, second = shares(pair, total=total)
    assert first + second == total
    assert first >= digits(between) or first == total + headroom(pair.second)


@pytest.mark.parametrize("rows", [None, slice(1, 3)])
@pytest.mark.parametrize("kernel", ["reference", None])
def test_int8_rows_are_scaled(rows, kernel):
    layer = QuantizedLinear(quantize_rows(random(4, 8)), random(4), scheme="int8", kernel=kernel)
    x, numbers, scale, name = random(3, 8), layer.unpack().clone(), layer.weight_scale, layer.kernel
    before = layer(x) - layer.bias
    layer.scale_(2.0**-3, rows)
    factor = torch.ones(4)
    factor[slice(None) if rows is None else rows] = 2.0**-3
    torch.testing.assert_close(layer(x) - layer.bias, before * factor, rtol=1e-5, atol=1e-6)
    assert torch.equal(layer.unpack(), numbers)
    assert torch.equal(layer.weight_scale, scale * factor)
    assert layer.kernel == name
    assert scale is not layer.weight_scale  # another layer may hold it


def test_the_loss_is_that_of_the_rows():
    layer = nn.Linear(2, 2, bias=False).half().requires_grad_(False)
    layer.weight.copy_(torch.tensor([[1.0, 0.5], [2.0**-14 * 1.5, 2.0**-14 * (1 + 2.0**-10)]]))
    (shift,) = shift_rows_(Rows("layer", layer), -1)
    lost = 2.0**-25 / (2.0**-15 * (1.5**2 + (1 + 2.0**-10) ** 2) ** 0.5)  # half the last digit of one element
    assert shift.loss == pytest.approx(lost / 2**0.5, rel=1e-3)
    assert shift.exponent == -1


def test_digits_and_headroom():
    assert [digits(LIMIT * factor) for factor in (0.9, 1, 1.1, 2, 2.1)] == [0, 0, 1, 1, 2]
    rows = linear(2, 2)
    rows.layer.weight.fill_(LIMIT / 8)
    assert headroom(rows) == 3
    rows.layer.weight.zero_()
    assert headroom(rows) > 3


def test_the_second_matrix_never_grows_beyond_the_limit():
    pair = plain_pair(linear(2, 2), linear(2, 2), normed(2))
    pair.second.layer.weight.fill_(LIMIT / 4)
    pair = replace(pair, middle=LIMIT * 2.0**10)
    assert shares(pair, total=0) == (2, -2)


def test_tied_int8_rows_keep_their_own_scales():
    table = QuantizedEmbedding(quantize_rows(random(4, 8)))
    scale = table.weight_scale
    before, kept = table(torch.arange(4)), scale.clone()
    (shift,) = shift_rows_(Rows("table", table), -2)
    assert (shift.exponent, shift.loss) == (-2, 0.0)
    assert torch.equal(table(torch.arange(4)), before / 4)
    assert torch.equal(scale, kept)
