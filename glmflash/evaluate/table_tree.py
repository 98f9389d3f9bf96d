"""The first table of a text, in HTML or Markdown → its tree: sections, rows, and cells with their tokens."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape

from glmflash.output.table import parse_tables

__all__ = ["MOST_NODES", "MOST_TOKENS", "TableTree", "comparable", "table_tree"]

MOST_NODES = 1000
MOST_TOKENS = 20_000  # in all cells

# Of bounded length, as in `glmflash.output`: each looks at a character once, and nothing is too long to read.
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]{0,15})([^<>]{0,1000})>")
_SPAN = re.compile(r"\b(col|row)span\s{0,9}=\s{0,9}[\"']?\s{0,9}([0-9]{1,5})\b", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SECTIONS = ("thead", "tbody", "tfoot", "colgroup", "caption")
_VOID = ("br", "hr", "img", "input", "wbr", "col")


def __dir__() -> list[str]:
    return __all__


@dataclass(slots=True)
class TableTree:
    """A node of a table: the table, a section, a row or a cell.

    Args:
        tag: Its name in HTML; header cells are "td" too.
        span: Columns and rows of a cell.
        tokens: Of a cell: its characters, and the tags among them.
        children: In order.
        elements: Of the whole table: how many elements are below it, those within cells included.
    """

    tag: str
    span: tuple[int, int] | None = None
    tokens: tuple[str, ...] = ()
    children: list["TableTree"] = field(default_factory=list)
    elements: int = 0

    def nodes(self) -> Iterator["TableTree"]:
        """The node and all below it, in postorder."""
        for child in self.children:
            yield from child.nodes()
        yield self


def table_tree(text: str) -> TableTree | None:
    """Read the first table; None if there is none. Never raises on any text.

    A row or a cell ends where the next one begins, and a table that was cut off ends where the text does. In
    cells blanks in a row are one, and those at the ends are none. Of a table beyond the limits, which is
    compared with nothing, only the beginning is read.

    Example:
        >>> table = table_tree("<table><tr><td>a<b>x</b></td><td colspan=2></td></tr></table>")
        >>> [cell.tokens for cell in table.children[0].children], table.elements
        ([('a', '<b>', 'x', '</b>'), ()], 4)
    """
    text = _without_comments(text)
    if not re.search(r"<table[\s>]", text, re.IGNORECASE):
        tables = parse_tables(text)
        return table_tree(tables[0].html()) if tables else None
    reader, end = _Reader(), 0
    for match in _TAG.finditer(text):
        if reader.table is not None:
            reader.data(text[end : match.start()])
        end = match.end()
        reader.tag(bool(match[1]), match[2].lower(), match[3])
        if reader.done:
            break
    else:
        reader.data(text[end:])
    reader.close()
    return reader.table


def comparable(table: TableTree | None) -> bool:
    """Whether there is a table, of a size that can be compared."""
    if table is None:
        return False
    nodes = list(table.nodes())
    return len(nodes) <= MOST_NODES and sum(len(node.tokens) for node in nodes) <= MOST_TOKENS


def _without_comments(text: str) -> str:
    parts, past = [], 0
    while (start := text.find("<!--", past)) >= 0 and (end := text.find("-->", start)) >= 0:
        parts.append(text[past:start])
        past = end + 3
    return "".join([*parts, text[past:]])


@dataclass(slots=True)
class _Reader:
    """Builds the tree, tag by tag; `open` are the table, a section and a row, `inner` the tags in a cell."""

    table: TableTree | None = None
    done: bool = False
    open: list[TableTree] = field(default_factory=list)
    cell: TableTree | None = None
    inner: list[str] = field(default_factory=list)
    within: Counter[str] = field(default_factory=Counter)  # how often each name is in `inner`
    tokens: list[str] = field(default_factory=list)
    parts: int = 0
    room: int = MOST_TOKENS

    def data(self, text: str) -> None:
        if self.cell is not None:
            for character in _ENTITY.sub(lambda match: unescape(match[0]), text):
                if not character.isspace():
                    self.tokens.append(character)
                elif self.tokens[-1:] != [" "]:
                    self.tokens.append(" ")

    def tag(self, closing: bool, name: str, attributes: str) -> None:
        if self.table is None:
            if name == "table" and not closing:
                self.table = TableTree("table")
                self.open = [self.table]
        elif self.cell is not None and not self._ends_cell(closing, name):
            self._inline(closing, name)
        else:
            self.close()
            self._part(closing, name, attributes)

    def _ends_cell(self, closing: bool, name: str) -> bool:
        if self.within["table"]:  # one within the cell
            return False
        return name in ("td", "th", "tr", *_SECTIONS) or (name == "table" and closing)

    def _inline(self, closing: bool, name: str) -> None:
        if not closing:
            self._count()
            self.tokens += [f"<{name}>", f"</{name}>"] if name in _VOID else [f"<{name}>"]
            if name not in _VOID:
                self.inner.append(name)
                self.within[name] += 1
            self.done = len(self.tokens) > self.room
        elif self.within[name]:
            while self._leave() != name:
                pass

    def _leave(self) -> str:
        name = self.inner.pop()
        self.within[name] -= 1
        self.tokens.append(f"</{name}>")
        return name

    def close(self) -> None:
        """End the cell, if one is open, and the tags in it."""
        while self.inner:
            self._leave()
        if self.cell is not None:
            last = len(self.tokens) - (self.tokens[-1:] == [" "])
            self.cell.tokens = tuple(self.tokens[self.tokens[:1] == [" "] : last])
            self.room -= len(self.cell.tokens)
        self.cell, self.tokens = None, []

    def _part(self, closing: bool, name: str, attributes: str) -> None:
        if name == "table":
            self.done = closing
        elif name == "tr" or name in _SECTIONS:
            depth = next((at for at, node in enumerate(self.open) if node.tag == "tr"), len(self.open))
            del self.open[depth if name == "tr" else 1 :]
            if not closing:
                self._add(TableTree(name))
                self.open.append(self.open[-1].children[-1])
        elif name in ("td", "th") and not closing:
            spans = {kind.lower(): max(1, int(digits)) for kind, digits in _SPAN.findall(attributes)}
            self.cell = TableTree("td", (spans.get("col", 1), spans.get("row", 1)))
            self._add(self.cell)
        elif name == "col" and not closing:
            self._add(TableTree(name))

    def _add(self, node: TableTree) -> None:
        self.open[-1].children.append(node)
        self.parts += 1
        self.done = self.parts > MOST_NODES or self.room < 0
        self._count()

    def _count(self) -> None:
        if self.table is not None:
            self.table.elements += 1
