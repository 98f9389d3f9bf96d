"""Figures of systems → plots, a row for each: a mark in SVG between a name and a number in HTML.

Places are in percent, so that a plot is as wide as there is room, and its letters are as large as all others.
Every text is escaped.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from glmflash.evaluate.report_text import percent, points, seconds
from glmflash.evaluate.statistics import Interval
from glmflash.evaluate.summary import Summary

__all__ = ["accuracy_plot", "difference_plot", "latency_plot"]

_MIDDLE = 19  # pixels from the top of a row
_QUICK = 100  # what is quicker than the slowest by this is no model, and off the scale
_NEAR = 0.2  # differences beyond that are off the scale if others are not


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where a value stands: percent from the left."""

    low: float
    high: float
    ticks: tuple[float, ...]
    text: Callable[[float], str]
    place: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        low, high = self.place(self.low), self.place(self.high)
        inside = self.place(min(max(value, self.low), self.high))
        return 100 * (inside - low) / (high - low)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def accuracy_plot(systems: Sequence[Summary], *, baseline: str) -> str:
    """Accuracy with its interval; the baseline's is a line through all rows."""
    lowest = min(one.accuracy.low for one in systems)
    low = 0.0 if lowest < 0.4 else floor(lowest * 10) / 10 if lowest < 0.9 else floor(lowest * 50) / 50
    scale = _Scale(low, 1.0, _evenly(low, 1.0), lambda value: f"{100 * value:g}")
    base = next(one.accuracy.value for one in systems if one.system == baseline)
    rows = [
        _row(
            one.system,
            _grid(scale, base) + _whisker(scale, one.accuracy, "base" if one.system == baseline else "mark"),
            f"{percent(one.accuracy.value)}<small>{100 * one.accuracy.low:.1f} to "
            f"{100 * one.accuracy.high:.1f}</small>",
        )
        for one in systems
    ]
    return _plot(rows, scale)


def difference_plot(systems: Sequence[Summary]) -> str:
    """Differences to the baseline, with intervals: red or green where they are more than chance."""
    found = [(one.system, one.difference) for one in systems if one.difference is not None]
    near = [one for _, one in found if abs(one.value) <= _NEAR] or [one for _, one in found]
    reach = max(0.01, *(abs(end) for one in near for end in (one.low, one.high)))
    reach = next(end for end in (0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.4, 0.6, 1.0) if end >= reach - 1e-9)
    scale = _Scale(-reach, reach, (-reach, -reach / 2, 0.0, reach / 2, reach), points)
    rows = []
    for name, one in found:
        colour = "soft" if not one.excludes_zero else "good" if one.value > 0 else "bad"
        value = (
            f"<span class='{colour}'>{points(one.value)}</span><small>{points(one.low)} to {points(one.high)}"
        )
        rows.append(_row(name, _grid(scale, 0.0) + _whisker(scale, one, colour), f"{value}</small>"))
    return _plot(rows, scale)


def latency_plot(systems: Sequence[Summary]) -> str:
    """P50, P95 and P99 of each; on a logarithmic scale where they lie far apart."""
    timed = [one for one in systems if one.latency.count and one.latency.max > 0]
    if not timed:
        return "<p class='soft small'>No answer came.</p>"
    high = max(one.latency.p99 for one in timed)
    slow = max(one.latency.p50 for one in timed)
    low = min(one.latency.p50 for one in timed if one.latency.p50 > slow / _QUICK)
    scale = _far(low, high) if low < high / 12 else _near(high)
    rows = []
    for one in timed:
        p50, p95, p99 = one.latency.p50, one.latency.p95, one.latency.p99
        marks = _line(scale(p50), scale(p99), "mark", 2)
        marks += _tick(scale(p99)) + _dot(scale(p95), "var(--card)", 4.5) + _dot(scale(p50), "var(--mark)", 5)
        marks += "" if scale.holds(p50) else _arrow(0)
        value = f"{seconds(p50)}<small>{seconds(p95)} · {seconds(p99)}</small>"
        rows.append(_row(one.system, _grid(scale, None) + marks, value))
    return _plot(rows, scale) + _key()


def _near(high: float) -> _Scale:
    unit = 10 ** floor(log10(high))
    top = next(step * unit for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * unit >= high)
    return _Scale(0.0, top, _evenly(0.0, top), lambda value: seconds(value) if value else "0")


def _far(low: float, high: float) -> _Scale:
    bottom, top = floor(log10(low)), ceil(log10(high))
    ticks = tuple(10.0**power for power in range(bottom, max(top, bottom + 1) + 1))
    return _Scale(ticks[0], ticks[-1], ticks, _round, log10)


def _round(value: float) -> str:
    for unit, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= unit * 0.999:
            return f"{value / unit:.0f} {name}"
    return "0"


def _evenly(low: float, high: float) -> tuple[float, ...]:
    return tuple(low + (high - low) * part / 4 for part in range(5))


def _plot(rows: Iterable[str], scale: _Scale) -> str:
    marks = "".join(
        f"<text x='{scale(tick):.2f}%' y='14' text-anchor='{_anchor(scale(tick))}'>"
        f"{escape(scale.text(tick))}</text>"
        for tick in scale.ticks
    )
    axis = f"<span></span><svg class='axis' aria-hidden='true'>{marks}</svg><span></span>"
    return f"<div class='plot'>{''.join(rows)}{axis}</div>"


def _row(name: str, marks: str, value: str) -> str:
    return (
        f"<span class='name' title='{escape(name)}'>{escape(name)}</span>"
        f"<svg aria-hidden='true'>{marks}</svg><span class='value'>{value}</span>"
    )


def _grid(scale: _Scale, special: float | None) -> str:
    lines = "".join(
        f"<line x1='{scale(tick):.2f}%' x2='{scale(tick):.2f}%' y1='0' y2='38' stroke='var(--line)'/>"
        for tick in scale.ticks
    )
    if special is None:
        return lines
    place = f"{scale(special):.2f}%"
    return (
        f"{lines}<line x1='{place}' x2='{place}' y1='0' y2='38' stroke='var(--base)' stroke-opacity='.55' "
        "stroke-dasharray='3 3'/>"
    )


def _whisker(scale: _Scale, one: Interval, colour: str) -> str:
    if not scale.holds(one.value):
        return _arrow(0 if one.value < scale.low else 100, colour)
    low, high = scale(one.low), scale(one.high)
    ends = "".join(
        f"<line x1='{x:.2f}%' x2='{x:.2f}%' y1='{_MIDDLE - 5}' y2='{_MIDDLE + 5}' stroke='var(--{colour})' "
        "stroke-width='2'/>"
        for x in (low, high)
    )
    return _line(low, high, colour, 2) + ends + _dot(scale(one.value), f"var(--{colour})", 5.5)


def _line(low: float, high: float, colour: str, width: int) -> str:
    return (
        f"<line x1='{low:.2f}%' x2='{high:.2f}%' y1='{_MIDDLE}' y2='{_MIDDLE}' stroke='var(--{colour})' "
        f"stroke-width='{width}'/>"
    )


def _dot(x: float, fill: str, radius: float) -> str:
    return (
        f"<circle cx='{x:.2f}%' cy='{_MIDDLE}' r='{radius}' fill='{fill}' stroke='var(--mark)' "
        f"stroke-width='{2 if fill == 'var(--card)' else 0}'/>"
    )


def _tick(x: float) -> str:
    return (
        f"<line x1='{x:.2f}%' x2='{x:.2f}%' y1='{_MIDDLE - 6}' y2='{_MIDDLE + 6}' stroke='var(--mark)' "
        "stroke-width='2'/>"
    )


def _arrow(x: int, colour: str = "mark") -> str:
    """A mark that stands beyond an end of the scale."""
    sign = 1 if x else -1
    tip = f"<path d='M {sign * 1} {_MIDDLE - 6} l {sign * 9} 6 l {-sign * 9} 6 z' fill='var(--{colour})'/>"
    return f"<svg x='{x}%' style='overflow: visible'>{tip}</svg>"


def _anchor(x: float) -> str:
    return "start" if x < 1 else "end" if x > 99 else "middle"


def _key() -> str:
    marks = {
        "P50": "<circle cx='7' cy='5' r='4.5' fill='var(--mark)'/>",
        "P95": "<circle cx='7' cy='5' r='3.5' fill='none' stroke='var(--mark)' stroke-width='2'/>",
        "P99": "<path d='M7 0v10' stroke='var(--mark)' stroke-width='2'/>",
    }
    parts = "".join(
        f"<span><svg aria-hidden='true'>{mark}</svg>{name}</span>" for name, mark in marks.items()
    )
    return f"<p class='key soft small'>{parts}</p>"
