"""Rows and a weight → their products, by the kernel that is quickest for so many rows."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["linear"]

_FEW = range(4, 129)  # rows; measured with 1 to 512, see docs/explanation/performance.md
_LARGE = 2**22  # elements of a weight from which it matters


def __dir__() -> list[str]:
    return __all__


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`, only quicker on a CPU for one row of bfloat16 and for a few rows of float32.

    One row of bfloat16 is a matrix times a vector: PyTorch's kernel for that reads the weights up to twice as
    fast as its kernel for many rows does. With 4 to 128 rows of float32, as when several answers go on
    together or a short question follows a picture, oneDNN takes half to two thirds of the time of the MKL
    that `F.linear` calls. Elsewhere they are as fast as each other.

    Shapes:
        x (N, I), weight (O, I), bias (O,) -> (N, O)
    """
    if x.device.type != "cpu":
        return F.linear(x, weight, bias)
    if x.dtype == torch.bfloat16 and len(x) == 1:
        return weight.mv(x[0])[None] if bias is None else torch.addmv(bias, weight, x[0])[None]
    few = x.dtype == torch.float32 and len(x) in _FEW and weight.numel() >= _LARGE
    kernel = None if not few or torch.is_grad_enabled() else _onednn()  # it has no derivative
    if kernel is None:
        return F.linear(x, weight, bias)
    if not _wide():
        return kernel(x, weight, bias, "none", [], "")
    # The weight as the rows and x as the weight: so the weight is read once, as it lies, if the rows of x
    # fill registers.
    filled = F.pad(x, (0, 0, 0, -len(x) % 16))
    out = kernel(weight, filled, None, "none", [], "")[:, : len(x)].T.contiguous()  # (N, O)
    return out if bias is None else out.add_(bias)


@cache
def _wide() -> bool:
    """Whether registers hold 16 numbers; with 8, the other way round is no quicker."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def _onednn() -> Callable[..., Tensor] | None:
    """The operator that PyTorch's compiler uses; it has no public name, so it may be missing some day."""
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)
