"""Similarity of tables: the tree's distance against the definition, tables by hand, laws, and large ones."""

import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.evaluate.table_tree import MOST_NODES, MOST_TOKENS, comparable, table_tree
from glmflash.evaluate.teds import teds, teds_structure
from glmflash.evaluate.tree_distance import tree_distance

# A tree is (label, (tree, ...)).
trees = st.recursive(
    st.sampled_from("abc").map(lambda label: (label, ())),
    lambda inner: st.tuples(st.sampled_from("abc"), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=6,
)
PRICES = {("a", "b"): 0.25, ("b", "a"): 0.25}  # of exchanging labels; others cost 1


def price(one, two):
    return 0.0 if one == two else PRICES.get((one, two), 1.0)


def flat(tree):
    """Labels and leftmost leaves, in postorder."""
    labels, lefts = [], []

    def visit(node):
        below = [visit(child) for child in node[1]]
        labels.append(node[0])
        lefts.append(below[0] if below else len(lefts))
        return lefts[-1]

    visit(tree)
    return labels, lefts


def quick(one, two):
    (labels, lefts), (others, their) = flat(one), flat(two)
    return tree_distance(lefts, their, np.array([[price(a, b) for b in others] for a in labels]))


@cache
def naive(one, two):
    """The recursion on forests that defines the distance: what becomes of the last root of each."""
    if not one and not two:
        return 0.0
    found = []
    if one:
        label, children = one[-1]
        found.append(naive(one[:-1] + children, two) + 1)
    if two:
        other, their = two[-1]
        found.append(naive(one, two[:-1] + their) + 1)
    if one and two:
        found.append(naive(children, their) + naive(one[:-1], two[:-1]) + price(label, other))
    return min(found)


@given(trees, trees)
def test_the_distance_equals_the_recursion(one, two):
    assert quick(one, two) == pytest.approx(naive((one,), (two,)))


@given(trees, trees, trees)
def test_it_is_a_distance(one, two, three):
    assert quick(one, one) == 0
    assert quick(one, two) == pytest.approx(quick(two, one))
    assert quick(one, three) <= quick(one, two) + quick(two, three) + 1e-9


def test_the_example_of_zhang_and_shasha():
    """Figure 2 of their paper: f(d(a, c(b)), e) and f(c(d(a, b)), e) are 2 apart."""
    leaf = {name: (name, ()) for name in "abe"}
    one = ("f", (("d", (leaf["a"], ("c", (leaf["b"],)))), leaf["e"]))
    two = ("f", (("c", (("d", (leaf["a"], leaf["b"])),)), leaf["e"]))
    labels, others = flat(one)[0], flat(two)[0]
    exchange = np.array([[float(a != b) for b in others] for a in labels])
    assert tree_distance(flat(one)[1], flat(two)[1], exchange) == 2


def table(*rows, head=()):
    top = f"<thead><tr>{''.join(f'<td>{cell}</td>' for cell in head)}</tr></thead>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"


RIGHT = table(("Tea", "2.00"), ("Cake", "3.50"), head=("item", "price"))  # 2 sections, 3 rows, 6 cells: 11


@pytest.mark.parametrize(
    ("said", "alike", "structure"),
    [
        (RIGHT, 1, 1),
        # One of four characters of one cell: 1/4 of an exchange.
        (table(("Tea", "2.50"), ("Cake", "3.50"), head=("item", "price")), 1 - 0.25 / 11, 1),
        # A row and its two cells are missing.
        (table(("Tea", "2.00"), head=("item", "price")), 1 - 3 / 11, 1 - 3 / 11),
        # The head's row stands in the body: out with both sections, in with one around all rows.
        (table(("item", "price"), ("Tea", "2.00"), ("Cake", "3.50")), 1 - 3 / 11, 1 - 3 / 11),
        # Two columns more, of three rows: six cells of then 17 elements.
        (table(("Tea", "2.00", "", ""), ("Cake", "3.50", "", ""), head=("item", "price", "", "")),
         1 - 6 / 17, 1 - 6 / 17),
        # A cell that spans differently is exchanged for 1, whatever is in it.
        (RIGHT.replace("<td>Tea", "<td rowspan=2>Tea"), 1 - 1 / 11, 1 - 1 / 11),
        (RIGHT.replace("<td>Tea", "<td colspan='1'>Tea"), 1, 1),
        # "Tea" is three tokens, "<b>Tea</b>" five, so 2/5; and <b> is one element more.
        (RIGHT.replace("Tea", "<b>Tea</b>"), 1 - 0.4 / 12, 1),
        # Everything else is wrong: six exchanges of 1.
        (table(("xxx", "xxxx"), ("xxxx", "xxxx"), head=("xxxx", "xxxxx")), 1 - 6 / 11, 1),
        ("<table></table>", 0, 0),
        ("no table", 0, 0),
        ("", 0, 0),
    ],
)  # fmt: skip
def test_tables_by_hand(said, alike, structure):
    assert teds(said, RIGHT) == pytest.approx(alike)
    assert teds(RIGHT, said) == pytest.approx(alike)
    assert teds_structure(said, RIGHT) == pytest.approx(structure)


@pytest.mark.parametrize(
    "said",
    [
        "Here it is:\n" + RIGHT + "\nAnything else?" + table(("x",)),
        RIGHT.replace("<td>", "<TD class='n'>\n   ").replace("</td>", "\n</TD>"),  # as pretty-printers do
        RIGHT.replace("</td>", "").replace("</tr>", ""),  # ends left out
        RIGHT.removesuffix("</table>"),
        RIGHT.replace("Tea", "T&#101;a").replace("<tbody>", "<tbody><!-- <tr><td> -->"),
        RIGHT.replace("<thead><tr><td>item</td><td>price</td>", "<thead><tr><th>item</th><th>price</th>"),
        "| item | price |\n|---|---|\n| Tea | 2.00 |\n| Cake | 3.50 |",
    ],
)
def test_ways_to_write_the_same_table(said):
    assert teds(said, RIGHT) == 1


def test_what_stands_in_cells():
    tree = table_tree("<table><tr><td>a<br>b<i>c<td>x<table><tr><td>y</table>z</td></tr><col></table>")
    first, second = tree.children[0].children
    assert first.tokens == ("a", "<br>", "</br>", "b", "<i>", "c", "</i>")
    nested = ("<table>", "<tr>", "<td>", "y", "</td>", "</tr>", "</table>")
    assert second.tokens == ("x", *nested, "z")
    assert tree.elements == 9  # tr, 2 td, br, i, the three of the table within, col


cells = st.text("ab <>&\n|-é", max_size=6)
grids = st.lists(st.lists(cells, min_size=1, max_size=3), min_size=1, max_size=3).map(
    lambda rows: table(*rows)
)


@given(grids, grids)
def test_laws_of_teds(one, two):
    assert 0 <= teds(one, two) <= teds_structure(one, two) + 0.5
    assert teds(one, one) == 1
    assert teds(one, two) == pytest.approx(teds(two, one))


@given(st.text("<>/tabledrhx \"'=&;!-|\n0", max_size=80))
def test_no_text_is_too_odd(text):
    assert 0 <= teds(f"<table>{text}", RIGHT) <= 1
    assert 0 <= teds(text, text) <= 1


@pytest.mark.parametrize(
    "flood",
    ["<table" * 20_000, "<table>" * 20_000, "<table><tr><td>" + "<b>" * 40_000, "<!--" * 50_000 + "<table>",
     "<table><tr>" + "<td>x" * 40_000, "<table><tr><td>" + "&#" * 60_000, "|a" * 50_000],
)  # fmt: skip
def test_floods_cost_little(flood):
    begin = time.perf_counter()
    assert teds(flood, RIGHT) < 0.2
    assert time.perf_counter() - begin < 2


def test_tables_beyond_the_limits_are_not_compared():
    fits = table(*[["x"] * 9] * 90)
    assert comparable(table_tree(fits))
    assert not comparable(table_tree(table(*[["x"] * 9] * (MOST_NODES // 9))))
    assert not comparable(table_tree(table(["x" * (MOST_TOKENS + 1)])))
    assert not comparable(table_tree("no table"))
    assert teds(fits, fits) == 1


def test_memory_that_nothing_was_written_to_is_not_read(monkeypatch):
    signalling = 0x7FF0_0000_0000_0001  # a number that complains of being added to
    monkeypatch.setattr(np, "empty", lambda shape: np.full(shape, signalling).view(np.float64))
    tree = ("a", (("b", (("c", ()), ("a", ()))), ("c", (("b", ()),))))
    other = ("a", (("c", ()), ("b", (("a", ()), ("c", (("b", ()),))))))
    assert quick(tree, other) == quick(other, tree) > 0


@pytest.mark.slow
def test_a_large_table_takes_seconds_at_most():
    rows = [[f"{row * column % 97}.{column}" for column in range(12)] for row in range(20)]
    other = [[f"{(row * column + 1) % 97}.{column}" for column in range(12)] for row in range(20)]
    begin = time.perf_counter()
    assert 0.5 < teds(table(*rows), table(*other)) < 1
    assert time.perf_counter() - begin < 20
