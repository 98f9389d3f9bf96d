"""A text with Markdown tables → their places, headers and rows."""

import re

from glmflash.output.table_cells import Found, cell_text, rectangular

__all__ = ["markdown_tables"]

_PIPE = re.compile(r"(?<!\\)((?:\\\\)*)\|")
_DASHES = re.compile(r":?-+:?")
_BREAK = re.compile(r"<br\s{0,4}/?>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>|<!--[^<>]{0,200}-->")
_EMPHASIS = re.compile(r"(\*\*|__|`)(?!\s)([^*_`]+)(?<!\s)\1")


def __dir__() -> list[str]:
    return __all__


def markdown_tables(text: str) -> list[Found]:
    """A row between pipes, below it as many cells of dashes, and then rows until a line without a pipe."""
    found: list[Found] = []
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    number = 0
    while number + 1 < len(lines):
        header = _cells(lines[number])
        if not header or not _dashes(lines[number + 1], len(header)):
            number += 1
            continue
        begin, rows = number, [header]
        number += 2
        while number < len(lines) and (row := _cells(lines[number])):
            rows.append(row)
            number += 1
        grid = rectangular([[_clean(cell) for cell in row] for row in rows])
        if grid is not None:
            named = grid[0] if any(grid[0]) else ()
            found.append((starts[begin], named, grid[1:]))
    return found


def _cells(line: str) -> list[str]:
    r"""The cells of a row, `\|` still escaped; none if there is no pipe."""
    parts, past = [], 0
    for match in _PIPE.finditer(line):
        parts.append(line[past : match.end() - 1])
        past = match.end()
    if not parts:
        return []
    parts.append(line[past:])
    if not parts[0].strip():
        parts.pop(0)
    if parts and not parts[-1].strip():
        parts.pop()
    return parts or [""]


def _dashes(line: str, count: int) -> bool:
    cells = _cells(line)
    return len(cells) == count and all(_DASHES.fullmatch(cell.strip()) for cell in cells)


def _clean(cell: str) -> str:
    r"""A cell's text: no tags, emphasis or entities, `\|` a pipe, `<br>` a line break."""
    text = _TAG.sub("", _BREAK.sub("\n", cell.strip())).replace("\\|", "|")
    return cell_text(_EMPHASIS.sub(r"\2", text))
