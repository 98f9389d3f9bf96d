"""Frequencies, sections and both rotations against goldens and plain float64 formulas."""

import math

import pytest
import torch

from glmflash.ops.rotary import inverse_frequencies, rotate_half, rotate_pairs, section_angles, section_axes


@pytest.mark.parametrize(
    ("theta", "k", "value"),
    [
        (500000.0, 0, 1.0),
        (500000.0, 1, 0.66360124),
        (500000.0, 8, 0.03760603),
        (500000.0, 20, 2.7424818e-4),
        (500000.0, 31, 3.0138582e-6),
        (10000.0, 1, 0.74989421),
        (10000.0, 31, 1.3335214e-4),
    ],
)
def test_inverse_frequencies(theta, k, value):
    frequencies = inverse_frequencies(theta, 64)
    assert frequencies.shape == (32,)
    assert frequencies.dtype == torch.float32
    assert frequencies[k].item() == pytest.approx(value, rel=3e-7)


def test_each_section_follows_its_axis():
    positions = torch.tensor([[1, 10], [2, 20], [3, 30]])
    frequencies = torch.tensor([1.0, 0.5, 0.25, 0.125])
    angles = section_angles(positions, frequencies, section_axes((1, 1, 2)))
    assert angles.tolist() == [[1, 1, 0.75, 0.375], [10, 10, 7.5, 3.75]]


def test_a_section_may_be_empty():
    angles = section_angles(torch.tensor([[1], [2], [3]]), torch.ones(2), section_axes((0, 2, 0)))
    assert angles.tolist() == [[2, 2]]


def test_rotate_pairs_turns_neighbours_and_leaves_the_rest():
    x, angles = torch.randn(5, 2, 12), torch.randn(5, 4)
    turned = rotate_pairs(x, angles.cos(), angles.sin())
    assert torch.equal(turned[..., 8:], x[..., 8:])
    for k in range(4):
        a, b, angle = x[..., 2 * k].double(), x[..., 2 * k + 1].double(), angles[:, None, k].double()
        expected = torch.stack((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)
        torch.testing.assert_close(turned[..., 2 * k : 2 * k + 2].double(), expected, atol=1e-6, rtol=1e-6)


def test_rotate_half_turns_dimensions_half_a_head_apart():
    x, angles = torch.randn(5, 2, 12), torch.randn(5, 6)
    turned = rotate_half(x, angles.cos(), angles.sin())
    for j in range(6):
        a, b, angle = x[..., j].double(), x[..., j + 6].double(), angles[:, None, j].double()
        expected = torch.stack((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)
        torch.testing.assert_close(turned[..., [j, j + 6]].double(), expected, atol=1e-6, rtol=1e-6)


def test_pairs_are_halves_after_a_permutation():
    # new[j] = old[2j], new[P + j] = old[2j + 1]: how fused kernels that know one pairing serve the other.
    x, angles = torch.randn(4, 3, 8), torch.randn(4, 4)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    halves = rotate_half(x[..., order], angles.cos(), angles.sin())
    torch.testing.assert_close(halves, rotate_pairs(x, angles.cos(), angles.sin())[..., order])


@pytest.mark.parametrize("rotate", [rotate_pairs, rotate_half])
def test_rotation_keeps_lengths_and_depends_on_distance_only(rotate):
    q, k = torch.randn(1, 1, 8, dtype=torch.float64), torch.randn(1, 1, 8, dtype=torch.float64)
    frequencies = inverse_frequencies(10000.0, 8).double()

    def at(x, position):
        return rotate(x, (position * frequencies).cos()[None], (position * frequencies).sin()[None])

    assert at(q, 7).norm().item() == pytest.approx(q.norm().item(), rel=1e-6)
    near, far = (at(q, 3 + shift) * at(k, 1 + shift) for shift in (0, 100))
    assert near.sum().item() == pytest.approx(far.sum().item(), rel=1e-5)


def test_dtype_of_the_input_is_kept():
    x, angles = torch.randn(2, 1, 8).bfloat16(), torch.full((2, 4), math.pi / 3)
    assert rotate_half(x, angles.cos(), angles.sin()).dtype == torch.bfloat16
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    assert rotate_pairs(x, cos, sin).dtype == torch.bfloat16


@pytest.mark.parametrize("rotate", [rotate_pairs, rotate_half])
def test_rotation_of_bfloat16_is_rounded_once_and_leaves_its_input(rotate):
    x, angles = torch.randn(5, 3, 8).bfloat16(), torch.randn(5, 4)
    before = x.clone()
    turned = rotate(x, angles.cos(), angles.sin())
    assert torch.equal(turned, rotate(x.float(), angles.cos(), angles.sin()).bfloat16())
    assert torch.equal(x, before)


@pytest.mark.parametrize("rotate", [rotate_pairs, rotate_half])
def test_rotation_takes_views_and_passes_gradients_back_turned(rotate):
    x = torch.randn(5, 2, 3, 8, requires_grad=True)
    angles = torch.randn(5, 4)
    cos, sin = angles.cos(), angles.sin()
    turned = rotate(x.transpose(1, 2)[:, :, 1], cos, sin)
    torch.testing.assert_close(turned, rotate(x[:, 1].contiguous(), cos, sin))
    turned.square().sum().backward()
    torch.testing.assert_close(x.grad[:, 1], 2 * x.detach()[:, 1])  # a rotation's transpose undoes it
    assert not x.grad[:, 0].any()
