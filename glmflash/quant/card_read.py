"""JSON values → the parts of a card, or one `ConfigError` that names the field."""

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import fields

from glmflash.errors import ConfigError
from glmflash.fields import Fields
from glmflash.quant.card_parts import KeptCard, LayerCard, Measured
from glmflash.quant.config import SCHEMES

__all__ = ["read_kept", "read_layers", "read_measured", "require_object"]


def __dir__() -> list[str]:
    return __all__


def require_object(data: object, keys: tuple[str, ...], where: str) -> Mapping[str, object]:
    """A JSON object with no other keys than these.

    Raises:
        ConfigError: If it is none, or has others.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: is {reprlib.repr(data)}; allowed: an object")
    if others := sorted(map(str, data.keys() - set(keys))):
        raise ConfigError(f"{where}: has {reprlib.repr(others[0])}; allowed: {', '.join(keys)}")
    return data


def read_layers(data: Mapping[str, object], where: str) -> tuple[LayerCard, ...]:
    """The quantised layers. Raises: ConfigError."""
    found = []
    for entry, place in _entries(data, "layers", LayerCard, where):
        read = Fields(entry, place)
        if (scheme := read.string("scheme")) not in SCHEMES:
            read.refuse("scheme", scheme, " or ".join(map(repr, SCHEMES)))
        sizes = read.integers("shape", ())
        if len(sizes) != 2 or min(sizes) < 1:
            read.refuse("shape", entry.get("shape"), "two whole numbers above 0")
        found.append(
            LayerCard(
                name=read.string("name"),
                shape=(sizes[0], sizes[1]),
                scheme=scheme,
                kernel=read.string("kernel"),
                error=_positive(read, "error"),
                bytes_before=_count(read, "bytes_before"),
                bytes_after=_count(read, "bytes_after"),
            )
        )
    return tuple(found)


def read_kept(data: Mapping[str, object], where: str) -> tuple[KeptCard, ...]:
    """What was kept. Raises: ConfigError."""
    entries = [Fields(entry, place) for entry, place in _entries(data, "kept", KeptCard, where)]
    return tuple(
        KeptCard(read.string("kind"), read.string("dtype"), _count(read, "tensors"), _count(read, "bytes"))
        for read in entries
    )


def read_measured(data: Mapping[str, object], where: str) -> tuple[Measured, ...]:
    """Figures of accuracy. Raises: ConfigError."""
    entries = [Fields(entry, place) for entry, place in _entries(data, "measured", Measured, where)]
    return tuple(
        Measured(
            name=read.string("name"),
            metric=read.string("metric"),
            before=read.number("before"),
            after=read.number("after"),
            source=read.string("source") if read.has("source") else "",
        )
        for read in entries
    )


def _entries(
    data: Mapping[str, object], key: str, kind: type[LayerCard | KeptCard | Measured], where: str
) -> Iterator[tuple[Mapping[str, object], str]]:
    values = data.get(key, [] if key != "layers" else None)
    if not isinstance(values, list):
        raise ConfigError(f"{where}: {key} is {reprlib.repr(values)}; allowed: a list of objects")
    names = tuple(field.name for field in fields(kind))
    for number, value in enumerate(values):
        place = f"{where}: {key}[{number}]"
        yield require_object(value, names, place), place


def _count(read: Fields, key: str) -> int:
    number = read.integer(key)
    if number < 0:
        read.refuse(key, number, "a whole number, not below 0")
    return number


def _positive(read: Fields, key: str) -> float:
    number = read.number(key)
    if number < 0:
        read.refuse(key, number, "a number, not below 0")
    return number
