"""Rows or a norm, and an exponent → the same times a power of two, in place."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from glmflash.model.layers import RMSNorm
from glmflash.quant import QuantizedEmbedding, QuantizedLinear
from glmflash.weights.rescale.bounds import Rows
from glmflash.weights.rescale.rescaling import Shift

__all__ = ["shift_eps_", "shift_norm_", "shift_rows_"]

_PART = 2**24  # elements compared at once


def __dir__() -> list[str]:
    return __all__


def shift_rows_(rows: Rows, exponent: int, *, bias: int | None = None) -> Iterator[Shift]:
    """Multiply rows by 2 ** exponent, and their biases by 2 ** bias; the same, if there is no other.

    Mantissas stay as they are, except of numbers that leave the normal range of their dtype; INT8 rows change
    their float32 scales, and lose nothing.
    """
    own, bias = rows.bias(), exponent if bias is None else bias
    if own is not None and bias:
        yield Shift(f"{rows.label}.bias", bias, _multiply(own[None], 2.0**bias))
    if exponent:
        yield Shift(rows.label, exponent, _multiply_rows(rows, 2.0**exponent))


def shift_norm_(name: str, norm: RMSNorm, exponent: int) -> Iterator[Shift]:
    """Multiply what a norm gives out by 2 ** exponent."""
    if exponent:
        yield Shift(name, exponent, _multiply(norm.weight[None], 2.0**exponent))


def shift_eps_(name: str, norm: RMSNorm | nn.LayerNorm, exponent: int) -> Iterator[Shift]:
    """Make a norm give what it gave, now that what comes in is multiplied by 2 ** exponent."""
    if exponent:
        norm.eps *= 4.0**exponent
        yield Shift(f"{name}.eps", 2 * exponent)


def _multiply_rows(rows: Rows, factor: float) -> float:
    layer = rows.layer
    if isinstance(layer, QuantizedLinear):
        layer.scale_(factor, rows.rows)
        return 0.0
    if isinstance(layer, QuantizedEmbedding):
        scale = layer.weight_scale.clone()  # a tied projection may hold the same scales
        scale[rows.rows] *= factor
        layer.weight_scale = scale
        return 0.0
    assert isinstance(layer.weight, Tensor)
    return _multiply(layer.weight[rows.rows], factor)


def _multiply(weight: Tensor, factor: float) -> float:
    """Multiply in place. What rows lost, relative to their size: the root mean square over the rows."""
    lost: list[Tensor] = []
    for part in weight.split(max(1, _PART // weight[0].numel())):
        exact = part.flatten(1).float() * factor  # (o, I)
        part.mul_(factor)
        size = torch.linalg.vector_norm(exact, dim=1)
        off = torch.linalg.vector_norm(part.flatten(1).float() - exact, dim=1)
        lost.append((off / size)[size > 0])
    shares = torch.cat(lost)
    return shares.square().mean().sqrt().item() if len(shares) else 0.0
