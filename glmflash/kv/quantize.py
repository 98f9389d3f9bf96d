"""Rows of keys or values → INT8 values with one float32 scale a row, and back."""

import torch
from torch import Tensor

__all__ = ["dequantize_rows", "quantize_rows"]


def __dir__() -> list[str]:
    return __all__


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row (the last dimension) to 127 steps on either side of zero.

    A row depends on nothing but itself, so it does not matter with which others it is stored. What comes
    back differs by at most half a step, 1/254 of the row's largest magnitude (and rounding, 1e-6 of it).
    A row with a NaN or an infinity comes back without one finite number: what is broken stays visible.

    Shapes:
        x (..., D) -> int8 (..., D) and float32 (...).

    Example:
        >>> values, scale = quantize_rows(torch.tensor([[0.0, 1.27, -0.634]]))
        >>> values.tolist(), round(scale.item(), 4)
        ([[0, 127, -63]], 0.01)
    """
    x = x.float()
    scale = (x.abs().amax(-1) / 127).clamp_min_(torch.finfo(torch.float32).tiny)  # (...); zeros stay zeros
    return (x / scale[..., None]).round_().to(torch.int8), scale


def dequantize_rows(values: Tensor, scale: Tensor, *, out: Tensor) -> Tensor:
    """The inverse, up to rounding, into `out` and its dtype.

    Shapes:
        values int8 (..., D), scale float32 (...), out (..., D) -> out.
    """
    return out.copy_(values).mul_(scale[..., None])
