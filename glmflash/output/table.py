"""The tables of an answer, in HTML or Markdown → frozen rows of text, and from there CSV, HTML or pandas."""

import csv
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from glmflash.output.table_html import html_tables
from glmflash.output.table_markdown import markdown_tables

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "parse_tables"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """A table as text: every cell is a string, as the model wrote it.

    Args:
        rows: The rows below the header, all of one length if they come from `parse_tables`.
        header: Names of the columns; empty if the table has none.

    Example:
        >>> table = Table(rows=(("Coffee", "3.50"), ("Bread", "2.25")), header=("item", "price"))
        >>> table
        <Table: 2 rows of 2 columns, item, price>
        >>> table.csv().splitlines()
        ['item,price', 'Coffee,3.50', 'Bread,2.25']
    """

    rows: tuple[tuple[str, ...], ...]
    header: tuple[str, ...] = ()

    def csv(self) -> str:
        """Comma-separated values, as RFC 4180 has them: the header first, if there is one.

        Cells stand as the model wrote them: one that begins with `=` is a formula to a spreadsheet.
        """
        buffer = io.StringIO()
        csv.writer(buffer).writerows([self.header, *self.rows] if self.header else self.rows)
        return buffer.getvalue()

    def html(self) -> str:
        """A plain `<table>`; all text is escaped, and line breaks in cells are `<br>`."""
        head = f"<thead>{_row(self.header, 'th')}</thead>" if self.header else ""
        return f"<table>{head}<tbody>{''.join(_row(row, 'td') for row in self.rows)}</tbody></table>"

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        return self.html()

    def to_pandas(self) -> "pd.DataFrame":
        """A data frame of strings; needs pandas.

        Raises:
            ImportError: If pandas is not installed.
        """
        import pandas as pd

        rows = [list(row) for row in self.rows]
        return pd.DataFrame(rows, columns=list(self.header) or None, dtype=object)

    def __repr__(self) -> str:
        columns = max(map(len, (self.header, *self.rows)), default=0)
        names = ", ".join(self.header)
        named = f", {names if len(names) <= 60 else names[:57] + '...'}" if names else ""
        return f"<Table: {len(self.rows)} rows of {columns} columns{named}>"


def _row(cells: tuple[str, ...], tag: str) -> str:
    inner = "".join(f"<{tag}>{escape(cell).replace(chr(10), '<br>')}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"


def parse_tables(text: str) -> tuple[Table, ...]:
    r"""Find the tables of an answer, in order. Never raises on any text.

    HTML: a cell that spans several places stands in each of them; tags inside cells are dropped, entities
    read, and a table inside a cell is that cell's text. A table that was cut off ends where the text does.
    The header is what stands in `<thead>`, else leading rows of `<th>` alone; several rows are joined, column
    by column. Markdown: a row between pipes over a row of dashes, and the rows below; `\|` is a pipe.

    Short rows are filled with empty cells. A table of more than 250,000 cells is left out: nobody printed it.

    Example:
        >>> parse_tables("| item | price |\n|---|---|\n| Coffee | 3.50 |\n\nThank you.")
        (<Table: 1 rows of 2 columns, item, price>,)
        >>> parse_tables("<table><tr><td rowspan=2>a</td><td>1</td></tr><tr><td>2</td></tr></table>")[0].rows
        (('a', '1'), ('a', '2'))
    """
    found, rest = html_tables(text)
    tables = sorted([*found, *markdown_tables(rest)], key=lambda one: one[0])
    return tuple(Table(rows, header) for _, header, rows in tables)
