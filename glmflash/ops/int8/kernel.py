"""What a kernel for INT8 products is: whether it runs here, and a weight packed for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["FewRowsWeight", "Kernel", "PackedWeight", "TemplateWeight"]


def __dir__() -> list[str]:
    return __all__


class PackedWeight(Protocol):
    """An INT8 weight with a scale per row, laid out as one kernel wants it."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""

    def linear(self, x: Tensor, *, split: float) -> Tensor:
        """Multiply rows with the weight: `x @ (weight * scale[:, None]).T`, nearly.

        What a row comes to does not depend on the rows beside it: to the last bit, but for the reference,
        whose sums are floating and differ by a few parts in a million.

        Args:
            x: float32, bfloat16 or float16.
            split: Rows whose largest magnitude is more than `split` times their root mean square count as
                rows with outliers, and are multiplied in two parts, nearly exactly; see `by_levels`. With 0
                these are all rows. A kernel that does not round activations may ignore it.

        Shapes:
            x (N, I) -> (N, O) float32
        """

    def unpack(self) -> Tensor:
        """The INT8 weight, exactly; not to be written to.

        Shapes:
            () -> (O, I) int8, contiguous, on the kernel's device
        """


@runtime_checkable
class FewRowsWeight(PackedWeight, Protocol):
    """A `PackedWeight` of a kernel for CPUs, which also takes a few rows from NumPy."""

    def few(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """`linear` with `split` 0, to the same bits; what is given back is the caller's to write to.

        Shapes:
            x (N, I), N at most `FEW` -> (N, O)
        """


@runtime_checkable
class TemplateWeight(PackedWeight, Protocol):
    """A `PackedWeight` from whose layout others of its shape are packed sooner."""

    def another(self, weight: Tensor, scale: Tensor) -> PackedWeight:
        """What the kernel's `pack` gives.

        Shapes:
            weight (O, I) int8, of this one's shape, scale (O,) float32
        """


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way to multiply with INT8 weights.

    Args:
        name: As it stands in the card of a quantised model.
        why_not: Why the kernel does not run on a device here, in words for people; None if it does. Asked
            once for each device, so it may try the kernel out.
        pack: Lays an INT8 weight (O, I) and its float32 scales (O,), both on the device, out for the kernel.
            They may be freed afterwards.
        nbytes: Bytes that a packed weight of O rows and I columns holds, without making one.
    """

    name: str
    why_not: Callable[[torch.device], str | None]
    pack: Callable[[Tensor, Tensor], PackedWeight]
    nbytes: Callable[[int, int], int]
