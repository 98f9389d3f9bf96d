"""A text with HTML tables → their places, headers and rows; spans are resolved, and nothing can grow large.

Tags are found by one expression that looks at each character once. The standard library's parser takes time
in the square of the text for what is malformed (minutes for 100 KB), and raises on some of it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from glmflash.output.table_cells import MOST_CELLS, Found, Rows, cell_text, rectangular

__all__ = ["html_tables"]

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]{0,15})([^<>]{0,1000})>")
_SPAN = re.compile(r"\b(row|col)span\s{0,9}=\s{0,9}[\"']?\s{0,9}([0-9]{1,12})", re.IGNORECASE)
_BREAKS = {"br", "p", "div", "li", "tr", "hr"}  # inside a cell
_SILENT = {"script", "style", "template"}
_Hanging = dict[int, tuple[str, int]]  # column -> what stands in it from above, and for how many rows


def __dir__() -> list[str]:
    return __all__


def html_tables(text: str) -> tuple[list[Found], str]:
    """The tables, and the text with blanks in their places."""
    text = _without_comments(text)
    found: list[Found] = []
    rest, past, start = [], 0, 0
    reader = _Reader()
    end = 0
    for match in _TAG.finditer(text):
        closing, name, attributes = bool(match[1]), match[2].lower(), match[3]
        if reader.depth == 0 and (closing or name != "table"):
            continue
        if reader.depth == 0:
            start = match.start()
        else:
            reader.data(text[end : match.start()])
        end = match.end()
        reader.tag(name, closing=closing, attributes=attributes)
        if reader.depth == 0:
            found += _table(start, reader)
            rest += [text[past:start], " " * (end - start)]
            past, reader = end, _Reader()
    if reader.depth:  # cut off
        reader.data(text[end:])
        found += _table(start, reader)
        rest += [text[past:start]]
        past = len(text)
    return found, "".join([*rest, text[past:]])


def _without_comments(text: str) -> str:
    """The same length, so that places stay."""
    parts, past = [], 0
    while (start := text.find("<!--", past)) >= 0 and (end := text.find("-->", start)) >= 0:
        parts += [text[past:start], " " * (end + 3 - start)]
        past = end + 3
    return "".join([*parts, text[past:]])


@dataclass(slots=True)
class _Cell:
    head: bool
    down: int
    across: int
    parts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Reader:
    """Collects the rows of one outermost table; `heads` says of each whether it stood in `<thead>`."""

    depth: int = 0
    rows: list[list[_Cell]] = field(default_factory=list)
    heads: list[bool] = field(default_factory=list)
    cell: _Cell | None = None
    in_head: bool = False
    silent: str = ""

    def data(self, text: str) -> None:
        if self.cell is not None and not self.silent:
            self.cell.parts.append(text.replace("\n", " "))  # a line break is a tag's to make

    def tag(self, name: str, *, closing: bool, attributes: str) -> None:
        if self.silent:
            self.silent = "" if closing and name == self.silent else self.silent
        elif name in _SILENT:
            self.silent = "" if closing else name
        elif name == "table":
            self.depth += -1 if closing else 1
            if self.cell is not None:  # one within a cell
                self.cell.parts.append("\n")
        elif self.depth == 1 and name in ("thead", "tbody", "tfoot", "tr", "td", "th"):
            self._part(name, closing=closing, attributes=attributes)
        elif self.cell is not None:
            self.cell.parts.append("\n" if name in _BREAKS else " " if name in ("td", "th") else "")

    def _part(self, name: str, *, closing: bool, attributes: str) -> None:
        self.cell = None
        if name in ("thead", "tbody", "tfoot"):
            self.in_head = name == "thead" and not closing
            return
        if closing:
            return
        if name == "tr" or not self.rows:
            self.rows.append([])
            self.heads.append(self.in_head)
        if name != "tr":
            spans = {kind.lower(): int(digits) for kind, digits in _SPAN.findall(attributes)}
            down, across = min(spans.get("row", 1), 65534), min(spans.get("col", 1), 1000)  # as browsers do
            self.cell = _Cell(name == "th", down or 65534, across or 1)  # rowspan=0: to the end
            self.rows[-1].append(self.cell)


def _table(start: int, reader: _Reader) -> list[Found]:
    lines = [(cells, head) for cells, head in zip(reader.rows, reader.heads, strict=True) if cells]
    grid = rectangular(_grid([cells for cells, _ in lines]))
    if not grid:
        return []
    headed = any(head for _, head in lines)
    count = 0
    for cells, head in lines:
        if not (head if headed else all(cell.head for cell in cells)):
            break
        count += 1
    if count == len(grid) and not headed:  # nothing but <th>: the first row names the others
        count = int(len(grid) > 1)
    return [(start, _joined(grid[:count]), grid[count:])]


def _grid(lines: Sequence[Sequence[_Cell]]) -> list[list[str]]:
    """Cells at their places, repeated where they span. Spans end with the table, and at `MOST_CELLS`."""
    grid: list[list[str]] = []
    above: _Hanging = {}
    room = MOST_CELLS
    for number, cells in enumerate(lines):
        row: list[str] = []
        below: _Hanging = {}
        for cell in cells:
            while len(row) in above:
                _place(*above.pop(len(row)), row, below)
            text, down = cell_text("".join(cell.parts)), min(cell.down, len(lines) - number)
            across, down = (cell.across, down) if cell.across * down <= room else (1, 1)
            room -= across * down
            for _ in range(across):
                above.pop(len(row), None)  # an overlap: the later cell is seen
                _place(text, down, row, below)
        for column in sorted(above):  # what hangs down beyond the last cell
            gap = column - len(row)
            if gap > room:
                break
            room -= gap
            row += [""] * gap
            _place(*above[column], row, below)
        grid.append(row)
        above = below
    return grid


def _place(text: str, down: int, row: list[str], below: _Hanging) -> None:
    if down > 1:
        below[len(row)] = text, down - 1
    row.append(text)


def _joined(rows: Rows) -> tuple[str, ...]:
    """Several header rows as one: what differs in a column, from the top down."""
    return tuple(" ".join(filter(None, dict.fromkeys(column))) for column in zip(*rows, strict=True))
