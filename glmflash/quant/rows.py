"""A floating weight → INT8 rows with a scale each, and how far they are from it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glmflash.errors import ParameterError

__all__ = ["QuantizedRows", "quantize_rows"]

_LEVELS = 127
_PART = {"cpu": 2**17}  # elements looked at at once: they stay in cache
_LARGE_PART = 2**24  # on other devices, where it is launches that cost


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class QuantizedRows:
    """A weight in INT8: row r stands for `weight[r] * scale[r]`.

    Args:
        weight: (O, I) int8, within -127 to 127.
        scale: (O,) float32.
        error: Relative error: the norm of what rounding changed, over the norm of the weight. 0 if unknown.
    """

    weight: Tensor
    scale: Tensor
    error: float


def quantize_rows(weight: Tensor) -> QuantizedRows:
    """Round each row to 255 levels, symmetric about zero; its largest magnitude is the last level.

    No element moves by more than half a level. A row does not depend on its neighbours, nor on the device.
    Temporaries are a few rows, so peak memory is the weight and its INT8 form.

    Shapes:
        weight (O, I), any floating dtype -> weight (O, I) int8, scale (O,) float32

    Raises:
        ParameterError: If the weight is no floating matrix, has no memory, or is not finite in float32.

    Example:
        >>> quantize_rows(torch.tensor([[0.5, -1.27]])).weight.tolist()
        [[50, -127]]
    """
    _check(weight)
    out = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)  # (O, I)
    scale = torch.empty(len(weight), dtype=torch.float32, device=weight.device)  # (O,)
    last = scale.new_tensor(_LEVELS)  # by a Python number CUDA would multiply with its inverse: other scales
    rows = max(1, _PART.get(weight.device.type, _LARGE_PART) // weight.shape[1])
    lost = torch.zeros((), dtype=torch.float64, device=weight.device)
    size = lost.clone()
    for part, ints, scales in zip(weight.split(rows), out.split(rows), scale.split(rows), strict=True):
        exact = part.to(torch.float32, copy=True)  # (R, I)
        # Several times faster than `aminmax`.
        torch.maximum(exact.amax(1), exact.amin(1).neg_(), out=scales).div_(last)
        # Below the smallest normal number quotients are not exact enough; of a row of zeros it is any scale.
        scales.clamp_min_(torch.finfo(torch.float32).tiny)
        exact.div_(scales[:, None])
        levels = exact.round()
        ints.copy_(levels)
        # Norms are taken in units of the scale, where squares neither overflow nor vanish.
        weights = scales.double().square_()  # (R,)
        size += weights.dot(torch.linalg.vector_norm(exact, dim=1).double().square_())
        lost += weights.dot(torch.linalg.vector_norm(exact.sub_(levels), dim=1).double().square_())
    if not scale.isfinite().all():
        raise ParameterError("weight", "holds numbers that are not finite in float32; allowed: finite ones")
    return QuantizedRows(out, scale, (lost.item() / size.item()) ** 0.5 if size else 0.0)


def _check(weight: Tensor) -> None:
    if weight.is_floating_point() and weight.ndim == 2 and weight.numel() and not weight.is_meta:
        return
    shape = "x".join(map(str, weight.shape)) or "scalar"
    given = f"is {shape} {str(weight.dtype).removeprefix('torch.')} on {weight.device.type!r}"
    raise ParameterError("weight", f"{given}; allowed: a floating matrix that is not empty, on a CPU or CUDA")
