"""An INT8 weight → the sum of each of its rows."""

import torch
from torch import Tensor

__all__ = ["row_sums"]

_PART = 2**20  # elements summed at once


def __dir__() -> list[str]:
    return __all__


def row_sums(weight: Tensor) -> Tensor:
    """Sum each row.

    Shapes:
        weight (O, I) int8 -> (O,) int32

    Example:
        >>> row_sums(torch.tensor([[1, 2], [-3, 4]], dtype=torch.int8))
        tensor([3, 1], dtype=torch.int32)
    """
    # In parts, since the sum of an INT8 tensor is made from an INT32 copy of it; into one result, since small
    # ones between the copies would keep the C library from using their memory again.
    out = torch.empty(len(weight), dtype=torch.int32, device=weight.device)  # (O,)
    rows = max(1, _PART // weight.shape[1])
    for part, sums in zip(weight.split(rows), out.split(rows), strict=True):
        torch.sum(part, 1, dtype=torch.int32, out=sums)
    return out
