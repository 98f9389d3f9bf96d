"""Rows of activations → whole numbers on a grid of their own, multiplied, and scaled back.

A row is divided by its largest magnitude, so that its numbers are levels from -L to L. Rounded to whole
levels they keep 7 or 8 bits: one product. Split, x = high + low / 2L, the rounded part and what rounding
took, which is a row of levels again: two products, 14 or 16 bits. Where few rows are multiplied the weights
are read once for both, so the second costs nothing. Because each row has a grid of its own and products of
whole numbers are exact, a row's result does not depend on its neighbours, to the last bit.

Source: row scales as in ZeroQuant (arXiv 2206.01861), splitting after Ozaki et al.
(doi 10.1007/s11075-011-9478-1).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["FEW", "by_levels", "few_rows", "have_outliers", "row_peaks"]

FEW = 4  # rows up to which NumPy takes half the time of PyTorch, whose every step costs more than its work
_TILE = 128  # rows multiplied at once: more is not faster, and memory that large is given back each time


def __dir__() -> list[str]:
    return __all__


def by_levels(
    x: Tensor,
    multiply: Callable[[Tensor], Tensor],
    out_features: int,
    *,
    levels: int,
    split: float,
    few: int = 0,
    tile: int = _TILE,
) -> Tensor:
    """Multiply rows with a weight through a product of whole numbers.

    Args:
        x: Rows, of any floating dtype. A row that is not finite gives a row that is not finite.
        multiply: (M, I) float32 within -levels to levels -> (M, O) float32. It rounds its input to whole
            numbers, the nearest, and multiplies exactly, with the weight's scales applied.
        out_features: O.
        levels: L, the largest whole number that `multiply` takes.
        split: Rows whose peak is more than this many times their root mean square are split; 0 for all rows.
        few: Of so many rows or fewer both parts are multiplied, the second of them zero for a row that is not
            split. That gives the same result without the host asking a GPU which rows are.
        tile: Rows multiplied at once.

    Shapes:
        x (N, I) -> (N, O) float32

    Example:
        >>> x = torch.tensor([[0.3, -2.0], [5.0, 1.0]])
        >>> by_levels(x, lambda rows: rows.round(), 2, levels=127, split=0).allclose(x, rtol=1e-4)
        True
    """
    if len(x) <= tile:
        return _tile(x, multiply, levels, split, few)
    out = x.new_empty(len(x), out_features, dtype=torch.float32)  # (N, O)
    for rows, place in zip(x.split(tile), out.split(tile), strict=True):
        place.copy_(_tile(rows, multiply, levels, split, few))
    return out


def few_rows(
    x: npt.NDArray[np.float32], multiply: Callable[[Tensor], Sequence[Tensor]], levels: int
) -> npt.NDArray[np.float32]:
    """`by_levels` of rows that are all split, on a CPU: step by step the same, in NumPy.

    NumPy complains of numbers that are not finite, unless it is told not to.

    Args:
        x: The rows; no more than `FEW`, or it is slower.
        multiply: See `by_levels`; it may give what it makes in parts that follow each other along O.
        levels: See there.

    Shapes:
        x (N, I) -> (N, O)
    """
    count, tiny = len(x), np.float32(torch.finfo(torch.float32).tiny * levels)
    peak = np.maximum.reduce(x, axis=-1, keepdims=True)  # (N, 1)
    np.maximum(peak, -np.minimum.reduce(x, axis=-1, keepdims=True), out=peak)
    np.maximum(peak, tiny, out=peak)
    both = np.empty((2 * count, x.shape[1]), np.float32)  # (2N, I)
    high, low = both[:count], both[count:]
    np.multiply(x, np.reciprocal(peak) * np.float32(levels), out=low)
    np.rint(low, out=high)
    np.subtract(low, high, out=low)
    np.multiply(low, np.float32(2 * levels), out=low)
    parts = []
    for part in multiply(torch.from_numpy(both)):
        product = part.numpy()  # (2N, O)
        out, rest = product[:count], product[count:]
        np.multiply(rest, np.float32(0.5 / levels), out=rest)
        np.add(out, rest, out=out)
        np.multiply(out, peak * np.float32(1 / levels), out=out)
        parts.append(out)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def row_peaks(x: Tensor, levels: int) -> Tensor:
    """Each row's largest magnitude; of a row of zeros, a little. Shapes: x (N, I) float32 -> (N, 1)."""
    # Several times faster than `aminmax` or a norm of infinite order.
    peak = torch.maximum(x.amax(-1, keepdim=True), x.amin(-1, keepdim=True).neg_())  # (N, 1)
    return peak.clamp_min_(torch.finfo(torch.float32).tiny * levels)


def have_outliers(rows: Tensor, levels: int, split: float) -> Tensor:
    """Whether rows that peak at `levels` do so at more than `split` times their root mean square.

    Shapes:
        rows (N, I) float32 -> (N,) bool
    """
    size = torch.linalg.vector_norm(rows, dim=-1) / rows.shape[-1] ** 0.5  # (N,)
    found: Tensor = (size * split < levels) & (size > 0)
    return found


def _tile(x: Tensor, multiply: Callable[[Tensor], Tensor], levels: int, split: float, few: int) -> Tensor:
    x = x.float()
    if split == 0 and len(x) <= FEW and x.device.type == "cpu":
        with np.errstate(all="ignore"):  # what is not finite is to come out not finite
            return torch.from_numpy(few_rows(x.detach().numpy(), lambda rows: [multiply(rows)], levels))
    peak = row_peaks(x, levels)
    if split == 0 or len(x) <= few:
        return _both_parts(x, peak, multiply, levels, split)
    rows = x * _up(peak, levels)  # (N, I)
    (found,) = torch.nonzero(have_outliers(rows, levels, split), as_tuple=True)  # (F,)
    if not len(found):
        return multiply(rows).mul_(peak * (1 / levels))
    high = rows.round()
    low = (rows[found] - high[found]).mul_(2 * levels)  # (F, I)
    out = multiply(torch.cat([high, low]))  # (N + F, O)
    out, rest = out[: len(x)], out[len(x) :]
    # Not `index_add_`, which rounds otherwise on a GPU: then a row's last bit would depend on its neighbours.
    out.index_copy_(0, found, out[found].add_(rest.mul_(0.5 / levels)))
    return out.mul_(peak * (1 / levels))


def _up(peak: Tensor, levels: int) -> Tensor:
    # Spelled out: `levels / peak` and `peak / levels` round otherwise on some devices than on others.
    return peak.reciprocal() * levels  # (N, 1)


def _both_parts(
    x: Tensor, peak: Tensor, multiply: Callable[[Tensor], Tensor], levels: int, split: float
) -> Tensor:
    both = x.new_empty(2 * len(x), x.shape[1])  # (2N, I)
    high, low = both.chunk(2)
    torch.mul(x, _up(peak, levels), out=low)
    whole = None if split == 0 else ~have_outliers(low, levels, split)  # (N,)
    torch.round(low, out=high)
    low.sub_(high).mul_(2 * levels)
    if whole is not None:
        low.masked_fill_(whole[:, None], 0)
    out, rest = multiply(both).chunk(2)  # (N, O) each
    # Not `add_(alpha=)`, which rounds once where there are instructions for it: NumPy rounds twice.
    return out.add_(rest.mul_(0.5 / levels)).mul_(peak * (1 / levels))
