"""A weight's rows → the blocks in which oneDNN's kernels read them, written by PyTorch.

oneDNN rearranges INT8 weights byte by byte, 0.3 GB/s on one processor. The same by PyTorch, four bytes at a
time, is eight times as fast. But where each byte belongs is oneDNN's own affair: it differs by processor,
shape and number of threads. So a weight is only written into a copy of another that oneDNN has packed, and
only once oneDNN has read a third one back that was written into such a copy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glmflash.ops.int8.reference import REFERENCE
from glmflash.ops.int8.row_sums import row_sums

__all__ = ["can_be_packed_like", "packed_like"]

_ROWS, _COLUMNS = 64, 64  # of a block; four columns of a row lie side by side


def __dir__() -> list[str]:
    return __all__


def can_be_packed_like(packed: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Whether oneDNN reads what `packed_like` writes, tried with a random weight.

    Args:
        packed: A weight (O, I) that oneDNN has packed. It is not looked at: zeros look alike in any order.
        multiply: Rows of whole numbers from -3 to 3, and a packed weight, by oneDNN; 8 bits cannot overflow.

    Shapes:
        multiply: (M, I) float32 -> (M, O) float32
    """
    columns, rows = packed.shape
    if rows % _ROWS or columns % _COLUMNS:
        return False
    random = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (rows, columns), dtype=torch.int8, generator=random)
    x = torch.randint(-3, 4, (2, columns), generator=random).float()
    try:
        if torch.ops.mkldnn._nbytes(packed) != weight.nbytes + 4 * rows:
            return False
        ours = packed_like(weight, packed)
        exact = REFERENCE.pack(weight, torch.ones(rows)).linear(x, split=0)  # sums are far below 2^24
        return torch.equal(ours.to_dense().T, weight) and torch.equal(multiply(x, ours), exact)
    except (AttributeError, RuntimeError):  # this PyTorch does not say where the bytes are, or has no copies
        return False


def packed_like(weight: Tensor, packed: Tensor) -> Tensor:
    """Pack a weight as another of its shape is, where that can be.

    Args:
        weight: (O, I) int8, contiguous.
        packed: The other one; it stays as it is.
    """
    (rows, columns), out = weight.shape, packed.clone()
    memory = _memory(out)
    blocks, sums = memory[: weight.nbytes].view(torch.int32), memory[weight.nbytes :].view(torch.int32)
    fours = weight.view(torch.int32).view(rows // _ROWS, _ROWS, columns // _COLUMNS, _COLUMNS // 4)
    blocks.view(rows // _ROWS, columns // _COLUMNS, _COLUMNS // 4, _ROWS).copy_(fours.permute(0, 2, 3, 1))
    torch.neg(row_sums(weight), out=sums)  # what a zero point of the activations adds, for each level of it
    return out


def _memory(packed: Tensor) -> Tensor:
    """The bytes of an opaque tensor, which lives as long as they do. Shapes: -> (nbytes,) int8."""
    size, address = torch.ops.mkldnn._nbytes(packed), torch.ops.mkldnn.data_ptr(packed)
    interface = {"version": 3, "typestr": "|i1", "shape": (size,), "data": (address, False)}
    return torch.from_numpy(np.asarray(_Memory(packed, interface)))


@dataclass(frozen=True, slots=True)
class _Memory:
    """What NumPy takes for memory that is not its own; arrays and tensors of it hold it, and it the owner."""

    owner: Tensor
    __array_interface__: dict[str, object]
