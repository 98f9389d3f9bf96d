"""A NumPy array or torch tensor of samples → a fresh uint8 array (H, W, C) of 1, 3 or 4 channels."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from glmflash.errors import ImageError
from glmflash.media.policy import InputPolicy, Limits

__all__ = ["Pixels", "Tensor", "check_size", "levels", "read_array"]

Pixels: TypeAlias = npt.NDArray[np.uint8]
_CHANNELS = (1, 3, 4)


def __dir__() -> list[str]:
    return __all__


@runtime_checkable
class Tensor(Protocol):
    """What is needed of a torch tensor; torch itself is not imported."""

    shape: Sequence[int]

    def detach(self) -> "Tensor":
        """Without its gradient."""

    def cpu(self) -> "Tensor":
        """In main memory."""

    def float(self) -> "Tensor":
        """In float32: NumPy has no bfloat16."""

    def is_floating_point(self) -> bool:
        """Whether samples are fractions."""

    def numpy(self) -> npt.NDArray[np.generic]:
        """The same memory, as an array."""


def read_array(source: object, *, policy: InputPolicy) -> Pixels | None:
    """Copy samples into the one layout that the rest of the room reads; None if `source` is no array.

    Both layouts are understood, (H, W, C) and (C, H, W), and (H, W) for grey. A shape that could be
    either, such as (3, 5, 3), is taken as (H, W, C).

    Args:
        source: uint8 samples 0..255, or float samples 0..1, which become the nearest of 256 levels.
        policy: Gives the most pixels.

    Shapes:
        (H, W) | (H, W, C) | (C, H, W) -> (H, W, C), C in 1, 3, 4

    Raises:
        ImageError: If shape, dtype or values are anything else, NaN and infinity among them.
    """
    if not isinstance(source, np.ndarray | Tensor):
        return None
    order = _order(tuple(source.shape))
    height, width = (source.shape[axis] for axis in order[:2])
    check_size(width, height, policy=policy)
    array = source if isinstance(source, np.ndarray) else _to_numpy(source)
    array = np.asarray(array).transpose(order)
    return levels(array if array.ndim == 3 else array[:, :, None])


def check_size(width: int, height: int, *, policy: Limits) -> None:
    """Refuse a picture without pixels, with too many, or too long a one.

    Raises:
        ImageError: With the size and the limit.
    """
    if width < 1 or height < 1:
        raise ImageError(f"is {width} x {height} pixels; each side needs at least one")
    ratio = policy.max_aspect if isinstance(policy, InputPolicy) else None
    if ratio is not None and max(width, height) > ratio * min(width, height):
        raise ImageError(
            f"is {width} x {height} pixels, and so longer than {ratio} times its other side, which is "
            "InputPolicy.max_aspect; cut it into pieces"
        )
    if width * height > policy.max_pixels:
        raise ImageError(
            f"is {width} x {height} pixels, more than the {policy.max_pixels} of"
            f" {type(policy).__name__}.max_pixels; make the picture smaller, or raise the limit"
        )


def levels(array: npt.NDArray[np.generic]) -> Pixels:
    """Turn samples into the nearest of 256 levels, in new memory.

    Raises:
        ImageError: If they are neither uint8 nor floats within 0..1.

    Example:
        >>> levels(np.array([0.0, 0.5, 1.0])).tolist()
        [0, 128, 255]
    """
    if array.dtype == np.uint8:
        return np.array(array, dtype=np.uint8, order="C")
    if array.dtype.kind != "f":
        raise ImageError(f"has samples of dtype {array.dtype.name}; allowed: uint8, or floats from 0 to 1")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):  # false for NaN too, which min and max hand on
        raise ImageError(f"has float samples from {low:g} to {high:g}; allowed: 0 to 1 (divide by 255?)")
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8, order="C")


def _order(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 2:
        return (0, 1)
    if len(shape) == 3 and shape[2] in _CHANNELS:
        return (0, 1, 2)
    if len(shape) == 3 and shape[0] in _CHANNELS:
        return (1, 2, 0)
    raise ImageError(
        f"has shape {str(shape)[:80]}; allowed: (height, width), (height, width, channels) or "
        "(channels, height, width) with 1, 3 or 4 channels; pass several pictures one by one"
    )


def _to_numpy(tensor: Tensor) -> npt.NDArray[np.generic]:
    tensor = tensor.detach()
    try:
        return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    except (RuntimeError, TypeError):  # sparse, nested, quantized, or on "meta", where there are no samples
        raise ImageError(
            "is a tensor whose samples cannot be read; allowed: a dense tensor that holds data, on any device"
        ) from None
