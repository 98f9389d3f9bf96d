"""INT8 products on CUDA devices: few rows by one Triton kernel, more by cuBLAS."""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from glmflash.ops.int8.activations import have_outliers, row_peaks
from glmflash.ops.int8.cuda import CUBLAS, CublasWeight
from glmflash.ops.int8.kernel import Kernel, PackedWeight

__all__ = ["TRITON"]

_LEVELS = 127
_FEW = 16  # rows that one block multiplies: the least that tensor cores take
_OUTPUTS, _INPUTS = 32, 256  # of the weight that one block reads at once


def __dir__() -> list[str]:
    return __all__


class _TritonWeight:
    """The weight as cuBLAS has it, read by both kernels, which compute the same, step by step."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self._many = CublasWeight(weight, scale)

    @property
    def nbytes(self) -> int:
        return self._many.nbytes

    def linear(self, x: Tensor, *, split: float) -> Tensor:
        if not 0 < len(x) <= _FEW:
            return self._many.linear(x, split=split)
        return _few_rows(x, self._many, split)

    def unpack(self) -> Tensor:
        return self._many.unpack()


def _few_rows(x: Tensor, weight: CublasWeight, split: float) -> Tensor:
    """What `by_levels` comes to, in a few launches instead of a dozen."""
    (outputs, inputs), whole = weight.shape, split == 0
    x = x.contiguous()
    peak = row_peaks(x.float(), _LEVELS)  # (N, 1)
    apart = peak  # not read where all rows are split
    if not whole:
        apart = have_outliers(x * (peak.reciprocal() * _LEVELS), _LEVELS, split)  # (N,)
    out = x.new_empty(len(x), outputs, dtype=torch.float32)  # (N, O)
    with torch.cuda.device_of(x):
        _kernel()[(-(-outputs // _OUTPUTS),)](
            x, peak, apart, weight.stored, weight.scale, out, len(x), outputs, inputs, weight.stored.shape[1],
            whole, _FEW, _OUTPUTS, _INPUTS, num_warps=4, num_stages=4, enable_fp_fusion=False,
        )  # fmt: skip
    return out


@cache
def _kernel() -> Mapping[tuple[int], Callable[..., None]]:
    """The kernel, to be had for a grid of blocks of outputs.

    Whole numbers, divisions and roundings are as PyTorch makes them, and compiled without fusing products
    with sums, so that a row comes out as cuBLAS and `by_levels` give it.
    """
    import triton  # type: ignore[import-not-found]  # comes with PyTorch for CUDA on Linux only
    import triton.language as tl  # type: ignore[import-not-found]

    def kernel(  # type: ignore[no-untyped-def]  # noqa: ANN202 - Triton has types of its own
        x, peak, apart, weight, scale, out, N, O, I, width,  # noqa: ANN001, E741
        WHOLE: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
    ):  # fmt: skip
        row = tl.arange(0, ROWS)
        output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
        largest = tl.load(peak + row, mask=row < N, other=1.0)
        up = (tl.math.div_rn(1.0, largest) * 127.0)[:, None]
        high_sum = tl.full((ROWS, OUTPUTS), 0, tl.int32)
        low_sum = tl.full((ROWS, OUTPUTS), 0, tl.int32)
        for start in range(0, I, INPUTS):
            column = start + tl.arange(0, INPUTS)
            inside = (row < N)[:, None] & (column < I)[None, :]
            level = tl.load(x + row[:, None] * I + column[None, :], mask=inside, other=0.0)
            level = level.to(tl.float32) * up  # (ROWS, INPUTS)
            high = (level + 12582912.0) - 12582912.0  # 1.5 * 2**23, which leaves no bits for fractions
            low = (level - high) * 254.0
            low = (low + 12582912.0) - 12582912.0
            inside = (output < O)[:, None] & (column < I)[None, :]
            place = weight + output.to(tl.int64)[:, None] * width + column[None, :]
            part = tl.trans(tl.load(place, mask=inside, other=0))  # (INPUTS, OUTPUTS)
            high_sum = tl.dot(high.to(tl.int8), part, high_sum, out_dtype=tl.int32)
            low_sum = tl.dot(low.to(tl.int8), part, low_sum, out_dtype=tl.int32)
        size = tl.load(scale + output, mask=output < O, other=0.0)[None, :]
        total, rest = high_sum.to(tl.float32) * size, low_sum.to(tl.float32) * size
        if not WHOLE:
            split = tl.load(apart + row, mask=row < N, other=0) != 0
            rest = tl.where(split[:, None], rest, 0.0)
        total += rest * tl.full((ROWS, OUTPUTS), 0.5 / 127, tl.float32)
        total *= (largest * (1 / 127))[:, None]
        inside = (row < N)[:, None] & (output < O)[None, :]
        tl.store(out + row[:, None] * O + output[None, :], total, mask=inside)

    compiled: Mapping[tuple[int], Callable[..., None]] = triton.jit(kernel)
    return compiled


def _why_not(device: torch.device) -> str | None:
    reason = CUBLAS.why_not(device)  # which multiplies more rows than a few
    if reason is not None:
        return reason
    if torch.version.cuda and torch.cuda.get_device_capability(device) < (8, 0):
        return "Triton multiplies INT8 on compute capability 8.0 or newer only"
    return _tried(device)


def _tried(device: torch.device) -> str | None:
    """What goes wrong with a small product, if anything. It must equal that of cuBLAS to the last bit."""
    weight = torch.arange(40 * 300, device=device).remainder(255).sub(127).to(torch.int8).view(40, 300)
    packed = CublasWeight(weight, torch.linspace(0.1, 1.0, 40, device=device))
    x = torch.linspace(-3.0, 2.0, 5 * 300, device=device).square().view(5, 300)
    x[1::2, 7] = 1e3
    try:
        equal = all(
            torch.equal(_few_rows(x, packed, split), packed.linear(x, split=split)) for split in (0, 8)
        )
    except Exception as error:  # noqa: BLE001 - a compiler stands behind it, and a package that may be missing
        return f"{type(error).__name__}: {error}"
    return None if equal else "its results differ from those of cuBLAS on this device"


def _packed(weight: Tensor, scale: Tensor) -> PackedWeight:
    return _TritonWeight(weight, scale)


TRITON = Kernel("triton", _why_not, _packed, CUBLAS.nbytes)
