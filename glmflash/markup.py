"""Text and pictures → pieces of HTML that any notebook shows; whatever somebody wrote is escaped.

Styles stand in the elements, colours suit white and black, and there is no script: notebooks differ in what
they let through.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["block", "box", "facts", "image", "note", "table"]

_CELL = "padding: 1px 10px 1px 0; vertical-align: top"


def __dir__() -> list[str]:
    return __all__


def box(*parts: str) -> str:
    """Pieces of HTML under each other, as one."""
    inside = "".join(parts)
    return f"<div style='max-width: 820px; font-size: 13px; line-height: 1.45'>{inside}</div>"


def block(text: str) -> str:
    """Text with its line breaks, in the notebook's own letters.

    Example:
        >>> "&lt;b&gt;" in block("<b>")
        True
    """
    style = "white-space: pre-wrap; overflow-wrap: anywhere; font-size: 14px"
    return f"<div style='{style}'>{escape(text)}</div>"


def note(text: str) -> str:
    """A line of small print."""
    return f"<div style='opacity: .7; font-size: 12px; margin-top: 4px'>{escape(text)}</div>"


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, line by line."""
    body = "".join(
        f"<tr><th style='{_CELL}; text-align: left'>{escape(name)}</th>"
        f"<td style='{_CELL}; text-align: left; white-space: pre-wrap'>{escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table style='border-collapse: collapse'>{body}</table>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of numbers behind a name; a table that scrolls where it is too wide."""
    cells = "".join(
        f"<th style='{_CELL}; text-align: {_side(at)}'>{escape(x)}</th>" for at, x in enumerate(head)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td style='{_CELL}; text-align: {_side(at)}'>{escape(x)}</td>" for at, x in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    inside = f"<table style='border-collapse: collapse'><tr>{cells}</tr>{body}</table>"
    return f"<div style='overflow-x: auto; margin-top: 6px'>{inside}</div>"


def image(picture: "Image.Image", *, width: int, alt: str = "") -> str:
    """A picture inside the page itself.

    Args:
        picture: What to show; give it no larger than needed, for the page holds all of it.
        width: Pixels of the page that it takes.
        alt: What it is, for readers who do not see it.
    """
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    style = f"width: {width}px; max-width: 100%; height: auto"
    return f"<img alt='{escape(alt)}' style='{style}' src='data:image/png;base64,{data}'>"


def _side(column: int) -> str:
    return "right" if column else "left"
