"""INT8 products on x86 processors by oneDNN, through the operators that PyTorch's compiler uses."""

import platform
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glmflash.ops.int8.activations import by_levels, few_rows
from glmflash.ops.int8.kernel import Kernel, PackedWeight

__all__ = ["ONEDNN"]


def __dir__() -> list[str]:
    return __all__


class _OnednnWeight:
    """A weight in a blocked layout of oneDNN's choice."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self._shape = tuple(weight.shape)
        self._scale, self._zeros = scale, torch.zeros(len(scale), dtype=torch.long)
        self._packed = _pack(weight)
        self._levels = _levels()

    @property
    def nbytes(self) -> int:
        packed: int = torch.ops.mkldnn._nbytes(self._packed)  # blocks that are not full, and sums, included
        return packed + self._scale.nbytes + self._zeros.nbytes

    def linear(self, x: Tensor, *, split: float) -> Tensor:
        return by_levels(x, self._multiply, self._shape[0], levels=self._levels, split=split)

    def few(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return few_rows(x, lambda rows: [self._multiply(rows)], self._levels)

    def unpack(self) -> Tensor:
        weight: Tensor = self._packed.to_dense().T.contiguous()  # (O, I)
        return weight

    def _multiply(self, rows: Tensor) -> Tensor:
        # Unsigned: for signed activations oneDNN has only its plain loops, hundreds of times slower.
        return _product(rows, self._levels + 1, self._packed, self._scale, self._zeros)


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)  # (I, O), opaque
    return packed


def _product(rows: Tensor, zero: int, packed: Tensor, scale: Tensor, zeros: Tensor) -> Tensor:
    unsigned = rows.round().add_(zero).to(torch.uint8)
    out: Tensor = torch.ops.onednn.qlinear_pointwise(
        unsigned, 1.0, zero, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return out


@cache
def _levels() -> int:
    """127, or 63 where the processor adds pairs of products in 16 bits; see the same in fbgemm.py."""
    packed = _pack(torch.full((1, 64), 127, dtype=torch.int8))
    rows = torch.full((1, 64), 127.0)
    out = _product(rows, 128, packed, torch.ones(1), torch.zeros(1, dtype=torch.long))
    return 127 if out.item() == 64 * 127 * 127 else 63


def _why_not(device: torch.device) -> str | None:
    if device.type != "cpu":
        return "it computes on CPUs only"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "for other processors than x86 oneDNN may have plain loops only, hundreds of times slower"
    if not torch.backends.mkldnn.is_available():
        return "this PyTorch is built without oneDNN"
    try:
        _levels()
        torch.ops.mkldnn._nbytes  # noqa: B018 - raises where there is none
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        return f"this PyTorch has none: {error}"
    return None


def _packed(weight: Tensor, scale: Tensor) -> PackedWeight:
    return _OnednnWeight(weight, scale)


ONEDNN = Kernel("onednn", _why_not, _packed)
