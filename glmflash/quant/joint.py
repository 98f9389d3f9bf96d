"""INT8 layers that are given the same rows → one product for all of them, cut into what each gives.

Few rows take the time of reading the weights and of some dozen small steps around it. The steps are spared
for all layers but one. Sums are exact and rows have grids of their own, so nothing comes out otherwise.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from glmflash.ops.int8 import PackedWeight, Packer
from glmflash.quant.config import SCHEMES
from glmflash.quant.linear import QuantizedLinear
from glmflash.quant.rows import QuantizedRows

__all__ = ["JOINT", "JointWeight", "join_", "outputs", "pack_jointly", "packed_jointly"]

#: Layers of one module with these names are given the same rows.
JOINT = ("q_proj", "k_proj", "v_proj")


def __dir__() -> list[str]:
    return __all__


class _Whole:
    """The rows of several layers, packed as one weight."""

    def __init__(self, packed: PackedWeight, height: int) -> None:
        self.packed, self.height = packed, height
        self._unpacked: Tensor | None = None

    def unpack(self, start: int, stop: int) -> Tensor:
        """Some of its rows. Whoever saves asks for all parts in order, so it is unpacked once for them."""
        unpacked = self.packed.unpack() if start == 0 or self._unpacked is None else self._unpacked
        self._unpacked = None if stop == self.height else unpacked
        return unpacked[start:stop].clone()


class JointWeight:
    """One layer's rows of a weight that is packed for several: a `PackedWeight` itself.

    Args:
        whole: The rows of all.
        start: Its first row there.
        stop: One more than its last.
    """

    def __init__(self, whole: _Whole, start: int, stop: int) -> None:
        self.whole, self.start, self.stop = whole, start, stop

    @property
    def nbytes(self) -> int:
        """Its share; the shares of all sum to the whole."""
        total, height = self.whole.packed.nbytes, self.whole.height
        return total * self.stop // height - total * self.start // height

    def linear(self, x: Tensor, *, split: float) -> Tensor:
        """All rows are multiplied, and its own kept. Shapes: x (N, I) -> (N, O) float32."""
        return self.whole.packed.linear(x, split=split)[:, self.start : self.stop].contiguous()

    def unpack(self) -> Tensor:
        """Shapes: () -> (O, I) int8."""
        return self.whole.unpack(self.start, self.stop)


def pack_jointly(rows: Sequence[QuantizedRows], packer: Packer) -> tuple[list[JointWeight], str]:
    """Pack the weights of layers that are given the same rows, and name the kernel.

    Raises:
        ParameterError: If the packer's kernel does not run on the weights' device.
    """
    weight, scale = torch.cat([one.weight for one in rows]), torch.cat([one.scale for one in rows])
    packed, kernel = packer.pack(weight, scale)
    whole = _Whole(packed, len(weight))
    parts, start = [], 0
    for one in rows:
        parts.append(JointWeight(whole, start, start + len(one.weight)))
        start += len(one.weight)
    return parts, kernel


def join_(module: nn.Module) -> None:
    """Have layers called as `JOINT` says computed together, wherever all of them are INT8 alike."""
    packers = dict[str, Packer]()
    for owner in module.modules():
        layers = [getattr(owner, name, None) for name in JOINT]
        found = [layer for layer in layers if isinstance(layer, QuantizedLinear)]
        alike = {(layer.scheme, layer.kernel, layer.in_features) for layer in found}
        if len(found) == len(JOINT) and len(alike) == 1 and packed_jointly(found) is None:
            rows = [QuantizedRows(layer.unpack(), layer.weight_scale, layer.error) for layer in found]
            packer = packers.setdefault(found[0].kernel, Packer(found[0].kernel))
            parts, _ = pack_jointly(rows, packer)
            for layer, part in zip(found, parts, strict=True):
                layer.packed = part


def outputs(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> list[Tensor]:
    """What layers, INT8 or not, give for the same rows.

    Shapes:
        x (N, I), floating -> (N, O) for each, dtype of `x`
    """
    packed = packed_jointly(layers)
    if packed is None:
        return [layer(x) for layer in layers]
    found = [layer for layer in layers if isinstance(layer, QuantizedLinear)]  # all of them
    found[0].check(x)
    out = packed.linear(x, split=SCHEMES[found[0].scheme])
    parts = out.split([one.out_features for one in found], dim=1)
    for part, layer in zip(parts, found, strict=True):
        if layer.bias is not None:
            part.add_(layer.bias)
    return [part.to(x.dtype) for part in parts]


def packed_jointly(layers: Sequence[Callable[[Tensor], Tensor]]) -> PackedWeight | None:
    """The weight that holds the rows of these layers, in order, and no others; None if there is none.

    Where there is one, all layers are `QuantizedLinear`, of one scheme.
    """
    whole, scheme, start = None, None, 0
    for layer in layers:
        if not isinstance(layer, QuantizedLinear) or not isinstance(layer.packed, JointWeight):
            return None
        part = layer.packed
        if whole is None:
            whole, scheme = part.whole, layer.scheme
        if part.whole is not whole or part.start != start or layer.scheme != scheme:
            return None
        start = part.stop
    return whole.packed if whole is not None and start == whole.height else None
