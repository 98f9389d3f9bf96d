"""Chunks of any number of sequences → one packed forward → the logits to choose from."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glmflash.engine.scheduler import Chunk
from glmflash.engine.sequence import Sequence
from glmflash.kv.cache import KVCache
from glmflash.kv.store import BlockStore
from glmflash.model.decode import DecodeStep
from glmflash.model.glm import Glm4v
from glmflash.shapes import ImageSpan

__all__ = ["forward"]


def __dir__() -> list[str]:
    return __all__


def forward(
    model: Glm4v, store: BlockStore, chunks: list[Chunk], *, decode: DecodeStep | None = None
) -> Tensor:
    """Compute every chunk's keys and values, and the logits of those after which a token is chosen.

    A decode is a chunk of one token: nothing else is different about it.

    Args:
        model: The network.
        store: Where keys and values lie.
        chunks: What is computed.
        decode: The same network's decode step: taken where it is quicker, to the same bits.

    Shapes:
        -> (R, vocab_size), a row for each chunk with `last`, in order.
    """
    device = model.device
    ids = [token for chunk in chunks for token in _ids(chunk)]
    vision, spans = _pictures(chunks)
    embeds = model.embed(torch.tensor(ids, device=device), vision, spans)  # (N, hidden)
    tables = [chunk.sequence.table for chunk in chunks]
    cache = KVCache(store, [table for table in tables if table is not None], [one.tokens for one in chunks])
    positions, rows = _positions(chunks).to(device), _rows(chunks).to(device)
    if decode is not None and decode.takes(len(ids)) and len(rows) == len(ids):
        return decode(embeds, positions, cache)
    logits: Tensor = model(embeds, positions, cache, rows=rows)
    return logits


def _ids(chunk: Chunk) -> list[int]:
    return chunk.sequence.ids[chunk.start : chunk.start + chunk.tokens]


def _rows(chunks: list[Chunk]) -> Tensor:
    """Where in the pack the logits are wanted. Shapes: -> (R,)."""
    rows, end = [], 0
    for chunk in chunks:
        end += chunk.tokens
        if chunk.last and chunk.sequence.answer is not None:
            rows.append(end - 1)
    return torch.tensor(rows, dtype=torch.int64)


def _positions(chunks: list[Chunk]) -> Tensor:
    """Rotary positions of the pack. Shapes: -> (3, N) int64."""
    if all(chunk.start >= len(chunk.sequence.inputs.prompt) and chunk.tokens == 1 for chunk in chunks):
        text = [chunk.start + chunk.sequence.inputs.prompt.delta for chunk in chunks]
        return torch.tensor(text).expand(3, -1)
    parts = [_place(chunk.sequence, chunk.start, chunk.start + chunk.tokens) for chunk in chunks]
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _place(sequence: Sequence, start: int, stop: int) -> npt.NDArray[np.int64]:
    """Positions from `start` to `stop`: the prompt's own, then one after the other."""
    prompt = sequence.inputs.prompt
    known = prompt.positions[:, start:stop]
    generated = np.arange(max(start, len(prompt)), stop, dtype=np.int64) + prompt.delta
    if not len(generated):
        return known
    return np.concatenate((known, np.broadcast_to(generated, (3, len(generated)))), axis=1)


def _pictures(chunks: list[Chunk]) -> tuple[list[Tensor], list[ImageSpan]]:
    """The vision tokens that fall into the pack, and where; a chunk may hold a part of a picture."""
    vision: list[Tensor] = []
    spans: list[ImageSpan] = []
    offset = 0
    for chunk in chunks:
        begin, end = chunk.start, chunk.start + chunk.tokens
        for tokens, span in zip(chunk.sequence.vision, chunk.sequence.inputs.prompt.spans, strict=True):
            first, last = max(span.start, begin), min(span.start + span.length, end)
            if first < last:
                assert tokens is not None
                vision.append(tokens[first - span.start : last - span.start])
                spans.append(ImageSpan(offset + first - begin, last - first))
        offset += chunk.tokens
    return vision, spans
