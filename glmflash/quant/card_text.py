"""The parts of a card → a table of text."""

from collections.abc import Iterator, Sequence

from glmflash.quant.card_parts import KeptCard, LayerCard, Measured, group

__all__ = ["percent", "size", "summary", "to_text"]

_WORST = 3
_COLUMNS = ("layers", "count", "scheme", "kernel", "error: min", "median", "max", "before", "after")


def __dir__() -> list[str]:
    return __all__


def to_text(layers: Sequence[LayerCard], kept: Sequence[KeptCard], measured: Sequence[Measured]) -> str:
    """Layers by kind, one line each, then what was kept, the worst layers, and what was measured."""
    table = [_COLUMNS, *_layer_rows(layers), *_kept_rows(kept)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    lines = [summary(layers, kept), ""]
    lines += ["  ".join(_aligned(row, widths)).rstrip() for row in table]
    if layers:
        worst = sorted(layers, key=lambda layer: -layer.error)[:_WORST]
        lines += ["", "largest errors: " + ", ".join(f"{one.name} {percent(one.error)}" for one in worst)]
    lines += [""] * bool(measured) + [_measured(one) for one in measured]
    return "\n".join(lines)


def summary(layers: Sequence[LayerCard], kept: Sequence[KeptCard]) -> str:
    """One line: how many layers, and all weights before and after."""
    rest = sum(one.bytes for one in kept)
    before = sum(layer.bytes_before for layer in layers) + rest
    after = sum(layer.bytes_after for layer in layers) + rest
    number = f"{len(layers)} layer{'' if len(layers) == 1 else 's'} in INT8"
    share = f" ({percent(after / before, digits=0)})" if before else ""
    return f"{number}; all weights {size(before)} -> {size(after)}{share}, {size(rest)} of it not INT8"


def size(count: int) -> str:
    """Bytes for people.

    Example:
        >>> size(512), size(20_600_000_000)
        ('512 B', '20.60 GB')
    """
    for unit, factor, digits in (("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 1)):
        if count >= factor:
            return f"{count / factor:.{digits}f} {unit}"
    return f"{count} B"


def percent(share: float, *, digits: int = 2) -> str:
    """A share for people.

    Example:
        >>> percent(0.00871)
        '0.87 %'
    """
    return f"{100 * share:.{digits}f} %"


def _layer_rows(layers: Sequence[LayerCard]) -> Iterator[tuple[str, ...]]:
    for one in group(layers):
        errors = map(percent, one.errors)
        sizes = size(one.bytes_before), size(one.bytes_after)
        yield one.kind, str(one.count), one.scheme, one.kernel, *errors, *sizes


def _kept_rows(kept: Sequence[KeptCard]) -> Iterator[tuple[str, ...]]:
    for one in kept:
        yield (
            f"kept: {one.kind}",
            str(one.tensors),
            one.dtype,
            "",
            "",
            "",
            "",
            size(one.bytes),
            size(one.bytes),
        )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if _COLUMNS[column] in ("layers", "scheme", "kernel") else cell.rjust(width)


def _measured(one: Measured) -> str:
    source = f"  ({one.source})" if one.source else ""
    return (
        f"measured: {one.name}, {one.metric} {one.before:.4f} -> {one.after:.4f} ({one.delta:+.4f}){source}"
    )
