"""INT8 products on x86 processors by FBGEMM, the kernels behind PyTorch's quantised operators."""

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glmflash.ops.int8.activations import by_levels, few_rows
from glmflash.ops.int8.kernel import Kernel, PackedWeight

__all__ = ["FBGEMM"]

_ENGINES = ("x86", "fbgemm")
_HEIGHT = 2**15  # rows packed at once: the time that packing takes grows faster than they do


def __dir__() -> list[str]:
    return __all__


class _FbgemmWeight:
    """A weight in FBGEMM's blocked layout; PyTorch owns the memory."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self._shape = tuple(weight.shape)
        height = -(-len(weight) // max(1, -(-len(weight) // _HEIGHT)))  # as equal as can be
        pairs = zip(weight.split(height), scale.split(height), strict=True)
        self._packed = [_pack(*pair) for pair in pairs]
        self._levels = _levels()
        self._product = _product()

    @property
    def nbytes(self) -> int:
        return _nbytes(*self._shape)

    def linear(self, x: Tensor, *, split: float) -> Tensor:
        return by_levels(x, self._multiply, self._shape[0], levels=self._levels, split=split)

    def few(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return few_rows(x, self._multiply_by_parts, self._levels)

    def unpack(self) -> Tensor:
        parts = (torch.ops.quantized.linear_unpack(packed)[0].int_repr() for packed in self._packed)
        if len(self._packed) == 1:
            whole: Tensor = next(parts)  # (O, I)
            return whole
        out = torch.empty(
            self._shape, dtype=torch.int8
        )  # (O, I), filled part by part: tall weights are large
        start = 0
        for part in parts:
            out[start : start + len(part)] = part
            start += len(part)
        return out

    def _multiply(self, rows: Tensor) -> Tensor:
        parts = self._multiply_by_parts(rows)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _multiply_by_parts(self, rows: Tensor) -> list[Tensor]:
        # The zero point puts -levels at 1: activations are unsigned here.
        multiply, zero = self._product, self._levels + 1
        return [multiply(rows, 1.0, zero, packed) for packed in self._packed]


def _pack(weight: Tensor, scale: Tensor) -> object:
    with warnings.catch_warnings():  # of quantised dtypes going away some day: `why_not` will say so then
        warnings.simplefilter("ignore")
        stored = torch._empty_per_channel_affine_quantized(
            weight.shape,
            scales=scale.double(),
            zero_points=torch.zeros(len(scale), dtype=torch.long),
            axis=0,
            dtype=torch.qint8,
        )
    # Written in place: the public constructors copy, and the largest weights are what peak memory is made of.
    storage, shape = stored.untyped_storage(), stored.shape
    torch.empty(0, dtype=torch.int8).set_(storage, 0, shape, stored.stride()).copy_(weight)
    return torch.ops.quantized.linear_prepack(stored, None)


def _product() -> Callable[..., Tensor]:
    """The operator itself: to find it by its name at each product takes a tenth of a millisecond."""
    found: Callable[..., Tensor] = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
    return found


@cache
def _levels() -> int:
    """127 where products of 8 bits and 8 bits are summed in 32 bits (VNNI), else 63.

    Older processors add pairs of products in 16 bits, and 2 * 255 * 127 does not fit. Tried out, not looked
    up: it is FBGEMM that chooses its instructions.
    """
    packed = _pack(torch.full((1, 64), 127, dtype=torch.int8), torch.ones(1))
    rows = torch.full((1, 64), 127.0)
    out = _product()(rows, 1.0, 128, packed)
    return 127 if out.item() == 64 * 127 * 127 else 63


def _why_not(device: torch.device) -> str | None:
    if device.type != "cpu":
        return "it computes on CPUs only"
    engine = torch.backends.quantized.engine
    if engine not in _ENGINES:
        return f"torch.backends.quantized.engine is {engine!r}; allowed: {', '.join(map(repr, _ENGINES))}"
    try:
        _levels()
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        return f"this PyTorch has none: {error}"
    return None


def _packed(weight: Tensor, scale: Tensor) -> PackedWeight:
    return _FbgemmWeight(weight, scale)


def _nbytes(rows: int, columns: int) -> int:
    return rows * columns + 8 * rows  # and for each row its scale and its sum


FBGEMM = Kernel("fbgemm", _why_not, _packed, _nbytes)
