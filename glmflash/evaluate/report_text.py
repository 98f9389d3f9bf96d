"""A report → a table for a terminal, and Markdown for a page; and how its figures are spelled everywhere."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from glmflash.evaluate.statistics import Interval
from glmflash.evaluate.summary import Summary

if TYPE_CHECKING:
    from glmflash.evaluate.report import Report

__all__ = [
    "HEAD", "cells", "findings", "interval_text", "kind_rows", "percent", "points", "points_text", "seconds",
    "size", "title", "to_markdown", "to_text",
]  # fmt: skip

#: Names of columns; those of `cells`.
HEAD = ("system", "accuracy", "difference", "p50", "p95", "p99", "tokens/s", "weights", "kv", "errors")
_NONE = "–"


def __dir__() -> list[str]:
    return __all__


def to_text(report: "Report") -> str:
    """Figures of all systems, then by kind."""
    head, rows = kind_rows(report)
    parts = [title(report), "", *_aligned([list(HEAD), *map(cells, report.systems)])]
    parts += ["", *_aligned([head, *rows])] if len(rows) > 1 else []
    return "\n".join(parts)


def to_markdown(report: "Report") -> str:
    """The same as tables; what somebody wrote stands in them as text."""
    head, rows = kind_rows(report)
    parts = [_escape(title(report)), *_table([list(HEAD), *map(cells, report.systems)])]
    parts += ["", *_table([head, *rows])] if len(rows) > 1 else []
    parts += ["", *(f"- {_escape(text)}" for text in findings(report)), "", *_wrong(report)]
    return "\n".join(parts) + "\n"


def title(report: "Report") -> str:
    """What this is, in one line or two."""
    count = len(report.questions)
    return (
        f"{count} question{'s' if count > 1 else ''}, {report.conditions.asked}, compared with "
        f"{report.baseline}; in brackets the 95 % interval"
    )


def cells(one: Summary) -> list[str]:
    """What stands in a system's row."""
    latency, memory = one.latency, one.memory
    return [
        one.system,
        f"{percent(one.accuracy.value)} {interval_text(one.accuracy)}",
        _NONE if one.difference is None else points_text(one.difference),
        *(seconds(value) if latency.count else _NONE for value in (latency.p50, latency.p95, latency.p99)),
        _NONE if one.tokens_per_second is None else f"{one.tokens_per_second:.0f}",
        size(memory.weights),
        size(memory.kv),
        ", ".join(f"{count} {code}" for code, count in sorted(one.errors.items())) or _NONE,
    ]


def findings(report: "Report") -> list[str]:
    """What the figures say of each system beside the baseline, in words."""
    base = report[report.baseline]
    return [
        f"{one.system}: {', '.join(_found(one, base, one.difference, _same(report, one.system)))}."
        for one in report.systems
        if one.difference is not None
    ]


def _same(report: "Report", system: str) -> bool:
    """Whether each question has the score that the baseline has."""
    pairs = zip(report.rows[system], report.rows[report.baseline], strict=True)
    return all(mine.score == theirs.score for mine, theirs in pairs)


def _found(one: Summary, base: Summary, apart: Interval, same: bool) -> Iterator[str]:
    reach = f"{points(apart.low)} to {points(apart.high)}"
    if same:
        hidden = f"{100 * max(apart.high, -apart.low):.1f}"
        yield f"as good as {base.system} at every question (a difference up to {hidden} points could hide)"
    elif not apart.excludes_zero:
        yield f"no difference to {base.system} that is more than chance ({reach} points)"
    else:
        word = "better" if apart.value > 0 else "worse"
        yield f"{word} than {base.system} by {abs(100 * apart.value):.1f} points ({reach})"
    if one.errors:
        yield f"{sum(one.errors.values())} errors"
    if one.latency.p50 and base.latency.p50 and one.memory.weights is not None:  # not of a stand-in
        ratio = base.latency.p50 / one.latency.p50
        if not 0.95 < ratio < 1.05:
            yield f"{ratio:.1f}× as fast (P50)" if ratio >= 1 else f"{1 / ratio:.1f}× as long (P50)"
    for name, mine, theirs in (
        ("weights", one.memory.weights, base.memory.weights),
        ("keys and values", one.memory.kv, base.memory.kv),
    ):
        if mine is not None and theirs is not None and abs(mine - theirs) > 0.02 * theirs:
            yield f"{name} of {size(mine)} instead of {size(theirs)}"


def kind_rows(report: "Report") -> tuple[list[str], list[list[str]]]:
    """Accuracy by kind: names of columns, and a row for each kind."""
    kinds = report.systems[0].kinds
    head = ["kind", "questions", *(one.system for one in report.systems)]
    return head, [
        [kind, str(found.count), *(percent(one.kinds[kind].value) for one in report.systems)]
        for kind, found in kinds.items()
    ]


def percent(value: float) -> str:
    """A share, to a tenth of a percent.

    Example:
        >>> percent(0.985)
        '98.5 %'
    """
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference of shares, in percentage points, with its sign.

    Example:
        >>> points(-0.015), points(0.02), points(-0.0001)
        ('−1.5', '+2.0', '0.0')
    """
    text = f"{abs(100 * value):.1f}"
    return text if text == "0.0" else ("−" if value < 0 else "+") + text


def interval_text(one: Interval) -> str:
    """Ends of an interval, in percent."""
    return f"({100 * one.low:.1f} to {100 * one.high:.1f})"


def points_text(one: Interval) -> str:
    """A difference and its interval, in percentage points."""
    return f"{points(one.value)} ({points(one.low)} to {points(one.high)})"


def seconds(value: float) -> str:
    """Three digits that count, in a unit that people use.

    Example:
        >>> seconds(0.01234), seconds(1.5), seconds(61.0)
        ('12.3 ms', '1.50 s', '61.0 s')
    """
    number, unit = (1000 * value, "ms") if value < 1 else (value, "s")
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"


def size(count: int | None) -> str:
    """Bytes.

    Example:
        >>> size(20_585_554_944), size(3_400_000), size(None)
        ('20.6 GB', '3.4 MB', '–')
    """
    if count is None:
        return _NONE
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns of text: the first to the left, all others to the right."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(pairs)
        )
        for pairs in ([*zip(row, wide, strict=True)] for row in rows)
    ]


def _table(rows: list[list[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(map(_escape, row))} |" for row in rows]
    return ["", head, f"|---{'|--:' * (len(rows[0]) - 1)}|", *body]


def _wrong(report: "Report") -> list[str]:
    counts = {one.system: len(report.wrong(one.system)) for one in report.systems}
    said = ", ".join(f"{_escape(name)} {count}" for name, count in counts.items())
    return [f"Answers worth less than half: {said}."]


def _escape(text: str) -> str:
    """Text that Markdown, and HTML in it, leaves alone."""
    for mark in "\\`*_[]<>|&#~!$":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
