"""INT8 products on any device: the weight is made floating again, a part at a time. Slow, plain and exact."""

import torch
import torch.nn.functional as F
from torch import Tensor

from glmflash.ops.int8.kernel import Kernel, PackedWeight

__all__ = ["REFERENCE"]

_PART = 2**22  # elements of the weight made floating at once


def __dir__() -> list[str]:
    return __all__


class _ReferenceWeight:
    """The weight as it is stored."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self._weight, self._scale = weight, scale

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + self._scale.nbytes

    def linear(self, x: Tensor, *, split: float) -> Tensor:  # noqa: ARG002 - activations are not rounded
        x = x.float()
        rows = max(1, _PART // self._weight.shape[1])
        parts = [F.linear(x, part.float()) for part in self._weight.split(rows)]
        return torch.cat(parts, dim=1).mul_(self._scale)

    def unpack(self) -> Tensor:
        return self._weight


def _why_not(device: torch.device) -> str | None:  # noqa: ARG001 - it runs everywhere
    return None


def _packed(weight: Tensor, scale: Tensor) -> PackedWeight:
    return _ReferenceWeight(weight, scale)


REFERENCE = Kernel("reference", _why_not, _packed)
