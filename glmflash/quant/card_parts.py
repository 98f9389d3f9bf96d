"""The values that a card is made of, and layers put together by kind."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

__all__ = ["Group", "KeptCard", "LayerCard", "Measured", "group"]

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


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
class KeptCard:
    """Weights of one kind that are not quantised.

    Args:
        kind: "embeddings", "norms", "convolutions", "linear layers", "biases of INT8 layers", "others".
        dtype: Such as "bfloat16".
        tensors: How many there are.
        bytes: Of all of them.
    """

    kind: str
    dtype: str
    tensors: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """How well the model answers, with and without quantisation.

    Args:
        name: Of the questions, and how many there were.
        metric: What was counted, such as "exact match".
        before: Without quantisation.
        after: With it, as the card describes it.
        source: Who measured, or the command that does.
    """

    name: str
    metric: str
    before: float
    after: float
    source: str = ""

    @property
    def delta(self) -> float:
        """After less before."""
        return round(self.after - self.before, 12)


@dataclass(frozen=True, slots=True)
class Group:
    """Layers of one kind.

    Args:
        kind: Their names, with a star for each number.
        scheme: "int8" or "w8a8".
        kernel: Which kernel multiplies with them.
        count: How many there are.
        errors: Smallest, median and largest relative error.
        bytes_before: Of all of them as they were stored.
        bytes_after: Of all of them as they are held.
    """

    kind: str
    scheme: str
    kernel: str
    count: int
    errors: tuple[float, float, float]
    bytes_before: int
    bytes_after: int


def group(layers: Iterable[LayerCard]) -> tuple[Group, ...]:
    """Put layers together whose names differ in numbers only, and that are computed alike.

    Example:
        >>> rest = (8, 8), "int8", "fbgemm"
        >>> (alike,) = group(LayerCard(f"blocks.{n}.proj", *rest, n / 100, 128, 64) for n in range(3))
        >>> alike.kind, alike.errors
        ('blocks.*.proj', (0.0, 0.01, 0.02))
    """
    found: dict[tuple[str, str, str], list[LayerCard]] = {}
    for layer in layers:
        found.setdefault((_NUMBER.sub("*", layer.name), layer.scheme, layer.kernel), []).append(layer)
    return tuple(_group(*key, members) for key, members in found.items())


def _group(kind: str, scheme: str, kernel: str, members: list[LayerCard]) -> Group:
    errors = [layer.error for layer in members]
    return Group(
        kind=kind,
        scheme=scheme,
        kernel=kernel,
        count=len(members),
        errors=(min(errors), median(errors), max(errors)),
        bytes_before=sum(layer.bytes_before for layer in members),
        bytes_after=sum(layer.bytes_after for layer in members),
    )
