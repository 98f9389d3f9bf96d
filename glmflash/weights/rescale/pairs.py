"""Two matrices behind each other, of which only the product counts → their bounds, and a factor shared out.

There must be nothing between them but what passes factors on: attention averages values, a gate multiplies.
So of whatever the output of the second has to lose, each gives up half, and neither becomes so small that
float16 has fewer digits for it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glmflash.quant import QuantizedLinear
from glmflash.weights.rescale.bounds import (
    Normed,
    Rows,
    ball_bound,
    box_bound,
    length_bound,
    row_peaks,
    row_sizes,
)
from glmflash.weights.rescale.rescaling import LIMIT, Bound, Shift
from glmflash.weights.rescale.shift import shift_rows_

__all__ = [
    "LOOSE",
    "Entry",
    "Pair",
    "digits",
    "gated_pair",
    "headroom",
    "largest",
    "plain_pair",
    "rescale_pair_",
    "shares",
    "tightened",
]

Entry = Shift | Bound
LOOSE = 4  # binary digits that a weight can lose without harm; a tighter bound costs products of matrices
_MOST = 64  # doublings, of what has no end in practice


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two linear maps behind each other.

    Args:
        first: Scales what comes between.
        second: Scales what comes out.
        goes_in: Into the first.
        given: Bound of what the first gives.
        middle: Bound of what the second takes.
        out: Bounds of what the second gives, (O,) float64.
        gate: Rows that gate what the first gives, if there are any.
    """

    first: Rows
    second: Rows
    goes_in: Normed
    given: float
    middle: float
    out: Tensor
    gate: Rows | None = None


def plain_pair(first: Rows, second: Rows, given: Normed, *, heads: int = 1, repeat: int = 1) -> Pair:
    """Values and the projection behind attention, or just two matrices.

    Attention gives averages of values, so no element becomes larger.

    Args:
        first: One matrix.
        second: The other.
        given: What goes in.
        heads: Heads that the first gives.
        repeat: How often each of them is given to the second.
    """
    between = ball_bound(first, given)
    taken = between.view(heads, -1).repeat_interleave(repeat, 0).flatten()
    return Pair(first, second, given, largest(between), largest(taken), box_bound(second, taken))


def gated_pair(gate: Rows, up: Rows, down: Rows, given: Normed) -> Pair:
    """A gated MLP: `down(silu(gate(x)) * up(x))`, with `|silu(g)| <= |g|`."""
    ups = ball_bound(up, given)
    product = ball_bound(gate, given) * ups
    return Pair(up, down, given, largest(ups), largest(product), box_bound(down, product), gate)


def tightened(pair: Pair) -> Pair:
    """The same with a tighter bound of what comes out of a gated MLP.

    A sum of products is at most the largest factor of `down` times the lengths of gates and ups, and these
    are bounded by singular values: not all gates can be at their largest together.
    """
    if pair.gate is None:
        return pair
    lengths = length_bound(pair.gate, pair.goes_in) * length_bound(pair.first, pair.goes_in)
    out, bias = row_peaks(pair.second) * lengths, pair.second.bias()
    if pair.second.inexactness:
        out += pair.second.inexactness * lengths * row_sizes(pair.second)
    return replace(pair, out=torch.minimum(pair.out, out if bias is None else out + bias.double().abs()))


def shares(pair: Pair, *, total: int | None = None) -> tuple[int, int]:
    """How many binary digits the first and the second matrix give up.

    Args:
        pair: Not rescaled yet.
        total: How many the output must lose, exactly; None is as few as may be.
    """
    least = max(digits(pair.given), digits(pair.middle))
    if total is None:
        lost = digits(largest(pair.out))
        first = max(least, (lost + 1) // 2)
        return first, max(lost - first, 0)
    first = max(least, (total + 1) // 2)
    if first > total:  # the second matrix grows, and must stay in range itself
        first = min(first, total + headroom(pair.second))
    return first, total - first


def rescale_pair_(pair: Pair, first: int, second: int) -> Iterator[Entry]:
    """Divide the matrices by 2 ** first and 2 ** second, so the output by both."""
    between, out = 2.0**-first, 2.0 ** -(first + second)
    yield from shift_rows_(pair.first, -first)
    yield from shift_rows_(pair.second, -second, bias=-(first + second))
    if pair.gate is not None:
        gates = largest(ball_bound(pair.gate, pair.goes_in))
        yield Bound(pair.gate.label, "output", gates, gates)
    yield Bound(pair.first.label, "output", pair.given, pair.given * between)
    yield Bound(pair.second.label, "input", pair.middle, pair.middle * between)
    yield Bound(pair.second.label, "output", largest(pair.out), largest(pair.out) * out)


def digits(bound: float) -> int:
    """How often a number must be halved to be within the limit.

    Example:
        >>> digits(2.0**15), digits(2.0**15 + 1), digits(0.5)
        (0, 1, 0)
    """
    return math.ceil(math.log2(bound / LIMIT)) if bound > LIMIT else 0


def headroom(rows: Rows) -> int:
    """How often a weight can be doubled and stay within the limit; INT8 has float32 scales, and room."""
    peak = largest(row_peaks(rows))
    if peak == 0 or isinstance(rows.layer, QuantizedLinear):
        return _MOST
    return max(0, math.floor(math.log2(LIMIT / peak)))


def largest(bounds: Tensor) -> float:
    """The largest of them."""
    return float(bounds.max())
