"""Rows and a weight → their products, by the kernel that is quickest for so many rows.

What was measured, and on what, is in docs/explanation/performance.md.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["linear", "widened_bytes"]

_LARGE = 2**22  # elements of a float32 weight from which the kernel matters
_LONG = 8192  # columns of a float32 weight from which MKL is the quicker one in places
_PART = 2**21  # elements of a bfloat16 weight made float32 at once: 8 MB, which stay in the cache


def __dir__() -> list[str]:
    return __all__


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`, only quicker on CPUs when no gradient is recorded.

    float32: oneDNN takes half to nine tenths of the time of the MKL that `F.linear` calls, least where rows
    are few, because it reads the weight at the speed of the memory.

    bfloat16 on a processor without instructions for it: PyTorch would emulate them, at a third of the speed
    of float32. Here the weight is made float32 part by part, in one small buffer, and each product is rounded
    once. One to three rows are each a matrix times a vector, for which PyTorch has a quick kernel.

    bfloat16 elsewhere: only one row is special.

    Shapes:
        x (N, I), weight (O, I), bias (O,) -> (N, O)
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or not len(x):
        return F.linear(x, weight, bias)
    if x.dtype == torch.float32 and weight.numel() >= _LARGE:
        return _float32(x, weight, bias)
    if x.dtype != torch.bfloat16 or weight.dtype != torch.bfloat16:
        return F.linear(x, weight, bias)
    unit = _bfloat16_unit()
    if len(x) <= {"none": 3, "vector": 0, "matrix": 1}[unit]:
        return torch.stack([weight.mv(row) if bias is None else torch.addmv(bias, weight, row) for row in x])
    if unit == "none":
        return _by_parts(x, weight, bias)
    if len(x) == 1 and unit == "vector":  # two rows take less time than one
        return F.linear(F.pad(x, (0, 0, 0, 1)), weight, bias)[:1]
    return F.linear(x, weight, bias)


def widened_bytes(dtype: torch.dtype, device: torch.device) -> int:
    """Bytes that a product takes beside rows and results: a part of its weight, twice, as oneDNN has its own.

    Example:
        >>> widened_bytes(torch.float32, torch.device("cpu"))
        0
    """
    by_parts = dtype == torch.bfloat16 and device.type == "cpu" and _bfloat16_unit() == "none"
    return 2 * _PART * torch.float32.itemsize if by_parts else 0


def _float32(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A product by oneDNN, with the weight as the weight or as the rows, or else by MKL."""
    kernel, rows, long = _onednn(), len(x), weight.shape[1] > _LONG
    if kernel is None or (long and (rows == 1 or (rows > 256 and not _wide()))):
        return F.linear(x, weight, bias)
    if not 8 < rows < 96 or not (long or _wide()):
        return kernel(x, weight, bias, "none", [], "")
    # The weight as the rows and x as the weight: so the weight is read once, as it lies, if the rows of x
    # fill registers.
    filled = F.pad(x, (0, 0, 0, -rows % 16))
    out = kernel(weight, filled, None, "none", [], "")[:, :rows].T.contiguous()  # (N, O)
    return out if bias is None else out.add_(bias)


def _by_parts(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Products in float32 with a weight that is made float32 a few of its rows at a time."""
    height = max(1, _PART // weight.shape[1])
    exact, out = x.float(), x.new_empty(len(x), len(weight))  # (N, I), (N, O)
    buffer = torch.empty(min(height, len(weight)), weight.shape[1])
    shifts = weight.split(height) if bias is None else bias.float().split(height)
    for part, place, shift in zip(weight.split(height), out.split(height, 1), shifts, strict=True):
        wide = buffer[: len(part)].copy_(part)
        place.copy_(_float32(exact, wide, None if bias is None else shift))
    return out


@cache
def _wide() -> bool:
    """Whether registers hold 16 numbers."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def _bfloat16_unit() -> Literal["none", "vector", "matrix"]:
    """Which instructions there are for bfloat16; with AVX-512 alone oneDNN would emulate them."""
    try:
        supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):
        return "none"
    if not supported or not _wide():
        return "matrix" if supported else "none"
    if _has("amx_bf16", "_is_amx_tile_supported"):
        return "matrix"
    return "vector" if _has("avx512_bf16", "_is_avx512_bf16_supported") else "none"


def _has(flag: str, older: str) -> bool:
    """Whether the processor has instructions; before PyTorch 2.13 by the name of a private function."""
    flags = getattr(torch.cpu, "get_capabilities", None)
    return bool(flags().get(flag) if flags else getattr(torch.cpu, older, lambda: False)())


@cache
def _onednn() -> Callable[..., Tensor] | None:
    """The operator that PyTorch's compiler uses; it has no public name, so it may be missing some day."""
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)
