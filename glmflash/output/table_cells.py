"""The inside of a table's cell → its text; rows of cells → rows of one length."""

import re
from collections.abc import Sequence
from html import unescape

__all__ = ["MOST_CELLS", "Found", "Rows", "cell_text", "rectangular"]

#: More cells than this nobody printed: no table has more.
MOST_CELLS = 250_000

Rows = tuple[tuple[str, ...], ...]
#: Where a table begins in the text, its header, its rows.
Found = tuple[int, tuple[str, ...], Rows]

# Of bounded length: `html.unescape` alone raises on a number of thousands of digits.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def __dir__() -> list[str]:
    return __all__


def cell_text(inside: str) -> str:
    """Entities read, blanks made one, empty lines dropped."""
    text = _ENTITY.sub(lambda match: unescape(match[0]), inside)
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))


def rectangular(rows: Sequence[Sequence[str]]) -> Rows | None:
    """Rows filled to one length; None if that would be too many cells."""
    width = max(map(len, rows), default=0)
    if width * len(rows) > MOST_CELLS:
        return None
    return tuple((*row, *[""] * (width - len(row))) for row in rows)
