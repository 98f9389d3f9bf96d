"""A quantised module → a card: what became of each layer, what was kept, and what it saves."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from heapq import nlargest
from typing import Self

from torch import Tensor, nn

from glmflash.quant.card_html import to_html
from glmflash.quant.card_parts import Group, KeptCard, LayerCard, Measured, group
from glmflash.quant.card_read import read_kept, read_layers, read_measured, require_object
from glmflash.quant.card_text import size, to_text
from glmflash.quant.embedding import QuantizedEmbedding
from glmflash.quant.linear import QuantizedLinear
from glmflash.quant.measured import shipped

__all__ = ["Card", "card"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, repr=False)
class Card:
    """What quantisation did to a model. `str(card)` is a table; a notebook shows bars and a plot.

    Args:
        layers: Quantised ones, in the order of the network.
        kept: All other weights, by kind and dtype.
        measured: What is known of the model's accuracy.

    Example:
        >>> layer = LayerCard("blocks.0.proj", (8, 8), "int8", "fbgemm", 0.0087, 256, 128)
        >>> Card((layer,), kept=(KeptCard("norms", "float32", 2, 64),))
        <Card: 1 INT8 layer, 320 B -> 192 B, largest error 0.87 %>
    """

    layers: tuple[LayerCard, ...]
    kept: tuple[KeptCard, ...] = ()
    measured: tuple[Measured, ...] = ()

    @property
    def bytes_before(self) -> int:
        """Of all weights: as INT8 layers were stored, and as the others are kept."""
        return sum(layer.bytes_before for layer in self.layers) + sum(kept.bytes for kept in self.kept)

    @property
    def bytes_after(self) -> int:
        """Of all weights as they are held."""
        return sum(layer.bytes_after for layer in self.layers) + sum(kept.bytes for kept in self.kept)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The layers by kind: those whose names differ in numbers only, and that are computed alike."""
        return group(self.layers)

    def worst(self, count: int = 5) -> tuple[LayerCard, ...]:
        """The layers with the largest error, largest first."""
        return tuple(nlargest(count, self.layers, key=lambda layer: layer.error))

    def with_measured(self, *measured: Measured) -> Self:
        """The same card with more figures of accuracy.

        Example:
            >>> figure = Measured("receipts", "exact match", before=0.9, after=0.89, source="my script")
            >>> Card(()).with_measured(figure).measured[0].delta
            -0.01
        """
        return replace(self, measured=(*self.measured, *measured))

    def to_dict(self) -> dict[str, object]:
        """The card as JSON values, for `from_dict`."""
        return {
            name: [
                {
                    key: list(value) if isinstance(value, tuple) else value
                    for key, value in asdict(one).items()
                }
                for one in getattr(self, name)
            ]
            for name in ("layers", "kept", "measured")
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object], *, where: str = "card") -> Self:
        """Read a card back, strictly.

        Args:
            data: From `to_dict`.
            where: A file's name, for messages.

        Raises:
            ConfigError: If it is no card; the message names the field.

        Example:
            >>> Card.from_dict({"layers": []}).to_dict()
            {'layers': [], 'kept': [], 'measured': []}
        """
        fields = require_object(data, ("layers", "kept", "measured"), where)
        return cls(read_layers(fields, where), read_kept(fields, where), read_measured(fields, where))

    def __str__(self) -> str:
        return to_text(self.layers, self.kept, self.measured)

    def __repr__(self) -> str:
        if not self.layers:
            return "<Card: no INT8 layers>"
        number = f"{len(self.layers)} INT8 layer{'s' if len(self.layers) > 1 else ''}"
        error = f"largest error {self.worst(1)[0].error:.2%}".replace("%", " %")
        return f"<Card: {number}, {size(self.bytes_before)} -> {size(self.bytes_after)}, {error}>"

    def _repr_html_(self) -> str:
        return to_html(self.layers, self.kept, self.measured)


def card(module: nn.Module) -> Card:
    """Look through a module for quantised layers, and for what is not quantised.

    For the embedded model the card has the shipped figures of accuracy, if they were measured with the very
    same weights and kernels.

    Example:
        >>> card(nn.Linear(2, 2)).kept
        (KeptCard(kind='linear layers', dtype='float32', tensors=2, bytes=24),)
    """
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
    return Card(tuple(found), _kept(module), shipped(module))


def _kept(module: nn.Module) -> tuple[KeptCard, ...]:
    tensors: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    seen: set[int] = set()
    for kind, tensor in _unquantised(module):
        if id(tensor) not in seen:  # tied weights are held once
            seen.add(id(tensor))
            key = kind, str(tensor.dtype).removeprefix("torch.")
            tensors[key] += 1
            total[key] += tensor.nbytes
    return tuple(
        KeptCard(*key, tensors[key], total[key]) for key in sorted(total, key=lambda key: -total[key])
    )


def _unquantised(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for layer in module.modules():
        if isinstance(layer, QuantizedLinear):
            yield from (("biases of INT8 layers", tensor) for tensor in layer.parameters(recurse=False))
        elif not isinstance(layer, QuantizedEmbedding):
            kind = _kind(layer)
            yield from ((kind, tensor) for tensor in layer.parameters(recurse=False))
            yield from ((kind, tensor) for tensor in layer.buffers(recurse=False))


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, nn.Linear):
        return "linear layers"
    if isinstance(layer, nn.Embedding):
        return "embeddings"
    name = type(layer).__name__
    return "norms" if "Norm" in name else "convolutions" if name.startswith("Conv") else "others"
