"""Tables in answers: what is a table, what its cells are, and that no text costs much."""

import csv
import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.output import Result, Table, parse_tables

cells = st.text(alphabet=st.sampled_from("ab,\"'\n\r\t=|<>& é咖"), max_size=8)


def test_html_with_header_spans_and_entities():
    text = (
        "Here it is:\n<table border=1><thead><tr><th rowspan=2>Name</th><th colspan='2'>2024</th></tr>"
        "<tr><th>Q1</th><th>Q2</th></tr></thead><tbody>"
        "<tr><td>A &amp; B<br/>Ltd.</td><td> 1 </td><td><b>2</b> <i>m</i></td></tr>"
        "<tr><td>咖啡</td><td colspan=2>3</td></tr></tbody></table> And that is all."
    )
    (table,) = parse_tables(text)
    assert table.header == ("Name", "2024 Q1", "2024 Q2")
    assert table.rows == (("A & B\nLtd.", "1", "2 m"), ("咖啡", "3", "3"))


@pytest.mark.parametrize(
    ("html", "header", "rows"),
    [
        ("<table><tr><th>a</th></tr><tr><td>1</td></tr></table>", ("a",), (("1",),)),
        ("<TABLE><TR><TD>a<TD>b<TR><TD>c</TABLE>", (), (("a", "b"), ("c", ""))),  # tags left open
        ("<table><tr><th>a</th><td>1</td></tr><tr><th>b</th><td>2</td></tr></table>", (),
         (("a", "1"), ("b", "2"))),
        ("<table><td>no row</td></table>", (), (("no row",),)),
        ("<table><tr><td>cut</td><td>of", (), (("cut", "of"),)),
        ("<table><tr><td rowspan=0>all</td><td>1</td></tr><tr><td>2</td></tr></table>", (),
         (("all", "1"), ("all", "2"))),
        ("<table><tr><td>x<td>y<td rowspan=2>z<tr><td>w</table>", (), (("x", "y", "z"), ("w", "", "z"))),
        ("<table><tr><td>a<table><tr><td>b<td>c</table>d</td></tr></table>", (), (("a\nb c\nd",),)),
        ("<table><tr><td>a<!-- <td>b --></td></tr></table>", (), (("a",),)),
        ("<table><tr><td>a<script>steal('<td>')</script>b</td></tr></table>", (), (("ab",),)),
        ("<table><tr><td>1 < 2 &lt;b&gt;</td></tr></table>", (), (("1 < 2 <b>",),)),
    ],
)  # fmt: skip
def test_html_as_models_write_it(html, header, rows):
    (table,) = parse_tables(html)
    assert (table.header, table.rows) == (header, rows)


@pytest.mark.parametrize(
    ("markdown", "header", "rows"),
    [
        ("| a | b |\n|---|:-:|\n| 1 | 2 |", ("a", "b"), (("1", "2"),)),
        ("a | b\n-|-\n1 | 2\n\nprose | here", ("a", "b"), (("1", "2"),)),
        (r"| a \| b | c |" + "\n|-|-|\n| `x` | **3** |", ("a | b", "c"), (("x", "3"),)),
        ("| a | b |\n|-|-|\n| 1 |\n| 1<br>2 | <b>x</b> &amp; y | z |", ("a", "b", ""),
         (("1", "", ""), ("1\n2", "x & y", "z"))),
        ("| | |\n|-|-|\n| 品名 | 3.50 |", (), (("品名", "3.50"),)),
    ],
)  # fmt: skip
def test_markdown_as_models_write_it(markdown, header, rows):
    (table,) = parse_tables(markdown)
    assert (table.header, table.rows) == (header, rows)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a | b",
        "| a |\nprose",
        "---",
        "a\n---\nb",
        "| a | b |\n|---|",
        "<table></table>",
        "</table><tr><td>x",
    ],
)
def test_what_is_no_table(text):
    assert [table.rows for table in parse_tables(text) if table.rows] == []


def test_several_tables_in_order_and_no_markdown_within_html():
    text = "| a |\n|-|\n| 1 |\n\n<table><tr><td>| x |\n|-|\n| y |</td></tr></table>\n\n| b |\n|-|\n| 2 |"
    assert [table.rows[0][0] for table in parse_tables(text)] == ["1", "| x | |-| | y |", "2"]


def test_a_result_has_its_tables():
    assert Result(text="| a |\n|-|\n| 1 |").tables == (Table(rows=(("1",),), header=("a",)),)
    assert Result(text="No table.").tables == ()


def test_html_of_a_table_is_escaped_and_read_again():
    table = Table(rows=(("<script>", "a\nb"),), header=("&", '"'))
    assert "<script>" not in table.html()
    assert parse_tables(table.html()) == (table,)
    assert table._repr_html_() == table.html()


def test_repr_is_short():
    assert repr(Table(rows=())) == "<Table: 0 rows of 0 columns>"
    assert len(repr(Table(rows=(("x",) * 90,), header=("long name",) * 90))) < 120


@pytest.mark.extras
def test_pandas_gets_strings():
    pytest.importorskip("pandas")
    frame = Table(rows=(("Coffee", "3.50"),), header=("item", "price")).to_pandas()
    assert list(frame.columns) == ["item", "price"]
    assert frame.loc[0, "price"] == "3.50"
    assert Table(rows=(("a", "b"),)).to_pandas().shape == (1, 2)


@pytest.mark.property
@given(st.lists(st.lists(cells, min_size=1, max_size=4).map(tuple), max_size=4).map(tuple), st.booleans())
def test_csv_round_trip(rows, headed):
    header = ("h",) if headed else ()
    read = csv.reader(io.StringIO(Table(rows=rows, header=header).csv(), newline=""))
    assert tuple(tuple(row) for row in read) == ((header,) if headed else ()) + rows


pieces = st.sampled_from(
    ["<table>", "</table>", "<tr>", "<td>", "</td>", "<th>", "<thead>", "</thead>",
     "<td rowspan=99999999999>", '<td colspan="99999" rowspan=3>', "<!--", "-->", "<script>", "</script>",
     "<br>", "&amp;", "&#9999999999;", "<", ">",
     "|", "\n", "---", "|-|-|\n", "\\", "a", " ", "咖啡", "\ud800", "<![CDATA[", "</"]
)  # fmt: skip


@pytest.mark.property
@given(st.lists(pieces, max_size=60).map("".join))
def test_no_text_raises_and_every_table_is_rectangular(text):
    for table in parse_tables(text):
        rows = [*([table.header] if table.header else []), *table.rows]
        assert len({len(row) for row in rows}) <= 1
        assert sum(map(len, rows)) <= 250_000
        assert isinstance(table.csv(), str)


@pytest.mark.property
@given(
    st.lists(
        st.lists(cells.map(str.split).map(" ".join), min_size=2, max_size=2).map(tuple),
        min_size=1,
        max_size=4,
    )
)
def test_html_round_trip(rows):  # cells as they are read: blanks are one
    assert parse_tables(Table(rows=tuple(rows)).html())[0].rows == tuple(rows)


@pytest.mark.parametrize(
    "text",
    [
        "<table><tr>" + "<td rowspan=1000000000 colspan=1000000000>x" * 3000,
        "<table>" + "<tr><td rowspan=1000000000 colspan=400>x" * 3000,
        "<table><tr>" + "<td>" * 20_000 + "<td rowspan=0>" + "<tr><td>" * 2000,
        "<table><tr>" + "<td " * 20_000,
        "<table><tr><td>" + "<!--" * 20_000,
        "<table></table" * 10_000,
        "<table>" * 10_000,
        "|" * 50_000 + "\n" + "|-" * 50_000,
        "&#" + "9" * 50_000 + ";|\n-|\n",
        "**|\n-|\n" + "**a" * 20_000 + "|",
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_a_hostile_text_costs_little(text):
    began = time.process_time()
    tables = parse_tables(text)
    assert (
        time.process_time() - began < 2
    )  # each takes a few hundredths of a second; the square would be minutes
    assert sum(len(row) for table in tables for row in table.rows) <= 250_000
