"""Rows and a weight → their products, by the kernel that is quickest for so many rows.

What was measured, and on what, is in docs/explanation/performance.md.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["linear"]

_LARGE = 2**22  # elements of a float32 weight from which the kernel matters
_PART = 2**21  # elements of a bfloat16 weight made float32 at once: 8 MB, which stay in the cache


def __dir__() -> list[str]:
    return __all__


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`, only quicker on CPUs when no gradient is recorded.

    float32: oneDNN takes a third to nine tenths of the time of the MKL that `F.linear` calls, least where
    rows are few, because it reads the weight at the speed of the memory.

    bfloat16, one row, on a processor with tiles (AMX), or a few on one without bfloat16: a matrix times a
    vector, for which PyTorch has a kernel of its own.

    bfloat16 on a processor without instructions for it: PyTorch would emulate them, at a third of the speed
    of float32. Here the weight is made float32 part by part, in one small buffer, and each product is rounded
    once.

    Shapes:
        x (N, I), weight (O, I), bias (O,) -> (N, O)
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or not len(x):
        return F.linear(x, weight, bias)
    if x.dtype == torch.float32 and weight.numel() >= _LARGE:
        return _float32(x, weight, bias)
    if x.dtype != torch.bfloat16 or weight.dtype != torch.bfloat16:
        return F.linear(x, weight, bias)
    native = _native_bfloat16()
    if len(x) <= (3 if not native else _has_tiles()):
        return torch.stack([weight.mv(row) if bias is None else torch.addmv(bias, weight, row) for row in x])
    return F.linear(x, weight, bias) if native else _by_parts(x, weight, bias)


def _float32(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A product by oneDNN, with the weight as the weight or as the rows, or else by MKL."""
    kernel, rows = _onednn(), len(x)
    if kernel is None or (rows > 512 and not _wide()):
        return F.linear(x, weight, bias)
    turned = 8 < rows < 96 and _wide() if rows > 1 else weight.shape[1] > 2 * weight.shape[0]
    if not turned:
        return kernel(x, weight, bias, "none", [], "")
    # The weight as the rows and x as the weight: so the weight is read once, as it lies, if the rows of x
    # fill registers.
    filled = F.pad(x, (0, 0, 0, -rows % 16)) if rows > 1 else x
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
def _native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; with AVX-512 oneDNN says so when it only emulates."""
    try:
        supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):
        return False
    flags = getattr(torch.cpu, "get_capabilities", None)  # PyTorch 2.13 has it
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    return supported and (not _wide() or bool(flags().get("avx512_bf16") if flags else older()))


@cache
def _has_tiles() -> bool:
    """Whether oneDNN multiplies bfloat16 in tiles of 16 rows, which one row does not fill."""
    flags = getattr(torch.cpu, "get_capabilities", None)
    older = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(flags().get("amx_bf16") if flags else older())


@cache
def _onednn() -> Callable[..., Tensor] | None:
    """The operator that PyTorch's compiler uses; it has no public name, so it may be missing some day."""
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)
