"""One row of a plan, and rows as a table in text or HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Part", "as_html", "as_text", "gib"]

_WIDTH = 24  # characters of the longest bar


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that takes memory.

    Args:
        kind: "weights", "cache", "step" or "program".
        name: What it is, in words.
        dtype: What it is stored in.
        nbytes: Bytes.
    """

    kind: str
    name: str
    dtype: str
    nbytes: int


def gib(nbytes: int) -> str:
    """Bytes in GiB, with as many digits as matter.

    Example:
        >>> gib(20_585_554_944), gib(3_000_000)
        ('19.17 GiB', '0.003 GiB')
    """
    amount = nbytes / 2**30
    return f"{amount:,.2f} GiB" if amount >= 0.1 or not nbytes else f"{amount:.3f} GiB"


def as_text(title: str, parts: Sequence[Part], sums: Sequence[tuple[str, str]]) -> str:
    """A table with a bar for each part, as wide as its share of the largest.

    Args:
        title: The first line.
        parts: Rows.
        sums: What stands below them, as names and values.

    Example:
        >>> print(as_text("tiny", [Part("weights", "decoder", "int8", 2**30)], [("total", "1.00 GiB")]))
        tiny
          weights  decoder  int8  1.00 GiB  ########################
          total                   1.00 GiB
    """
    most = max((part.nbytes for part in parts), default=0)
    rows = [(part.kind, part.name, part.dtype, gib(part.nbytes), _bar(part.nbytes, most)) for part in parts]
    widths = [max([len(row[column]) for row in rows], default=0) for column in range(4)]
    widths[3] = max([widths[3], *(len(value) for _, value in sums)])
    lines = [
        f"  {kind:<{widths[0]}}  {name:<{widths[1]}}  {dtype:<{widths[2]}}  {size:>{widths[3]}}  {bar}"
        for kind, name, dtype, size, bar in rows
    ]
    label = sum(widths[:3]) + 4
    lines += [f"  {name:<{label}}  {value:>{widths[3]}}" for name, value in sums]
    return "\n".join(line.rstrip() for line in (title, *lines))


def as_html(title: str, parts: Sequence[Part], sums: Sequence[tuple[str, str]]) -> str:
    """The same as a small HTML table; every text in it is escaped.

    Example:
        >>> "&lt;b&gt;" in as_html("<b>", [], [])
        True
    """
    most = max((part.nbytes for part in parts), default=0)
    rows = [
        f"<tr><td>{escape(part.kind)}</td><td>{escape(part.name)}</td><td>{escape(part.dtype)}</td>"
        f'<td style="text-align:right">{gib(part.nbytes)}</td>'
        f'<td style="text-align:left"><div style="background:#4c78a8;height:0.8em;'
        f'width:{8 * part.nbytes / max(most, 1):.2f}em"></div></td></tr>'
        for part in parts
    ]
    rows += [
        f'<tr><th colspan="3" style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:right">{escape(value)}</td><td></td></tr>'
        for name, value in sums
    ]
    return f"<table><caption>{escape(title)}</caption>{''.join(rows)}</table>"


def _bar(nbytes: int, most: int) -> str:
    return "#" * round(_WIDTH * nbytes / max(most, 1))
