"""Fields, or answers to choose from → a table in HTML, with how sure the model was as a bar.

As with the card of a quantised model: readable on white and on black, no script, all text escaped.
"""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["bar", "to_html", "to_table"]

_GOOD, _FAIR, _POOR = "#3b82f6", "#e8870c", "#d7263d"
_CELL = "text-align: left; padding: 2px 10px; vertical-align: top"


def __dir__() -> list[str]:
    return __all__


def to_html(fields: Sequence[tuple[str, str, float | None, str | None]]) -> str:
    """The table.

    Args:
        fields: Name, value, confidence and problem of each.
    """
    return to_table(("field", "value", "confidence"), (_cells(*one) for one in fields))


def to_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells that are HTML already, under their names."""
    names = "".join(f"<th style='{_CELL}'>{name}</th>" for name in head)
    lines = ("".join(f"<td style='{_CELL}'>{cell}</td>" for cell in cells) for cells in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        "<table style='border-collapse: collapse; font-size: 13px; color: inherit'>"
        f"<thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
    )


def bar(share: float, colour: str = _GOOD) -> str:
    """A number from 0 to 1 as a bar, and in percent."""
    box = "display: inline-block; height: 9px; border-radius: 2px"
    return (
        f"<span style='{box}; width: 100px; background: rgba(128, 128, 128, .25); vertical-align: middle'>"
        f"<span style='{box}; width: {100 * share:.0f}px; background: {colour}; vertical-align: top'>"
        f"</span></span> {100 * share:.1f} %"
    )


def _cells(name: str, value: str, confidence: float | None, problem: str | None) -> tuple[str, ...]:
    note = f"<br><small style='opacity: .75'>{escape(problem)}</small>" if problem else ""
    said = f"<div style='white-space: pre-wrap'>{escape(value)}{note}</div>"
    sure = "" if confidence is None else bar(confidence, _colour(confidence))
    return f"<code>{escape(name)}</code>", said, sure


def _colour(confidence: float) -> str:
    return _GOOD if confidence >= 0.9 else _FAIR if confidence >= 0.5 else _POOR
