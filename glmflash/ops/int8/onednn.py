"""INT8 products on x86 processors by oneDNN, through the operators that PyTorch's compiler uses."""

import platform
from collections.abc import Callable
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glmflash.ops.int8.activations import by_levels, few_rows
from glmflash.ops.int8.blocks import can_be_packed_like, packed_like
from glmflash.ops.int8.kernel import Kernel, PackedWeight

__all__ = ["ONEDNN", "has_wide_vnni"]

#: Ends the operator's arguments: no bias; sums as float32, scaled by 1 from 0; nothing done to them.
_AS_FLOATS: tuple[object, ...] = (None, 1.0, 0, torch.float32, "none", [], "")


def __dir__() -> list[str]:
    return __all__


class _OnednnWeight:
    """A weight in a blocked layout of oneDNN's choice."""

    def __init__(self, packed: Tensor, scale: Tensor, shape: tuple[int, int]) -> None:
        self._packed, self._shape = packed, shape
        self._scale, self._zeros = scale, torch.zeros(1, dtype=torch.long).expand(len(scale))  # one for all
        self._levels = _levels()
        self._product = _product()

    @property
    def nbytes(self) -> int:
        packed: int = torch.ops.mkldnn._nbytes(self._packed)  # blocks that are not full, and sums, included
        return packed + self._scale.nbytes

    def linear(self, x: Tensor, *, split: float) -> Tensor:
        return by_levels(x, self._multiply, self._shape[0], levels=self._levels, split=split)

    def few(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return few_rows(x, self._multiply_few, self._levels)

    def unpack(self) -> Tensor:
        weight: Tensor = self._packed.to_dense().T.contiguous()  # (O, I)
        return weight

    def another(self, weight: Tensor, scale: Tensor) -> PackedWeight:
        weight = weight.contiguous()
        aligned = weight.dtype == torch.int8 and weight.storage_offset() % 4 == 0
        packed = packed_like(weight, self._packed) if aligned and self._is_template else _pack(weight)
        return _OnednnWeight(packed, scale, self._shape)

    @cached_property
    def _is_template(self) -> bool:
        """Whether others of its shape may be packed as copies of it that are written over."""

        def multiply(rows: Tensor, packed: Tensor) -> Tensor:
            return _OnednnWeight(packed, torch.ones(self._shape[0]), self._shape)._multiply(rows)

        return can_be_packed_like(self._packed, multiply)

    def _multiply(self, rows: Tensor) -> Tensor:
        return self._multiply_whole(rows.round().add_(self._levels + 1).to(torch.uint8))

    def _multiply_few(self, rows: Tensor) -> list[Tensor]:
        whole = np.rint(rows.numpy())
        np.add(whole, np.float32(self._levels + 1), out=whole)
        return [self._multiply_whole(torch.from_numpy(whole.astype(np.uint8)))]

    def _multiply_whole(self, rows: Tensor) -> Tensor:
        zero = self._levels + 1  # the zero point puts -levels at 1: activations are unsigned here
        return self._product(rows, 1.0, zero, self._packed, self._scale, self._zeros, *_AS_FLOATS)


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)  # (I, O), opaque
    return packed


def _product() -> Callable[..., Tensor]:
    """The operator itself: to find it by its name at each product takes a tenth of a millisecond.

    It takes unsigned rows. For signed ones oneDNN has only its plain loops, hundreds of times slower.
    """
    found: Callable[..., Tensor] = torch.ops.onednn.qlinear_pointwise.default
    return found


def has_wide_vnni() -> bool:
    """Whether oneDNN multiplies INT8 in registers of 512 bits, by AVX-512 VNNI or in the tiles of AMX.

    For processors with less its kernels take longer than FBGEMM's; see docs/explanation/int8.md.
    """
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and ONEDNN.why_not(torch.device("cpu")) is None and _levels() == 127


@cache
def _levels() -> int:
    """127, or 63 where the processor adds pairs of products in 16 bits; see the same in fbgemm.py."""
    packed = _pack(torch.full((1, 64), 127, dtype=torch.int8))
    rows = torch.full((1, 64), 127 + 128, dtype=torch.uint8)
    out = _product()(rows, 1.0, 128, packed, torch.ones(1), torch.zeros(1, dtype=torch.long), *_AS_FLOATS)
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
    rows, columns = weight.shape
    return _OnednnWeight(_pack(weight), scale, (rows, columns))


def _nbytes(rows: int, columns: int) -> int:
    block, beside = _block()
    padded, wide = -(-rows // block) * block, -(-columns // block) * block
    return padded * (wide + beside) + 4 * rows  # and for each row its scale


@cache
def _block() -> tuple[int, int]:
    """Rows and columns of a block, and bytes beside each of its rows, for its sum; 1 and 0 without blocks."""
    smallest: int = torch.ops.mkldnn._nbytes(_pack(torch.zeros(1, 1, dtype=torch.int8)))
    return (64, 4) if smallest > 1 else (1, 0)


ONEDNN = Kernel("onednn", _why_not, _packed, _nbytes)
