"""The vision tower and the merger behind it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from glmflash.model import Glm4v
from glmflash.weights.rescale.bounds import Rows, box_bound, column_peaks
from glmflash.weights.rescale.norms import (
    norm_at,
    rescale_head_norms_,
    rescale_queries_,
    rescale_reader_,
    rescale_writer_,
    rows_at,
)
from glmflash.weights.rescale.pairs import (
    LOOSE,
    Entry,
    Pair,
    digits,
    gated_pair,
    largest,
    plain_pair,
    rescale_pair_,
    shares,
    tightened,
)
from glmflash.weights.rescale.rescaling import Bound
from glmflash.weights.rescale.shift import shift_eps_, shift_rows_

__all__ = ["merger_pair", "rescale_vision_"]

_TOWER = "model.visual"
_PIXEL = 4.0  # normalised pixels: 2.15 at most with the means and deviations of all published relatives
_CUBIC = 1.375**2  # magnitudes of cubic weights with a = -0.75 sum to 1.375 halfway between samples, per axis


def __dir__() -> list[str]:
    return __all__


def merger_pair(model: Glm4v) -> Pair:
    """The merger's MLP, whose output is the vision tokens."""
    gate, up, down = (rows_at(model, f"{_TOWER}.merger.{name}_proj") for name in ("gate", "up", "down"))
    return gated_pair(gate, up, down, norm_at(model, f"{_TOWER}.merger.post_projection_norm").given())


def rescale_vision_(model: Glm4v, merger: Pair, *, lost: int) -> Iterator[Entry]:
    """Bring the tower into range.

    Args:
        model: Changed in place.
        merger: From `merger_pair`.
        lost: Binary digits that vision tokens must lose.
    """
    blocks = [_block_pairs(model, index) for index in range(model.config.vision.depth)]
    entering = _entering(model)
    stream = entering + _sum(blocks)
    if digits(largest(stream)) > LOOSE:
        blocks = [(attention, tightened(mlp)) for attention, mlp in blocks]
        stream = entering + _sum(blocks)
    inner = digits(largest(stream))
    yield from _embeddings(model, entering, inner)
    for index, pairs in enumerate(blocks):
        yield from _block(model, index, pairs, inner)
        entering = entering + _sum([pairs])
        yield Bound(f"{_TOWER}.blocks.{index}", "output", *_scaled(entering, inner))
    yield from _downsample(model, inner)
    yield from rescale_pair_(merger, *shares(merger, total=lost))


def _entering(model: Glm4v) -> Tensor:
    """Bounds of what enters the first block. Shapes: -> (C,)."""
    if not model.config.vision.learned_positions:
        return _patches(model)
    table = rows_at(model, f"{_TOWER}.embeddings.position_embedding")
    return norm_at(model, f"{_TOWER}.post_conv_layernorm").given().peaks() + _CUBIC * column_peaks(table)


def _patches(model: Glm4v) -> Tensor:
    proj = rows_at(model, f"{_TOWER}.patch_embed.proj")
    weight = proj.layer.weight
    assert isinstance(weight, Tensor)
    return box_bound(proj, torch.full((weight[0].numel(),), _PIXEL, device=weight.device))


def _embeddings(model: Glm4v, entering: Tensor, inner: int) -> Iterator[Entry]:
    proj, patches = rows_at(model, f"{_TOWER}.patch_embed.proj"), _patches(model)
    if model.config.vision.learned_positions:
        taken = digits(largest(patches))
        yield from rescale_writer_(norm_at(model, f"{_TOWER}.post_conv_layernorm"), taken=taken, lost=inner)
        yield from shift_rows_(rows_at(model, f"{_TOWER}.embeddings.position_embedding"), -inner)
    else:
        taken = inner
    yield from shift_rows_(proj, -taken)
    yield Bound(proj.name, "output", *_scaled(patches, taken))
    yield Bound(f"{_TOWER}.blocks.0", "input", *_scaled(entering, inner))


def _parts(model: Glm4v, index: int) -> tuple[Rows, Rows, Rows]:
    """Queries, keys and values of a block."""
    name, size = f"{_TOWER}.blocks.{index}.attn.qkv", model.config.vision.hidden_size
    q, k, v = (
        rows_at(model, name, part=part, rows=slice(number * size, (number + 1) * size))
        for number, part in enumerate("qkv")
    )
    return q, k, v


def _gates(model: Glm4v, index: int) -> tuple[Rows, Rows, Rows]:
    names = (f"{_TOWER}.blocks.{index}.mlp.{part}_proj" for part in ("gate", "up", "down"))
    gate, up, down = (rows_at(model, name) for name in names)
    return gate, up, down


def _block_pairs(model: Glm4v, index: int) -> tuple[Pair, Pair]:
    name = f"{_TOWER}.blocks.{index}"
    first, second = (norm_at(model, f"{name}.norm{number}").given() for number in (1, 2))
    attention = plain_pair(_parts(model, index)[2], rows_at(model, f"{name}.attn.proj"), first)
    return attention, gated_pair(*_gates(model, index), second)


def _block(model: Glm4v, index: int, pairs: tuple[Pair, Pair], inner: int) -> Iterator[Entry]:
    name, (q, k, v) = f"{_TOWER}.blocks.{index}", _parts(model, index)
    norm = norm_at(model, f"{name}.norm1")
    yield from rescale_reader_(norm, (q, k, v), lost=inner)
    if model.config.vision.qk_norm:
        head_norms = norm_at(model, f"{name}.attn.q_norm"), norm_at(model, f"{name}.attn.k_norm")
        yield from rescale_head_norms_(q, k, head_norms, norm.given())
    else:
        yield from rescale_queries_(q, k, norm.given())
    yield from rescale_reader_(norm_at(model, f"{name}.norm2"), _gates(model, index)[:2], lost=inner)
    for pair in pairs:
        yield from rescale_pair_(pair, *shares(pair, total=inner))


def _downsample(model: Glm4v, inner: int) -> Iterator[Entry]:
    """Two matrices before the merger's norm."""
    last, norm = (
        norm_at(model, f"{_TOWER}.{name}") for name in ("post_layernorm", "merger.post_projection_norm")
    )
    kernel, proj = (rows_at(model, f"{_TOWER}.{name}") for name in ("downsample", "merger.proj"))
    yield from rescale_reader_(last, (kernel,), lost=inner)
    pair = plain_pair(kernel, proj, last.given(repeat=model.config.vision.spatial_merge_size**2))
    first, second = shares(pair)
    yield from rescale_pair_(pair, first, second)
    yield from shift_eps_(norm.name, norm.layer, -(first + second))
    peak = largest(norm.given().peaks())
    yield Bound(norm.name, "output", peak, peak)


def _sum(blocks: list[tuple[Pair, Pair]]) -> Tensor:
    return torch.stack([pair.out for pairs in blocks for pair in pairs]).sum(0)


def _scaled(bounds: Tensor, lost: int) -> tuple[float, float]:
    return largest(bounds), largest(bounds) * 2.0**-lost
