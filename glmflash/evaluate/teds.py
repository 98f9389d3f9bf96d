"""Two tables → how alike they are, 0 to 1: in all, or in structure alone."""

from collections.abc import Hashable, Sequence

import numpy as np

from glmflash.evaluate.levenshtein import levenshtein
from glmflash.evaluate.table_tree import TableTree, comparable, table_tree
from glmflash.evaluate.tree_distance import tree_distance

__all__ = ["teds", "teds_structure"]


def __dir__() -> list[str]:
    return __all__


def teds(given: str, right: str) -> float:
    """Tree-edit-distance-based similarity of the first tables of two texts, in HTML or Markdown.

    `1 - distance / elements of the larger table`. Taking out or putting in a row, a cell or a section
    costs 1; exchanging cells costs the normalised Levenshtein distance of what is in them, or 1 if they span
    differently. 0 if a table is missing, or too large to be one that was asked for: more than 1,000 rows and
    cells, or 20,000 characters.

    Source:
        Zhong et al. 2020, "Image-based table recognition" (arXiv:1911.10683), section 5, and `src/metric.py`
        of ibm-aur-nlp/PubTabNet. Beyond it, header cells are cells (there they are nodes without text, and do
        not occur in the data), blanks in cells count as in a browser, and nothing is below 0.

    Example:
        >>> right = "<table><tr><td>Tea</td><td>2.00</td></tr></table>"
        >>> teds("<table><tr><td>Tea</td><td>2.50</td></tr></table>", right)  # 1/4 of a cell, 3 elements
        0.9166666666666666
    """
    return _similarity(table_tree(given), table_tree(right))


def teds_structure(given: str, right: str) -> float:
    r"""As `teds`, but whatever stands in cells counts as the same.

    Example:
        >>> teds_structure("| a | b |\n|---|---|\n| 1 | 2 |", "| x | y |\n|---|---|\n| 3 | 4 |")
        1.0
    """
    return _similarity(_emptied(table_tree(given)), _emptied(table_tree(right)))


def _emptied(table: TableTree | None) -> TableTree | None:
    for node in table.nodes() if table else ():
        node.tokens = ()
    return table


def _similarity(one: TableTree | None, two: TableTree | None) -> float:
    if one is None or two is None or not comparable(one) or not comparable(two):
        return 0.0
    if one == two:
        return 1.0
    first, second = list(one.nodes()), list(two.nodes())
    exchange = np.empty((len(first), len(second)))
    known: dict[tuple[Hashable, Hashable], float] = {}
    for row, node in enumerate(first):
        for column, other in enumerate(second):
            pair = (node.tokens, other.tokens)
            if (node.tag, node.span) != (other.tag, other.span):
                exchange[row, column] = 1.0
            elif pair in known:
                exchange[row, column] = known[pair]
            else:
                exchange[row, column] = known[pair] = _apart(*pair)
    distance = tree_distance(_leftmost(one), _leftmost(two), exchange)
    return max(0.0, 1 - distance / max(one.elements, two.elements))


def _apart(one: Sequence[str], two: Sequence[str]) -> float:
    return levenshtein(one, two) / max(len(one), len(two), 1)


def _leftmost(table: TableTree) -> list[int]:
    """For each node in postorder, the place of the leftmost leaf below it."""
    places: list[int] = []

    def visit(node: TableTree) -> int:
        lefts = [visit(child) for child in node.children]
        places.append(lefts[0] if lefts else len(places))
        return places[-1]

    visit(table)
    return places
