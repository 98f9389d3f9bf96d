"""INT8 products on any device: the weight is made floating again, a part at a time. Slow, plain and exact."""

import torch
import torch.nn.functional as F
from torch import Tensor

from glmflash.ops.int8.kernel import Kernel, PackedWeight

__all__ = ["REFERENCE"]

_PART = 2**22  # elements of the weight made floating at once
_TILE = 1024  # rows multiplied at once


def __dir__() -> list[str]:
    return __all__


class _ReferenceWeight:
    """The weight as it is stored."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self._weight, self._scale = weight, scale

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + self._scale.nbytes

    def linear(self, x: Tensor, *, split: float) -> Tensor:  # activations are not rounded
        out = x.new_empty(len(x), len(self._weight), dtype=torch.float32)  # (N, O)
        rows = max(1, _PART // max(1, self._weight.shape[1]))
        for some, place in zip(x.split(_TILE), out.split(_TILE), strict=True):
            some = some.float()
            for part, columns in zip(self._weight.split(rows), place.split(rows, dim=1), strict=True):
                columns.copy_(F.linear(some, part.float()))
        return out.mul_(self._scale)

    def unpack(self) -> Tensor:
        return self._weight


def _why_not(device: torch.device) -> str | None:  # noqa: ARG001 - it runs everywhere
    return None


def _packed(weight: Tensor, scale: Tensor) -> PackedWeight:
    # Kept as it is, so it must be the whole of it: a view would keep what it is a view of.
    return _ReferenceWeight(weight.contiguous(), scale)


def _nbytes(rows: int, columns: int) -> int:
    return rows * columns + 4 * rows


REFERENCE = Kernel("reference", _why_not, _packed, _nbytes)
