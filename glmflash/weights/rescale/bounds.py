"""Rows of a weight → how large their products can become, whatever comes in; proven from the weights alone.

All bounds are of sums of magnitudes or by Cauchy and Schwarz, so they hold for every partial sum too, in any
order: also where a kernel adds up in float16.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from glmflash.quant import QuantizedEmbedding, QuantizedLinear
from glmflash.quant.config import SCHEMES

__all__ = [
    "Normed",
    "Rows",
    "ball_bound",
    "box_bound",
    "column_peaks",
    "length_bound",
    "row_peaks",
    "row_sizes",
]

_PART = 2**24  # elements of a weight made float32 at once
_SQUARINGS = 2  # of a Gram matrix; each one halves how far the bound can be off, in digits
_ROUNDING = 1.1  # of Gram matrices, in float32 or less
_LEVELS = 63  # the fewest that any INT8 kernel has


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some output rows of a linear map: a linear layer (INT8 or not), a convolution, a table, by its name.

    Args:
        name: As in the model.
        layer: The module.
        part: What these rows are called, if they are not all.
        rows: Which.
    """

    name: str
    layer: nn.Module
    part: str = ""
    rows: slice = field(default_factory=lambda: slice(None))

    @property
    def label(self) -> str:
        """The name, and in brackets the part."""
        return f"{self.name}[{self.part}]" if self.part else self.name

    def parts(self) -> Iterator[Tensor]:
        """The rows as float32, some at a time. Shapes: () -> (o, I), o rows in order."""
        if isinstance(self.layer, QuantizedLinear | QuantizedEmbedding):
            weight, scale = self.layer.unpack()[self.rows], self.layer.weight_scale[self.rows]
        else:
            weight, scale = self._weight[self.rows].flatten(1), None
        count = max(1, _PART // weight.shape[1])
        for number, part in enumerate(weight.split(count)):
            wide = part.float()
            yield wide if scale is None else wide * scale.split(count)[number].float()[:, None]

    def bias(self) -> Tensor | None:
        """Their biases. Shapes: () -> (O,)."""
        bias = getattr(self.layer, "bias", None)
        return None if bias is None else bias[self.rows]

    @property
    def inexactness(self) -> float:
        """What the rounding of activations adds to a row of them, at most, as a share of the row's 2-norm.

        A row of peak p is off by half a level in each of I elements, p / 2L; rows in which that counts, whose
        peak is more than `split` times their root mean square, are multiplied in two parts.
        """
        if not isinstance(self.layer, QuantizedLinear):
            return 0.0
        split = SCHEMES[self.layer.scheme]
        return split / (2 * _LEVELS) + math.sqrt(self.layer.in_features) / (2 * _LEVELS) ** 2

    @property
    def _weight(self) -> Tensor:
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight


@dataclass(frozen=True, slots=True, eq=False)
class Normed:
    """What a norm gives out: `weight * y + bias` for some y of bounded 2-norm; smaller elements are included.

    Args:
        radius: Of y: the root of its size, for a norm that divides by the root mean square.
        weight: (I,)
        bias: (I,) or None.
    """

    radius: float
    weight: Tensor
    bias: Tensor | None = None

    def peaks(self) -> Tensor:
        """Bounds of the elements. Shapes: () -> (I,) float64."""
        largest = self.radius * self.weight.double().abs()
        return largest if self.bias is None else largest + self.bias.double().abs()


def ball_bound(rows: Rows, given: Normed) -> Tensor:
    """Bounds of the outputs for what a norm gives out, by Cauchy and Schwarz.

    Shapes:
        given (I,) -> (O,) float64

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.constant_(layer.weight, 3.0)
        >>> round(ball_bound(Rows("layer", layer), Normed(2**0.5, torch.ones(2))).item(), 3)
        6.0
    """
    scale = given.weight.float()
    sizes = torch.cat([torch.linalg.vector_norm(part * scale, dim=1) for part in rows.parts()])
    bound = given.radius * sizes.double()
    if rows.inexactness:
        bound += rows.inexactness * given.radius * scale.abs().max() * row_sizes(rows)
    if given.bias is not None:
        return bound + box_bound(rows, given.bias.double().abs())
    return _add_bias(bound, rows)


def box_bound(rows: Rows, limits: Tensor) -> Tensor:
    """Bounds of the outputs if no input is larger than its limit.

    Shapes:
        limits (I,) -> (O,) float64
    """
    limits = limits.double()
    peak = limits.max().clamp_min(torch.finfo(torch.float32).tiny)
    share = (limits / peak).float()
    bound = torch.cat([part.abs() @ share for part in rows.parts()]).double() * peak
    if rows.inexactness:
        bound += rows.inexactness * torch.linalg.vector_norm(limits) * row_sizes(rows)
    return _add_bias(bound, rows)


def length_bound(rows: Rows, given: Normed) -> float:
    """A bound of the 2-norm of all outputs together, for what a norm gives out.

    It comes from a bound of the largest singular value s: the Frobenius norm of the n-th power of the Gram
    matrix is at least s^2n and, of I rows, at most the root of I times that. It costs some products of large
    matrices. The sum of the squares of `ball_bound` is a bound too, mostly a far larger one.

    Shapes:
        given (I,)
    """
    scale = given.weight.float()
    length = given.radius * _largest_singular_value(rows, scale)
    if rows.inexactness:
        length += rows.inexactness * float(torch.linalg.vector_norm(ball_bound(rows, given)))
    rest = box_bound(rows, torch.zeros_like(scale) if given.bias is None else given.bias.abs())
    return length + float(torch.linalg.vector_norm(rest))


def row_peaks(rows: Rows) -> Tensor:
    """Largest magnitude of each row. Shapes: () -> (O,) float64."""
    return torch.cat([part.abs().amax(1) for part in rows.parts()]).double()


def row_sizes(rows: Rows) -> Tensor:
    """2-norm of each row. Shapes: () -> (O,) float64."""
    return torch.cat([torch.linalg.vector_norm(part, dim=1) for part in rows.parts()]).double()


def column_peaks(rows: Rows) -> Tensor:
    """Largest magnitude of each column, so of what a table gives. Shapes: () -> (I,) float64."""
    return torch.stack([part.abs().amax(0) for part in rows.parts()]).amax(0).double()


def _add_bias(bound: Tensor, rows: Rows) -> Tensor:
    bias = rows.bias()
    return bound if bias is None else bound + bias.double().abs()


def _largest_singular_value(rows: Rows, scale: Tensor) -> float:
    gram = torch.zeros(len(scale), len(scale), device=scale.device)  # (I, I)
    for part in rows.parts():
        scaled = part * scale
        gram.addmm_(scaled.T, scaled)
    logarithm, weight = 0.0, 1.0
    for _ in range(_SQUARINGS):
        size = torch.linalg.matrix_norm(gram).item()
        if size == 0:
            return 0.0
        logarithm += weight * math.log(size)
        weight /= 2
        gram = gram.div_(size).mm(gram)
    logarithm += weight * math.log(torch.linalg.matrix_norm(gram).item())
    return math.sqrt(_ROUNDING * math.exp(logarithm))
