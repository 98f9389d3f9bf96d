"""A linear layer with INT8 weights, packed for the kernel that serves it."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from glmflash.ops.int8 import choose_kernel
from glmflash.quant.config import SCHEMES
from glmflash.quant.rows import QuantizedRows

__all__ = ["QuantizedLinear"]


def __dir__() -> list[str]:
    return __all__


class QuantizedLinear(nn.Module):
    """`nn.Linear` whose weight is INT8, with a scale per output.

    Args:
        rows: The weight, on the device where it is to stay. It may be freed afterwards.
        bias: (O,) or None.
        scheme: "int8" or "w8a8"; see `QuantizationConfig`.
        kernel: A kernel's name; None takes the best that runs on the device.
        source_bytes: Bytes of the weight before, for the card.

    Example:
        >>> from glmflash.quant import quantize_rows
        >>> layer = QuantizedLinear(quantize_rows(torch.eye(4)), None, scheme="int8")
        >>> layer(torch.ones(2, 4)).round(decimals=3).tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """

    weight_scale: Tensor
    weight_sum: Tensor

    def __init__(
        self,
        rows: QuantizedRows,
        bias: Tensor | None,
        *,
        scheme: str,
        kernel: str | None = None,
        source_bytes: int | None = None,
    ) -> None:
        super().__init__()
        chosen = choose_kernel(rows.weight.device, kernel)
        self.out_features, self.in_features = rows.weight.shape
        self.scheme, self.kernel, self.error = scheme, chosen.name, rows.error
        self.source_bytes = 2 * rows.weight.numel() if source_bytes is None else source_bytes
        self.packed = chosen.pack(rows.weight, rows.scale)
        self.register_buffer("weight_scale", rows.scale)  # (O,) float32
        # What is packed is no tensor that a fingerprint of the model would find; its row sums stand for it.
        total = rows.weight.sum(1, dtype=torch.int32)  # (O,)
        self.register_buffer("weight_sum", total, persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight, (rows, columns)."""
        return self.out_features, self.in_features

    @property
    def nbytes(self) -> int:
        """Bytes of the weight as it is held, scales included."""
        return self.packed.nbytes + self.weight_scale.nbytes + self.weight_sum.nbytes

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., I) -> (..., O), in the dtype of `x`; sums are made in 32 bits."""
        out = self.packed.linear(x.flatten(0, -2), split=SCHEMES[self.scheme])  # (N, O) float32
        if self.bias is not None:
            out.add_(self.bias)
        return out.to(x.dtype).unflatten(0, x.shape[:-1])

    def unpack(self) -> Tensor:
        """The INT8 weight, exactly; a copy or a view. Shapes: () -> (O, I) int8."""
        return self.packed.unpack()

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"scheme={self.scheme!r}, kernel={self.kernel!r}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002
        """Move to another device: packed again, by the best kernel there. Scales stay float32."""
        scale, total, before = self.weight_scale, self.weight_sum, self.weight_scale.device
        super()._apply(fn, recurse)
        device = self.weight_scale.device
        if device.type == "meta":
            raise NotImplementedError("an INT8 layer cannot be moved to the meta device")
        self.weight_scale, self.weight_sum = scale.to(device), total.to(device)
        if device != before:
            chosen = choose_kernel(device)
            self.packed, self.kernel = chosen.pack(self.unpack().to(device), self.weight_scale), chosen.name
        return self
