"""Fields of an extraction → a table in HTML: name, value, and how sure the model was, as a bar.

As with the card of a quantised model: readable on white and on black, no script, all text escaped.
"""

from collections.abc import Sequence
from html import escape

__all__ = ["to_html"]

_GOOD, _FAIR, _POOR = "#3b82f6", "#e8870c", "#d7263d"
_CELL = "text-align: left; padding: 2px 10px; vertical-align: top"


def __dir__() -> list[str]:
    return __all__


def to_html(fields: Sequence[tuple[str, str, float | None, str | None]]) -> str:
    """The table.

    Args:
        fields: Name, value, confidence and problem of each.
    """
    names = "".join(f"<th style='{_CELL}'>{name}</th>" for name in ("field", "value", "confidence"))
    rows = "".join(_row(*one) for one in fields)
    return (
        "<table style='border-collapse: collapse; font-size: 13px; color: inherit'>"
        f"<thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(name: str, value: str, confidence: float | None, problem: str | None) -> str:
    note = f"<br><small style='opacity: .75'>{escape(problem)}</small>" if problem else ""
    return (
        f"<tr><td style='{_CELL}'><code>{escape(name)}</code></td>"
        f"<td style='{_CELL}; white-space: pre-wrap'>{escape(value)}{note}</td>"
        f"<td style='{_CELL}'>{_bar(confidence)}</td></tr>"
    )


def _bar(confidence: float | None) -> str:
    if confidence is None:
        return ""
    colour = _GOOD if confidence >= 0.9 else _FAIR if confidence >= 0.5 else _POOR
    box = "display: inline-block; height: 9px; border-radius: 2px"
    return (
        f"<span style='{box}; width: 100px; background: rgba(128, 128, 128, .25)'>"
        f"<span style='{box}; width: {100 * confidence:.0f}px; background: {colour}; vertical-align: top'>"
        f"</span></span> {100 * confidence:.1f} %"
    )
