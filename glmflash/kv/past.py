"""Blocks of one sequence → its keys and values side by side, layer by layer, as attention takes them."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from glmflash.kv.quantize import dequantize_rows
from glmflash.kv.store import BlockStore, Layer

__all__ = ["Past", "pasts"]


def __dir__() -> list[str]:
    return __all__


class Past(Protocol):
    """All that one sequence has in the store."""

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values, good until another past is read. Shapes: -> (1, K, S, D), twice."""
        ...


def pasts(store: BlockStore, blocks: Sequence[list[int]], lengths: Sequence[int]) -> list[Past]:
    """The first tokens in some blocks, for any number of sequences.

    What lies side by side already is not copied. The others take turns in one buffer, made here for all
    layers, so small that it stays in the processor's cache. INT8 always takes this way, to become floats.

    Args:
        store: Where the blocks are.
        blocks: Block ids of each sequence, no more than its tokens need.
        lengths: Tokens of each sequence.
    """
    scattered = [store.int8 or one != list(range(one[0], one[0] + len(one))) for one in blocks]
    ids = [one for one, is_scattered in zip(blocks, scattered, strict=True) if is_scattered]
    if not ids:
        return [_Run(store, one[0], length) for one, length in zip(blocks, lengths, strict=True)]
    buffer = _Buffer(store, max(map(len, ids)))
    joined = torch.tensor([block for one in ids for block in one], device=store.device)  # one transfer
    indices = iter(joined.split([len(one) for one in ids]))
    return [
        _Scattered(store, next(indices), length, buffer.view(len(one)))
        if is_scattered
        else _Run(store, one[0], length)
        for one, length, is_scattered in zip(blocks, lengths, scattered, strict=True)
    ]


class _Run:
    """Neighbouring blocks: views, made of all layers at once.

    Between two products of a decode step each would take ten times as long: no code is in the cache then.
    """

    def __init__(self, store: BlockStore, first: int, length: int) -> None:
        start = first * store.block_size
        self._views = [layer.heads.narrow(3, start, length).unbind() for layer in store.layers]

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        k, v = self._views[layer]
        return k, v


class _Buffer:
    """Room for the blocks of the longest sequence, as they are stored, and for INT8 as floats too."""

    def __init__(self, store: BlockStore, blocks: int) -> None:
        self._size = store.block_size
        self._shapes = [plane.shape[2:] for plane in store.layers[0].planes]  # (K, D), and of scales (K,)
        slots = 2 * blocks * self._size
        self._stored = [plane.new_empty(slots * plane[0, 0].numel()) for plane in store.layers[0].planes]
        self._floats = self._stored[0]
        if store.int8:
            self._floats = torch.empty(len(self._stored[0]), dtype=store.dtype, device=store.device)
        self._views: dict[int, Layer] = {}

    def view(self, blocks: int) -> Layer:
        """The first part of it, as if it were a layer of so many blocks."""
        if blocks not in self._views:
            shapes = [(2, blocks * self._size, *shape) for shape in self._shapes]
            flats = (*self._stored, self._floats)
            parts = [
                flat[: math.prod(shape)].view(shape)
                for flat, shape in zip(flats, (*shapes, shapes[0]), strict=True)
            ]
            self._views[blocks] = Layer.over(tuple(parts[:-1]), blocks, floats=parts[-1])
        return self._views[blocks]


class _Scattered:
    """Blocks anywhere, copied side by side. What lies behind the last token comes along and is cut off."""

    def __init__(self, store: BlockStore, index: Tensor, length: int, buffer: Layer) -> None:
        self._store, self._index, self._buffer = store, index, buffer
        self._kv = buffer.heads.narrow(3, 0, length).unbind()  # (1, K, S, D) twice

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        for rows, copy in zip(self._store.layers[layer].blocks, self._buffer.blocks, strict=True):
            torch.index_select(rows, 1, self._index, out=copy)
        if self._store.int8:
            values, scales = self._buffer.planes
            dequantize_rows(values, scales, out=self._buffer.heads[:, 0].transpose(1, 2))
        k, v = self._kv
        return k, v
