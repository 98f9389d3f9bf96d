"""A linear layer with INT8 weights, packed for the kernel that serves it."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from glmflash.errors import ParameterError
from glmflash.ops.int8 import PackedWeight, Packer
from glmflash.ops.int8.row_sums import row_sums
from glmflash.quant.config import SCHEMES, QuantizationConfig
from glmflash.quant.rows import QuantizedRows

__all__ = ["QuantizedLinear"]


def __dir__() -> list[str]:
    return __all__


class QuantizedLinear(nn.Module):
    """`nn.Linear` whose weight is INT8, with a scale per output.

    It computes, and passes no gradient on. Copies, pickles and `state_dict` hold the INT8 weight, not the
    packed one. Casting the module leaves weight and scales as they are.

    Args:
        rows: The weight, on the device where it is to stay. It may be freed afterwards.
        bias: (O,) or None.
        scheme: "int8" or "w8a8"; see `QuantizationConfig`.
        kernel: A kernel's name; None takes the best that runs on the device.
        packed: The weight as that kernel has packed it already.
        source_bytes: Bytes of the weight before, for the card.

    Raises:
        ParameterError: If there is no such scheme, or no such kernel for the device.

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
        packed: PackedWeight | None = None,
        source_bytes: int | None = None,
    ) -> None:
        super().__init__()
        QuantizationConfig(scheme=scheme, kernel=kernel)  # checks them
        self.out_features, self.in_features = rows.weight.shape
        self.scheme, self.error = scheme, rows.error
        self.source_bytes = 2 * rows.weight.numel() if source_bytes is None else source_bytes
        self.packed: PackedWeight
        self.packed, self.kernel = (
            (packed, kernel) if packed and kernel else Packer(kernel).pack(rows.weight, rows.scale)
        )
        self.register_buffer("weight_scale", rows.scale)  # (O,) float32
        # What is packed is no tensor that a fingerprint of the model would find; its row sums stand for it.
        self.register_buffer("weight_sum", row_sums(rows.weight), persistent=False)  # (O,) int32
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
        """Multiply; sums are made in 32 bits.

        Shapes:
            x (..., I), floating -> (..., O), dtype of `x`

        Raises:
            ParameterError: If `x` has another width, is not floating, or wants a gradient.
        """
        self.check(x)
        rows = x.reshape(-1, self.in_features)  # (N, I)
        out = self.packed.linear(rows, split=SCHEMES[self.scheme])  # (N, O) float32
        if self.bias is not None:
            out.add_(self.bias)
        return out.to(x.dtype).view(*x.shape[:-1], self.out_features)

    def check(self, x: Tensor) -> None:
        """Refuse what `forward` refuses."""
        if x.shape[-1] != self.in_features or not x.is_floating_point():
            raise ParameterError(
                "x", f"is {tuple(x.shape)} {x.dtype}; allowed: (..., {self.in_features}) floats"
            )
        if x.requires_grad and torch.is_grad_enabled():
            raise ParameterError(
                "x", "wants a gradient, and an INT8 layer has none; call it under torch.inference_mode()"
            )

    def unpack(self) -> Tensor:
        """The INT8 weight, exactly; a copy or a view. Shapes: () -> (O, I) int8."""
        return self.packed.unpack()

    def scale_(self, factor: float, rows: slice | None = None) -> None:
        """Multiply rows of the weight, all by default, by way of their scales; the bias stays.

        The INT8 numbers stay too, and so does the error, but they are packed again.
        """
        scale = self.weight_scale.clone()
        scale[slice(None) if rows is None else rows] *= factor
        self.weight_scale = scale
        self.packed, _ = Packer(self.kernel).pack(self.unpack(), scale)

    def extra_repr(self) -> str:
        """What `repr` says: sizes, scheme and kernel."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, bias={self.bias is not None}, scheme={self.scheme!r}, kernel={self.kernel!r}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device: packed again, by the best kernel there. Scales stay float32."""
        scale, total = self.weight_scale, self.weight_sum
        device = fn(scale[:0]).device
        if device.type == "meta":
            raise ParameterError(
                "device", "is 'meta', where packed INT8 weights cannot be; allowed: CPU or CUDA"
            )
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        self.weight_scale, self.weight_sum = scale.to(device), total.to(device)
        if device != scale.device:
            self.packed, self.kernel = Packer().pack(self.unpack().to(device), self.weight_scale)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.unpack()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:  # noqa: ANN401
        """Others are torch's own; the fifth takes messages about what is wrong."""
        problems: list[str] = others[4]
        weight = state_dict.get(prefix + "weight")
        if weight is None or weight.dtype != torch.int8 or weight.shape != self.shape:
            given = "missing" if weight is None else f"{tuple(weight.shape)} {weight.dtype}"
            problems.append(f"{prefix}weight is {given}; expected {self.shape} torch.int8")
            return
        rest = {name: value for name, value in state_dict.items() if name != prefix + "weight"}
        super()._load_from_state_dict(rest, prefix, *others)
        weight = weight.to(self.weight_scale.device)
        self.packed, self.kernel = Packer(self.kernel).pack(weight, self.weight_scale)
        self.weight_sum.copy_(row_sums(weight))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"packed": self.unpack()}  # packed weights differ from machine to machine

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch's
        weight = state["packed"]
        try:
            self.packed, self.kernel = Packer(self.kernel).pack(weight, self.weight_scale)
        except ParameterError:  # it does not run on this machine
            self.packed, self.kernel = Packer().pack(weight, self.weight_scale)
