"""INT8 products on CUDA devices by cuBLAS, with sums in 32-bit whole numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from glmflash.ops.int8.activations import by_levels
from glmflash.ops.int8.kernel import Kernel, PackedWeight

__all__ = ["CUBLAS", "CublasWeight"]

_LEVELS = 127
_ROWS = 32  # at least: the operator takes 17 or more, and the weights are read once either way
_STEP = 8  # rows, inputs and outputs come in multiples of this
_FEW = 64  # rows whose second part costs little: until about 150 are stacked, reading the weights is the work
_TILE = 512  # rows multiplied at once: of few launches, and of memory that stays below a gigabyte


def __dir__() -> list[str]:
    return __all__


class CublasWeight:
    """A weight as it is stored, with zeros around it where cuBLAS wants multiples of 8.

    Sums are exact, so a row's result depends neither on its neighbours nor on their number. For up to 64
    rows, and with `split=0` for any, nothing makes the host wait for the device; else it asks once for each
    512 rows which of them have outliers.

    Args:
        weight: (O, I) int8.
        scale: (O,) float32.

    Example:
        >>> packed = CublasWeight(torch.eye(3, dtype=torch.int8), torch.ones(3))
        >>> packed.linear(torch.tensor([[1.0, -2.0, 0.5]]), split=0).round(decimals=3).tolist()
        [[1.0, -2.0, 0.5]]
    """

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self.shape = weight.shape[0], weight.shape[1]
        self.scale = scale  # (O,)
        self.stored = _padded(weight.contiguous(), _up(self.shape[0]), _up(self.shape[1]))  # (O', I')

    @property
    def nbytes(self) -> int:
        """See `PackedWeight`."""
        return self.stored.nbytes + self.scale.nbytes

    def linear(self, x: Tensor, *, split: float) -> Tensor:
        """See `PackedWeight`. Shapes: x (N, I) -> (N, O) float32."""
        return by_levels(x, self._multiply, self.shape[0], levels=_LEVELS, split=split, few=_FEW, tile=_TILE)

    def unpack(self) -> Tensor:
        """See `PackedWeight`. Shapes: () -> (O, I) int8."""
        rows, columns = self.shape
        return self.stored[:rows, :columns].contiguous()

    def _multiply(self, rows: Tensor) -> Tensor:
        whole = rows.round().to(torch.int8)  # (M, I)
        whole = _padded(whole, max(_ROWS, _up(len(whole))), self.stored.shape[1])  # (M', I')
        sums = torch._int_mm(whole, self.stored.T)  # (M', O') int32
        return sums[: len(rows), : self.shape[0]] * self.scale


def _up(size: int) -> int:
    return max(1, -(-size // _STEP)) * _STEP


def _padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    below, beside = rows - matrix.shape[0], columns - matrix.shape[1]
    return F.pad(matrix, (0, beside, 0, below)) if below or beside else matrix  # (rows, columns)


def _why_not(device: torch.device) -> str | None:
    if device.type != "cuda":
        return "it computes on CUDA devices only"
    if not torch.cuda.is_available():
        return "there is no CUDA device here"
    return _tried(device)


def _tried(device: torch.device) -> str | None:
    """What goes wrong with the largest whole numbers there are, if anything."""
    try:
        packed = CublasWeight(
            torch.full((_STEP, 64), 127, dtype=torch.int8, device=device), torch.ones(_STEP, device=device)
        )
        out = packed.linear(torch.ones(1, 64, device=device), split=0)
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        return f"this PyTorch or device has none: {error}"
    return None if bool((out - 64 * 127).abs().max() < 0.1) else "its sums are not exact on this device"


def _packed(weight: Tensor, scale: Tensor) -> PackedWeight:
    return CublasWeight(weight, scale)


def _nbytes(rows: int, columns: int) -> int:
    return _up(rows) * _up(columns) + 4 * rows


CUBLAS = Kernel("cublas", _why_not, _packed, _nbytes)
