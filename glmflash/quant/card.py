"""A quantised module → a card: what became of each layer, and what it saves."""

from dataclasses import dataclass

from torch import nn

from glmflash.quant.embedding import QuantizedEmbedding
from glmflash.quant.linear import QuantizedLinear

__all__ = ["Card", "LayerCard", "card"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class LayerCard:
    """One quantised layer.

    Args:
        name: Of the module.
        shape: Of its weight.
        scheme: "int8" or "w8a8".
        kernel: Which kernel multiplies with it.
        error: Relative error of the weight: norm of the change over norm.
        bytes_before: Of the weight as it was stored.
        bytes_after: Of the weight as it is held.
    """

    name: str
    shape: tuple[int, int]
    scheme: str
    kernel: str
    error: float
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class Card:
    """What quantisation did to a model.

    Args:
        layers: Quantised ones, in the order of the network.
    """

    layers: tuple[LayerCard, ...]


def card(module: nn.Module) -> Card:
    """Look through a module for quantised layers."""
    found = [
        LayerCard(
            name=name,
            shape=layer.shape,
            scheme=layer.scheme,
            kernel=layer.kernel,
            error=layer.error,
            bytes_before=layer.source_bytes,
            bytes_after=layer.nbytes,
        )
        for name, layer in module.named_modules()
        if isinstance(layer, QuantizedLinear | QuantizedEmbedding)
    ]
    return Card(tuple(found))
