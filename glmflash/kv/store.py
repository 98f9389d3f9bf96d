"""Keys and values of new tokens, and where they go → block storage in memory, and back: tensors only.

Which block belongs to whom is the pool's affair. A slot is one token's place: block * block_size + offset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glmflash.errors import CacheFullError, ParameterError
from glmflash.kv.quantize import dequantize_rows, quantize_rows
from glmflash.kv.table import Copy

__all__ = ["BlockStore", "Layer", "block_bytes"]


def __dir__() -> list[str]:
    return __all__


def block_bytes(
    *,
    num_layers: int,
    num_kv_heads: int,
    head_dim: int,
    block_size: int = 16,
    dtype: torch.dtype = torch.float32,
    int8: bool = False,
) -> int:
    """Bytes of one block over all layers, keys and values, before anything is allocated.

    Example:
        >>> block_bytes(num_layers=40, num_kv_heads=2, head_dim=128, dtype=torch.bfloat16)
        655360
        >>> block_bytes(num_layers=40, num_kv_heads=2, head_dim=128, int8=True)  # values, and 4 bytes a row
        337920
    """
    row = head_dim + torch.float32.itemsize if int8 else head_dim * dtype.itemsize
    return 2 * num_layers * block_size * num_kv_heads * row


@dataclass(frozen=True, slots=True)
class Layer:
    """The memory of one layer, seen in three ways; S slots are B blocks.

    Args:
        planes: Values (2, S, K, D), keys first; INT8 has scales (2, S, K) beside them.
        blocks: The same with a row for each block, (2, B, block_size * K * D) and (2, B, block_size * K).
        heads: The values head by head, (2, 1, K, S, D).
    """

    planes: tuple[Tensor, ...]
    blocks: tuple[Tensor, ...]
    heads: Tensor

    @classmethod
    def over(cls, planes: tuple[Tensor, ...], blocks: int, *, floats: Tensor) -> "Layer":
        """The views of planes that hold so many blocks; `floats` (2, S, K, D) are what attention reads."""
        rows = tuple(plane.view(2, blocks, plane[0].numel() // max(blocks, 1)) for plane in planes)
        return cls(planes, rows, floats[:, None].transpose(2, 3))


class BlockStore:
    """Block storage for the keys and values of all layers.

    It starts empty and grows on demand. New memory is left as it comes, and blocks are not cleaned when they
    change hands: nothing may read what has not been written, not even to multiply it by zero.

    Args:
        num_layers: Layers of the decoder.
        num_kv_heads: Key heads a layer.
        head_dim: Numbers in a head.
        num_blocks: Blocks at most.
        block_size: Tokens in a block.
        dtype: What goes in and comes out.
        device: Where the storage is.
        int8: Store INT8 values with a float32 scale per token and head, a half (of bfloat16) or a quarter (of
            float32) of the memory.

    Raises:
        ParameterError: If a size is less than 1.

    Example:
        >>> store = BlockStore(num_layers=1, num_kv_heads=2, head_dim=4, num_blocks=8, block_size=4)
        >>> store.ensure(2)
        >>> store.write(0, torch.tensor([5]), torch.ones(1, 2, 4), torch.zeros(1, 2, 4))
        >>> k, v = store.read(0, slice(1, 2), 2)
        >>> k[1].sum().item(), store.num_blocks
        (8.0, 2)
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        num_blocks: int,
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        int8: bool = False,
    ) -> None:
        sizes = {
            "num_layers": num_layers,
            "num_kv_heads": num_kv_heads,
            "head_dim": head_dim,
            "num_blocks": num_blocks,
            "block_size": block_size,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ParameterError(name, f"is {size}; it must be at least 1")
        self.block_size = block_size
        self.max_blocks = num_blocks
        self.dtype = dtype
        self.device = torch.device(device)
        self.int8 = int8
        self._heads, self._head_dim = num_kv_heads, head_dim
        self._blocks = 0
        self._layers = [self._allocate(0) for _ in range(num_layers)]

    @property
    def num_blocks(self) -> int:
        """Blocks that there is memory for now."""
        return self._blocks

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers."""
        return block_bytes(
            num_layers=len(self._layers),
            num_kv_heads=self._heads,
            head_dim=self._head_dim,
            block_size=self.block_size,
            dtype=self.dtype,
            int8=self.int8,
        )

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return sum(plane.nbytes for layer in self._layers for plane in layer.planes)

    def ensure(self, num_blocks: int) -> None:
        """Have memory for blocks 0 to `num_blocks` - 1; grows at least twofold, and keeps what is stored.

        Layer by layer, so that no more than the new storage and one old layer exist at once. If memory runs
        out on the way, what is stored is still there.

        Raises:
            CacheFullError: If that is more than the store may have.
        """
        if num_blocks <= self._blocks:
            return
        if num_blocks > self.max_blocks:
            raise CacheFullError(f"needed {num_blocks} blocks; the store has at most {self.max_blocks}")
        blocks = min(max(num_blocks, 2 * self._blocks), self.max_blocks)
        for layer in range(len(self._layers)):
            self._grow(layer, blocks)
        self._blocks = blocks

    @property
    def layers(self) -> Sequence[Layer]:
        """The memory of each layer, as it is now; after the store has grown it is another."""
        return self._layers

    def copy(self, copies: Sequence[Copy]) -> None:
        """Copy the first tokens of blocks to other blocks, in all layers and in this order."""
        if not copies:
            return
        self.ensure(1 + max(copy.target for copy in copies))
        size = self.block_size
        for layer in self._layers:
            for plane in layer.planes:
                for copy in copies:
                    source, target = copy.source * size, copy.target * size
                    plane[:, target : target + copy.tokens] = plane[:, source : source + copy.tokens]

    def write(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Store keys and values of new tokens.

        Shapes:
            slots (N,) int64, k and v (N, K, D).
        """
        kv = torch.stack((k, v)).detach()  # (2, N, K, D)
        rows = quantize_rows(kv) if self.int8 else (kv,)
        for plane, new in zip(self._layers[layer].planes, rows, strict=True):
            plane.index_copy_(1, slots, new)

    def read(self, layer: int, blocks: Tensor | slice, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first `length` tokens in some blocks.

        Args:
            layer: Which layer.
            blocks: Block ids in order, or a run of neighbours, which is not copied unless it is INT8.
            length: Tokens wanted.

        Shapes:
            blocks (B,) int64 -> (length, K, D), twice.
        """
        parts = [part[:, :length] for part in self._take(layer, blocks)]
        if self.int8:
            parts[0] = dequantize_rows(*parts, out=torch.empty_like(parts[0], dtype=self.dtype))
        k, v = parts[0].unbind()
        return k, v

    def export(self, blocks: Sequence[int], length: int) -> dict[str, Tensor]:
        """Copy out the first `length` tokens in some blocks, all layers, as they are stored.

        Shapes:
            `keys` and `values` (L, length, K, D); INT8 also `key_scales` and `value_scales` (L, length, K).
        """
        index = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        layers = [self._take(layer, index) for layer in range(len(self._layers))]
        out = {}
        for names, planes in zip(self._names(), zip(*layers, strict=True), strict=True):
            for which, name in enumerate(names):
                out[name] = torch.stack([plane[which, :length] for plane in planes])
        return out

    def load(self, blocks: Sequence[int], start: int, tensors: Mapping[str, Tensor]) -> None:
        """Put exported tokens back, into a store of the same kind.

        Args:
            blocks: Block ids of the sequence, in order.
            start: Which token of the sequence the first exported one becomes.
            tensors: From `export`; they may be on any device.

        Raises:
            ParameterError: If the tensors are not those of such a store, or do not fit into the blocks.
        """
        length = self._check(tensors)
        end = start + length
        if not 0 <= start <= end <= len(blocks) * self.block_size:
            room = f"{len(blocks)} blocks of {self.block_size}"
            raise ParameterError("blocks", f"are {room}, which have no tokens {start} to {end}")
        self.ensure(1 + max(blocks, default=-1))
        ids = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        places = torch.arange(start, end, device=self.device)
        slots = ids[places // self.block_size] * self.block_size + places % self.block_size  # (length,)
        for layer, memory in enumerate(self._layers):
            for plane, names in zip(memory.planes, self._names(), strict=True):
                rows = torch.stack([tensors[name][layer] for name in names]).to(self.device)
                plane.index_copy_(1, slots, rows)

    def _names(self) -> tuple[tuple[str, str], ...]:
        values = ("keys", "values")
        return (values, ("key_scales", "value_scales")) if self.int8 else (values,)

    def _check(self, tensors: Mapping[str, Tensor]) -> int:
        """Number of tokens, if they are what `export` of such a store gives."""
        pairs = list(zip(self._names(), self._layers[0].planes, strict=True))
        length = tensors["keys"].shape[1] if "keys" in tensors and tensors["keys"].dim() == 4 else 0
        expected = {
            name: ((len(self._layers), length, *plane.shape[2:]), plane.dtype)
            for names, plane in pairs
            for name in names
        }
        given = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        if given != expected:
            raise ParameterError("tensors", f"are {given}; this store takes {expected}")
        return length

    def _take(self, layer: int, blocks: Tensor | slice) -> list[Tensor]:
        """Shapes: -> (2, B * block_size, ...)."""
        memory = self._layers[layer]
        if isinstance(blocks, slice):
            slots = slice(blocks.start * self.block_size, blocks.stop * self.block_size)
            return [plane[:, slots] for plane in memory.planes]
        shapes = [(2, len(blocks) * self.block_size, *plane.shape[2:]) for plane in memory.planes]
        # Whole blocks are copied as one row each, which is faster than slot by slot.
        rows = [plane.index_select(1, blocks) for plane in memory.blocks]
        return [part.view(shape) for part, shape in zip(rows, shapes, strict=True)]

    def _grow(self, layer: int, blocks: int) -> None:
        old = self._layers[layer]
        if old.blocks[0].shape[1] >= blocks:  # memory ran out at a later layer, last time
            return
        new = self._allocate(blocks)
        for target, source in zip(new.planes, old.planes, strict=True):
            target[:, : source.shape[1]] = source
        self._layers[layer] = new

    @torch.inference_mode(mode=False)  # what is made in that mode cannot be written outside it
    def _allocate(self, blocks: int) -> Layer:
        shape = (2, blocks * self.block_size, self._heads, self._head_dim)
        values = torch.empty(shape, dtype=torch.int8 if self.int8 else self.dtype, device=self.device)
        planes = (values, torch.empty(shape[:3], device=self.device)) if self.int8 else (values,)
        return Layer.over(planes, blocks, floats=values)
