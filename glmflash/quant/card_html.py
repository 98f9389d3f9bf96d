"""The parts of a card → HTML for a notebook: bars by kind, a plot of the errors, all layers.

Colours are readable on white and on black, styles stand in the elements, and there is no script: notebooks
differ in what they let through. All text is escaped.
"""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from glmflash.quant.card_parts import KeptCard, LayerCard, Measured, group
from glmflash.quant.card_text import percent, size, summary

__all__ = ["to_html"]

_BLUE, _ORANGE, _GREY = "#3b82f6", "#e8870c", "#8a8f98"
_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 820, 180, 52, 10, 22  # of the plot, and its margins


def __dir__() -> list[str]:
    return __all__


def to_html(layers: Sequence[LayerCard], kept: Sequence[KeptCard], measured: Sequence[Measured]) -> str:
    """A summary, a bar for each kind, the errors in the order of the network, and a table that unfolds."""
    headline = escape(summary(layers, kept).replace("->", "→"))
    parts = [f"<div style='font-weight: 600; margin-bottom: 8px'>{headline}</div>"]
    parts += [_measured(measured)] if measured else []
    parts += [_bars(layers, kept)]
    parts += [_plot(layers), _table(layers)] if layers else []
    return f"<div style='max-width: {_WIDTH}px; font-size: 13px; line-height: 1.4'>{''.join(parts)}</div>"


def _measured(measured: Sequence[Measured]) -> str:
    lines = "".join(
        f"<div>{escape(one.name)}, {escape(one.metric)}: {one.before:.4f} → <b>{one.after:.4f}</b> "
        f"({one.delta:+.4f}) <code style='opacity: .75'>{escape(one.source)}</code></div>"
        for one in measured
    )
    return f"<div style='border-left: 3px solid {_BLUE}; padding-left: 8px; margin-bottom: 8px'>{lines}</div>"


def _bars(layers: Sequence[LayerCard], kept: Sequence[KeptCard]) -> str:
    groups = group(layers)
    largest = max([1, *(one.bytes_before for one in groups), *(one.bytes for one in kept)])
    rows = [
        _bar(
            f"{one.kind} ×{one.count}",
            (one.bytes_before / largest, one.bytes_after / largest),
            f"{size(one.bytes_before)} → {size(one.bytes_after)}",
            f"{one.scheme}, {one.kernel}, {_errors(one.errors)}",
            _BLUE,
        )
        for one in groups
    ]
    rows += [
        _bar(
            f"kept: {one.kind} ×{one.tensors}", (0.0, one.bytes / largest), size(one.bytes), one.dtype, _GREY
        )
        for one in kept
    ]
    columns = "grid-template-columns: max-content minmax(40px, 1fr) max-content max-content"
    grid = (
        f"<div style='display: grid; {columns}; column-gap: 12px; white-space: nowrap'>{''.join(rows)}</div>"
    )
    return f"<div style='overflow-x: auto; font-size: 12px'>{grid}</div>"


def _bar(name: str, shares: tuple[float, float], sizes: str, note: str, colour: str) -> str:
    before, after = (max(0.4, 100 * share) if share else 0.0 for share in shares)
    bar = f"position: absolute; left: 0; height: 9px; top: 5px; border-radius: 2px; background: {colour}"
    return (
        f"<span style='font-family: monospace; font-size: 11px; line-height: 19px'>{escape(name)}</span>"
        f"<div style='position: relative'><div style='{bar}; opacity: .3; width: {before:.2f}%'></div>"
        f"<div style='{bar}; width: {after:.2f}%'></div></div>"
        f"<span style='text-align: right; line-height: 19px'>{escape(sizes)}</span>"
        f"<span style='opacity: .75; line-height: 19px'>{escape(note)}</span>"
    )


def _errors(errors: tuple[float, float, float]) -> str:
    low, middle, high = errors
    return percent(middle) if low == high else f"{100 * low:.2f} to {percent(high)}"


def _plot(layers: Sequence[LayerCard]) -> str:
    top = max(max(layer.error for layer in layers), 1e-9) * 1.08
    across, down = _WIDTH - _LEFT - 8, _HEIGHT - _TOP - _FOOT
    worst = max(layers, key=lambda layer: layer.error)
    marks = [_line(share, top, _TOP + down * (1 - share)) for share in (0.0, 0.5, 1.0)]
    for number, layer in enumerate(layers):
        x = _LEFT + across * (number + 0.5) / len(layers)
        y = _TOP + down * (1 - layer.error / top)
        colour, radius = (_ORANGE, 4.0) if layer is worst else (_BLUE, 2.6)
        about = escape(f"{layer.name}: {percent(layer.error)}")
        marks.append(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius}' fill='{colour}'><title>{about}</title></circle>"
        )
    marks += _stretches(layers, across)
    caption = f"Relative error of each layer's weight. Largest: {worst.name}, {percent(worst.error)}."
    return (
        f"<div style='margin-top: 12px'>{escape(caption)}</div>"
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' width='100%' role='img' aria-label='{escape(caption)}' "
        f"style='font-size: 11px; fill: currentColor'>{''.join(marks)}</svg>"
    )


def _line(share: float, top: float, y: float) -> str:
    return (
        f"<line x1='{_LEFT}' x2='{_WIDTH}' y1='{y:.1f}' y2='{y:.1f}' stroke='currentColor' opacity='.2'/>"
        f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' text-anchor='end' opacity='.75'>{percent(share * top)}</text>"
    )


def _stretches(layers: Sequence[LayerCard], across: float) -> Iterable[str]:
    """Name the parts of the network under the plot, where there is room for a name."""
    begin = 0
    for part, members in groupby(layers, key=lambda layer: ".".join(layer.name.split(".")[:2])):
        count = sum(1 for _ in members)
        left, width = _LEFT + across * begin / len(layers), across * count / len(layers)
        begin += count
        yield (
            f"<line x1='{left:.1f}' x2='{left:.1f}' y1='{_TOP}' y2='{_HEIGHT - 4}' stroke='currentColor' "
            "opacity='.35'/>"
        )
        if width > 6.5 * len(part) + 8:
            yield f"<text x='{left + 5:.1f}' y='{_HEIGHT - 6}' opacity='.75'>{escape(part)}</text>"


def _table(layers: Sequence[LayerCard]) -> str:
    names = ("layer", "shape", "scheme", "kernel", "error", "before", "after")
    left, right = "text-align: left; padding: 1px 8px", "text-align: right; padding: 1px 8px"
    rows = [names, *map(_cells, layers)]
    body = "".join(
        "<tr>"
        + "".join(
            f"<td style='{right if at > 3 else left}'>{escape(cell)}</td>" for at, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        "<details style='margin-top: 8px'><summary style='cursor: pointer'>"
        f"all {len(layers)} layers</summary>"
        "<div style='max-height: 400px; overflow: auto'>"
        "<table style='border-collapse: collapse; font-size: 12px; color: inherit'>"
        f"{body}</table></div></details>"
    )


def _cells(layer: LayerCard) -> tuple[str, ...]:
    shape = f"{layer.shape[0]}×{layer.shape[1]}"
    sizes = size(layer.bytes_before), size(layer.bytes_after)
    return layer.name, shape, layer.scheme, layer.kernel, percent(layer.error), *sizes
