"""Norms, which take any factor in their eps, and what stands before and behind them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from glmflash.model.layers import RMSNorm
from glmflash.weights.rescale.bounds import Normed, Rows, ball_bound
from glmflash.weights.rescale.pairs import Entry, digits, headroom, largest
from glmflash.weights.rescale.rescaling import LIMIT, Bound
from glmflash.weights.rescale.shift import shift_eps_, shift_norm_, shift_rows_

__all__ = [
    "Norm",
    "norm_at",
    "rescale_head_norms_",
    "rescale_queries_",
    "rescale_reader_",
    "rescale_writer_",
    "rows_at",
]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A norm of the model, by its name."""

    name: str
    layer: RMSNorm | nn.LayerNorm

    def given(self, *, repeat: int = 1) -> Normed:
        """What it gives out; `repeat` rows of it one behind the other, channel by channel."""
        weight, bias = self.layer.weight, getattr(self.layer, "bias", None)
        many = weight.repeat_interleave(repeat) if repeat > 1 else weight
        return Normed(math.sqrt(len(many)), many, bias)


def rows_at(model: nn.Module, name: str, *, part: str = "", rows: slice = slice(None)) -> Rows:
    """The rows of a layer of the model."""
    return Rows(name, model.get_submodule(name), part, rows)


def norm_at(model: nn.Module, name: str) -> Norm:
    """A norm of the model."""
    layer = model.get_submodule(name)
    assert isinstance(layer, RMSNorm | nn.LayerNorm)
    return Norm(name, layer)


def rescale_reader_(norm: Norm, behind: Sequence[Rows], *, lost: int) -> Iterator[Entry]:
    """A norm whose input lost some binary digits; what its own weight is too large for, those behind take."""
    assert isinstance(norm.layer, RMSNorm)
    yield from shift_eps_(norm.name, norm.layer, -lost)
    peak = largest(norm.given().peaks())
    handed = min([digits(peak), *map(headroom, behind)]) if digits(peak) else 0
    yield from shift_norm_(norm.name, norm.layer, -handed)
    for rows in behind:
        yield from shift_rows_(rows, handed, bias=0)
    yield Bound(norm.name, "output", peak, peak * 2.0**-handed)


def rescale_writer_(norm: Norm, *, taken: int, lost: int) -> Iterator[Entry]:
    """A norm whose input lost some binary digits, and whose output must lose those of the residual stream."""
    assert isinstance(norm.layer, RMSNorm)
    peak = largest(norm.given().peaks())
    yield from shift_eps_(norm.name, norm.layer, -taken)
    yield from shift_norm_(norm.name, norm.layer, -lost)
    yield Bound(norm.name, "output", peak, peak * 2.0**-lost)


def rescale_queries_(q: Rows, k: Rows, given: Normed) -> Iterator[Entry]:
    """Queries and keys: only their products count, so what one loses the other wins. Bounds hold rotated."""
    query, key = (math.sqrt(2) * largest(ball_bound(rows, given)) for rows in (q, k))
    moved = _balance(query, key)
    moved = max(min(moved, headroom(k)), -headroom(q)) if moved else 0
    yield from shift_rows_(q, -moved)
    yield from shift_rows_(k, moved)
    yield Bound(q.label, "output", query, query * 2.0**-moved)
    yield Bound(k.label, "output", key, key * 2.0**moved)


def rescale_head_norms_(q: Rows, k: Rows, norms: tuple[Norm, Norm], given: Normed) -> Iterator[Entry]:
    """Queries and keys that are normalised head by head: before that, they may lose whatever they must."""
    for rows, norm in zip((q, k), norms, strict=True):
        bound = largest(ball_bound(rows, given))
        lost = digits(bound)
        yield from shift_rows_(rows, -lost)
        yield from shift_eps_(norm.name, norm.layer, -lost)
        yield Bound(rows.label, "output", bound, bound * 2.0**-lost)
    peaks = [math.sqrt(2) * largest(norm.given().peaks()) for norm in norms]
    moved = _balance(*peaks)
    for norm, peak, exponent in zip(norms, peaks, (-moved, moved), strict=True):
        assert isinstance(norm.layer, RMSNorm)
        yield from shift_norm_(norm.name, norm.layer, exponent)
        yield Bound(norm.name, "output", peak, peak * 2.0**exponent)


def _balance(query: float, key: float) -> int:
    """Binary digits that queries must lose and keys can win; negative is the other way round."""
    if digits(query) and key * 2.0 ** digits(query) <= LIMIT:
        return digits(query)
    if digits(key) and query * 2.0 ** digits(key) <= LIMIT:
        return -digits(key)
    return 0
