"""Two sequences → how many insertions, deletions and replacements lead from one to the other."""

from collections.abc import Hashable, Sequence

__all__ = ["levenshtein"]


def __dir__() -> list[str]:
    return __all__


def levenshtein(one: Sequence[Hashable], two: Sequence[Hashable]) -> int:
    """The edit distance of Levenshtein (1966), exactly.

    A column of the usual table is held as the differences of its neighbours, +1 or -1, in the bits of two
    numbers, so that one step of arithmetic does a whole column (Myers 1999, in the form of Hyyrö 2003).

    Example:
        >>> levenshtein("kitten", "sitting"), levenshtein("", "abc")
        (3, 3)
    """
    start, end = 0, 0
    shorter = min(len(one), len(two))
    while start < shorter and one[start] == two[start]:
        start += 1
    while end < shorter - start and one[-1 - end] == two[-1 - end]:
        end += 1
    one, two = one[start : len(one) - end], two[start : len(two) - end]
    if len(one) < len(two):
        one, two = two, one
    if not two:
        return len(one)
    places: dict[Hashable, int] = {}
    for at, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << at
    every, last = (1 << len(one)) - 1, 1 << len(one) - 1
    more, less, distance = every, 0, len(one)  # down the column: where it rises, where it falls
    for token in two:
        same = places.get(token, 0)
        vertical = same | less
        horizontal = ((same & more) + more) ^ more | same
        rises, falls = less | every & ~(horizontal | more), more & horizontal
        distance += bool(rises & last) - bool(falls & last)
        rises, falls = rises << 1 | 1, falls << 1
        more, less = every & (falls | ~(vertical | rises)), every & rises & vertical
    return distance
