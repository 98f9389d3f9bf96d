"""A floating weight → INT8 rows with a scale each, and how far they are from it."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["QuantizedRows", "quantize_rows"]

_LEVELS = 127
_PART = 2**22  # elements looked at at once


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class QuantizedRows:
    """A weight in INT8: row r stands for `weight[r] * scale[r]`.

    Args:
        weight: (O, I) int8, within -127 to 127.
        scale: (O,) float32.
        error: Relative error: the norm of what rounding changed, over the norm of the weight. 0 if unknown.
    """

    weight: Tensor
    scale: Tensor
    error: float


def quantize_rows(weight: Tensor) -> QuantizedRows:
    """Round each row to 255 levels, symmetric about zero; its largest magnitude is the last level.

    Temporaries are a few rows, so peak memory is the weight and its INT8 form.

    Shapes:
        weight (O, I), any floating dtype, finite -> weight (O, I) int8, scale (O,) float32

    Example:
        >>> quantize_rows(torch.tensor([[0.5, -1.27]])).weight.tolist()
        [[50, -127]]
    """
    out = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)  # (O, I)
    scale = torch.empty(len(weight), dtype=torch.float32, device=weight.device)  # (O,)
    rows = max(1, _PART // weight.shape[1])
    lost = size = 0.0
    for part, ints, scales in zip(weight.split(rows), out.split(rows), scale.split(rows), strict=True):
        exact = part.float()
        low, high = exact.aminmax(dim=1)
        torch.maximum(high, low.neg(), out=scales).div_(_LEVELS)
        scales.masked_fill_(scales == 0, 1.0)  # a row of zeros
        levels = (exact / scales[:, None]).round_().clamp_(-_LEVELS, _LEVELS)
        ints.copy_(levels)
        size += exact.square().sum(dtype=torch.float64).item()
        lost += exact.sub_(levels.mul_(scales[:, None])).square_().sum(dtype=torch.float64).item()
    return QuantizedRows(out, scale, (lost / size) ** 0.5 if size else 0.0)
