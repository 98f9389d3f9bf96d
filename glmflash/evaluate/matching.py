"""How well things of two groups fit, pair by pair → the pairing that fits best in all."""

from collections.abc import Sequence

__all__ = ["best_matching"]


def __dir__() -> list[str]:
    return __all__


def best_matching(fit: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """The pairs (row, column), each row and each column at most once, whose sum is greatest.

    The Hungarian method with potentials (Kuhn 1955, in the form of Jonker and Volgenant 1987): rows join one
    by one, each by the cheapest path of exchanges. Takes the square of the smaller side times the larger.

    Args:
        fit: Rows of one length.

    Example:
        >>> best_matching([[0.9, 0.8], [0.7, 0.1]])  # 0.8 + 0.7, not 0.9 + 0.1
        [(0, 1), (1, 0)]
    """
    rows, columns = len(fit), len(fit[0]) if fit else 0
    if rows > columns:
        flipped = best_matching([[row[column] for row in fit] for column in range(columns)])
        return sorted((row, column) for column, row in flipped)
    of_row, of_column = [0.0] * (rows + 1), [0.0] * (columns + 1)  # potentials; place 0 is nobody's
    taken = [0] * (columns + 1)  # by which row, counted from 1
    for row in range(1, rows + 1):
        taken[0] = row
        column, before = _free(fit, of_row, of_column, taken)
        while column:
            taken[column] = taken[before[column]]
            column = before[column]
    return sorted((row - 1, column - 1) for column, row in enumerate(taken) if row and column)


def _free(
    fit: Sequence[Sequence[float]], of_row: list[float], of_column: list[float], taken: list[int]
) -> tuple[int, list[int]]:
    """The column where the cheapest path of exchanges ends, and for each column the one before it."""
    least = [float("inf")] * len(taken)
    before, seen, column = [0] * len(taken), [False] * len(taken), 0
    while taken[column]:
        seen[column], row = True, taken[column]
        unseen = [other for other, passed in enumerate(seen) if not passed]
        for other in unseen:
            cost = -fit[row - 1][other - 1] - of_row[row] - of_column[other]
            if cost < least[other]:
                least[other], before[other] = cost, column
        following = min(unseen, key=least.__getitem__)
        step = least[following]
        for other, passed in enumerate(seen):
            if passed:
                of_row[taken[other]] += step
                of_column[other] -= step
            else:
                least[other] -= step
        column = following
    return column, before
