"""A weight's rows → the blocks in which oneDNN's kernels read them, written by PyTorch.

oneDNN rearranges INT8 weights byte by byte, 0.3 GB/s on one processor. The same by PyTorch, four bytes at a
time, is eight times as fast, but where each byte belongs is oneDNN's own affair. So it is written only into a
copy of what oneDNN packed, for a weight of the very same shape, and only once this has been seen to come to
oneDNN's own bytes for that one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glmflash.ops.int8.row_sums import row_sums

__all__ = ["come_to_the_same", "packed_like"]

_ROWS, _COLUMNS = 64, 64  # of a block; four columns of a row lie side by side


def __dir__() -> list[str]:
    return __all__


def come_to_the_same(weight: Tensor, packed: Tensor) -> bool:
    """Whether `packed_like` makes of a weight what oneDNN made of it.

    Args:
        weight: (O, I) int8, contiguous.
        packed: The same, packed by oneDNN.
    """
    rows, columns = weight.shape
    if rows % _ROWS or columns % _COLUMNS or not hasattr(torch.ops.mkldnn, "data_ptr"):
        return False
    if torch.ops.mkldnn._nbytes(packed) != weight.nbytes + 4 * rows:
        return False
    return torch.equal(_memory(packed_like(weight, packed)), _memory(packed))


def packed_like(weight: Tensor, packed: Tensor) -> Tensor:
    """Pack a weight as another of its shape is, for which `come_to_the_same`.

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
    return torch.from_numpy(np.asarray(_Memory(packed)))


@dataclass(frozen=True, slots=True)
class _Memory:
    """What NumPy asks for memory that is not its own; arrays and tensors of it hold it, and it the tensor."""

    packed: Tensor

    @property
    def __array_interface__(self) -> dict[str, object]:
        size, address = torch.ops.mkldnn._nbytes(self.packed), torch.ops.mkldnn.data_ptr(self.packed)
        return {"version": 3, "typestr": "|i1", "shape": (size,), "data": (address, False)}
