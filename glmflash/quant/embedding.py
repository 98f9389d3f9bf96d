"""A table of embeddings with INT8 rows."""

from collections.abc import Callable
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from glmflash.quant.rows import QuantizedRows

__all__ = ["QuantizedEmbedding"]


def __dir__() -> list[str]:
    return __all__


class QuantizedEmbedding(nn.Module):
    """`nn.Embedding` whose rows are INT8, with a scale each. Casting the module leaves both as they are.

    Args:
        rows: The table.
        source_bytes: Bytes of the table before, for the card.

    Example:
        >>> import torch
        >>> from glmflash.quant import quantize_rows
        >>> table = QuantizedEmbedding(quantize_rows(torch.tensor([[1.0, 0.0], [0.0, 2.0]])))
        >>> table(torch.tensor([1])).tolist()
        [[0.0, 2.0]]
    """

    weight: Tensor
    weight_scale: Tensor
    scheme = "int8"
    kernel = "lookup"

    def __init__(self, rows: QuantizedRows, *, source_bytes: int | None = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = rows.weight.shape
        self.error = rows.error
        self.source_bytes = 2 * rows.weight.numel() if source_bytes is None else source_bytes
        self.register_buffer("weight", rows.weight)  # (V, C) int8
        self.register_buffer("weight_scale", rows.scale)  # (V,) float32

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight, (rows, columns)."""
        return self.num_embeddings, self.embedding_dim

    @property
    def nbytes(self) -> int:
        """Bytes of the table as it is held, scales included."""
        return self.weight.nbytes + self.weight_scale.nbytes

    def forward(self, ids: Tensor) -> Tensor:
        """Shapes: (...) int64 -> (..., C) float32."""
        levels = F.embedding(ids, self.weight)  # (..., C) int8; ids out of range are an IndexError
        return levels.float().mul_(self.weight_scale[ids][..., None])

    def unpack(self) -> Tensor:
        """The table itself. Shapes: () -> (V, C) int8."""
        return self.weight

    def extra_repr(self) -> str:
        """What `repr` says: rows and columns."""
        return f"{self.num_embeddings}, {self.embedding_dim}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        scale = self.weight_scale
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        if self.weight_scale.dtype != scale.dtype:  # rounded on the way
            self.weight_scale = scale.to(self.weight_scale.device)
        return self
