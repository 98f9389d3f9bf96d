"""Positions → angles → rotated queries and keys, in both pairings that the GLM towers use.

The decoder rotates *neighbouring* dimensions (0 with 1, 2 with 3, ...) and only the first part of a head;
the vision tower rotates dimension j with j + D/2 over the whole head. Swapping them gives fluent nonsense.
Angles are always float32: a model-wide cast must not touch them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["inverse_frequencies", "rotate_half", "rotate_pairs", "section_angles", "section_axes"]


def __dir__() -> list[str]:
    return __all__


def inverse_frequencies(theta: float, size: int, *, device: torch.device | None = None) -> Tensor:
    """Radians per position for each rotating pair: `theta ** (-2k / size)`.

    Args:
        theta: Base of the geometric series (`rope_theta`).
        size: Number of rotating dimensions, twice the number of pairs.
        device: Where the result lives.

    Shapes:
        -> (size / 2,) float32.

    Example:
        >>> [round(x, 6) for x in inverse_frequencies(500000.0, 64)[:2].tolist()]
        [1.0, 0.663601]

    Source: RoFormer, arXiv 2104.09864, section 3.2.2.
    """
    steps = torch.arange(0, size, 2, dtype=torch.float32, device=device)
    return 1.0 / theta ** (steps / size)


def section_axes(sections: Sequence[int], *, device: torch.device | None = None) -> Tensor:
    """Which position axis each frequency follows; GLM keeps the sections contiguous (`mrope_section`).

    Args:
        sections: How many consecutive frequencies follow each axis; they sum to P.
        device: Where the result lives.

    Shapes:
        -> (P,) int64.

    Example:
        >>> section_axes((1, 1, 2)).tolist()
        [0, 1, 2, 2]
    """
    return torch.repeat_interleave(torch.tensor(sections, device=device))


def section_angles(positions: Tensor, frequencies: Tensor, axes: Tensor) -> Tensor:
    """Angles of multimodal rope: each frequency follows a position axis.

    Args:
        positions: One row per axis (time, height, width).
        frequencies: From `inverse_frequencies`.
        axes: From `section_axes`.

    Shapes:
        positions (3, N) integer, frequencies (P,), axes (P,) -> (N, P) float32.

    Source: M-RoPE, Qwen2-VL, arXiv 2409.12191.
    """
    return positions[axes].T.float() * frequencies  # (N, P)


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring dimensions (2k, 2k + 1) of the first 2P; the rest of the head passes through.

    A pair is a complex number, and to rotate it is one multiplication; in float32 at least, rounded once.

    Shapes:
        x (N, H, D), cos and sin (N, P) with 2P <= D, D even -> (N, H, D).
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    turn = torch.complex(cos.to(exact), sin.to(exact))[:, None]  # (N, 1, P)
    out = x.to(exact, copy=True, memory_format=torch.contiguous_format)  # (N, H, D)
    turning = out[..., : 2 * turn.shape[-1]].unflatten(-1, (-1, 2))  # (N, H, P, 2)
    torch.view_as_complex(turning).mul_(turn)
    return out.to(x.dtype)


def rotate_half(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate dimension j with j + D/2, over the whole head, in float32.

    Shapes:
        x (N, H, D), cos and sin (N, D / 2) float32 -> (N, H, D), dtype of `x`.
    """
    whole = torch.cat((cos, cos), dim=-1)[:, None]  # (N, 1, D)
    signed = torch.cat((-sin, sin), dim=-1)[:, None]  # (N, 1, D)
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return torch.cat((second, first), dim=-1).mul_(signed).addcmul_(wide, whole).to(x.dtype)
