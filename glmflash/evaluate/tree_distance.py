"""Two ordered trees and what exchanging their nodes costs → their edit distance."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["tree_distance"]

_Floats = NDArray[np.float64]
_Places = NDArray[np.intp]


def __dir__() -> list[str]:
    return __all__


def tree_distance(one: Sequence[int], two: Sequence[int], exchange: _Floats) -> float:
    """The least cost of turning one tree into the other; taking a node out or putting one in costs 1.

    The exact algorithm of Zhang and Shasha 1989: the distances of all subtrees, and for those with a left
    sibling that of the forests inside. Two things make it quick for tables, which are wide and flat: rows of
    forest distances are computed at once, and a leaf against a tree needs no forest at all, for it takes the
    place of the node that suits it best.

    Args:
        one: For each node, in postorder, the place of the leftmost leaf below it (its own, if it is a leaf).
        two: The same of the other tree.
        exchange: What it costs to put a node of `two` in the place of one of `one`, from 0 to 1.

    Shapes:
        exchange (nodes of one, nodes of two)

    Example:
        >>> chain, pair = [0, 0, 0], [0, 1, 0]  # a(b(c)) and a(b, c)
        >>> tree_distance(chain, pair, 1 - np.eye(3))
        2.0
    """
    first, second = np.asarray(one, np.intp), np.asarray(two, np.intp)
    distance = np.zeros(exchange.shape)  # what is not known yet is added to, and the sum dropped
    _leaves(first, second, exchange, distance)
    _leaves(second, first, exchange.T, distance.T)
    for root in _roots(first):
        for other in _roots(second):
            _forests(first[: root + 1], second[: other + 1], exchange, distance)
    return float(distance[-1, -1])


def _leaves(one: _Places, two: _Places, exchange: _Floats, distance: _Floats) -> None:
    """Fill in the distances of leaves of `one` and all subtrees of `two`."""
    leaves = np.flatnonzero(one == np.arange(len(one)))
    for node, left in enumerate(two):
        distance[leaves, node] = node - left + exchange[leaves, left : node + 1].min(1)


def _roots(tree: _Places) -> Iterator[int]:
    """Subtrees that are no leaf and start with a leaf of their own: the root, and what has a left sibling."""
    last = {int(left): node for node, left in enumerate(tree)}  # of those that start with one leaf
    return (node for node in sorted(last.values()) if tree[node] < node)


def _forests(one: _Places, two: _Places, exchange: _Floats, distance: _Floats) -> None:
    """Fill in the distances of the subtrees along the left edges of two trees that end with their roots."""
    top, left = int(one[-1]), int(two[-1])
    nodes = np.arange(left, len(two))
    before = two[nodes] - left  # how much of the forest stands before a node's subtree
    trees = before == 0
    steps = np.arange(len(nodes) + 1.0)
    forest = np.empty((len(one) - top + 1, len(nodes) + 1))
    forest[0] = steps
    row = np.empty(len(nodes) + 1)
    for node in range(top, len(one)):
        place = node - top + 1
        exchanged = forest[one[node] - top, before] + distance[node, nodes]
        if one[node] == top:
            exchanged[trees] = (forest[place - 1, :-1] + exchange[node, nodes])[trees]
        row[0] = place
        np.minimum(forest[place - 1, 1:] + 1, exchanged, out=row[1:])
        forest[place] = np.minimum.accumulate(row - steps) + steps  # putting nodes in, one after the other
        if one[node] == top:
            distance[node, nodes[trees]] = forest[place, 1:][trees]
