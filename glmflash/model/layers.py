"""The small layers: RMSNorm, a linear that is quick for one row, and the two spellings of the gated MLP."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmflash.ops.linear import linear

__all__ = ["DecoderNorm", "FusedGatedMlp", "GatedMlp", "Linear", "RMSNorm"]


def __dir__() -> list[str]:
    return __all__


class RMSNorm(nn.Module):
    """Scale each row to unit root mean square: `x / sqrt(mean(x^2) + eps) * weight`.

    Statistics are float32 whatever the dtype of `x`: squares overflow float16.

    Source: arXiv 1910.07467; rounding order as in transformers glm4v, `Glm4vRMSNorm`.
    """

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., size) -> (..., size)."""
        wide = x.float()
        scale = torch.rsqrt(self._sum(wide.square()) / x.shape[-1] + self.eps)
        return (wide * scale).to(x.dtype).mul_(self.weight)

    def _sum(self, squares: Tensor) -> Tensor:
        return squares.sum(-1, keepdim=True)


class DecoderNorm(RMSNorm):
    """An RMSNorm that sums in NumPy's order where decode.py does, so that both come to the same bits."""

    def _sum(self, squares: Tensor) -> Tensor:
        if squares.device.type != "cpu" or squares.requires_grad:
            return super()._sum(squares)
        return torch.from_numpy(np.add.reduce(squares.numpy(), axis=-1, keepdims=True))


class Linear(nn.Linear):
    """`nn.Linear` by `ops.linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (N, in_features) -> (N, out_features)."""
        return linear(x, self.weight, self.bias)


class GatedMlp(nn.Module):
    """`down(silu(gate(x)) * up(x))` with three matrices, as the vision checkpoint stores it."""

    def __init__(self, size: int, inner: int, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = Linear(size, inner, bias=bias)
        self.up_proj = Linear(size, inner, bias=bias)
        self.down_proj = Linear(inner, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., size) -> (..., size)."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)).mul_(self.up_proj(x)))
        return out


class FusedGatedMlp(nn.Module):
    """The same with gate and up stacked in one matrix, gate rows first, as the text checkpoint stores it."""

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.gate_up_proj = Linear(size, 2 * inner, bias=False)
        self.down_proj = Linear(inner, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., size) -> (..., size)."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        out: Tensor = self.down_proj(F.silu(gate).mul_(up))
        return out
