"""Scores of several systems for the same questions → means, how sure they are, and whether they differ.

Questions are drawn again and again, with replacement, as many as there are, and the spread of the means is
that of the measurement: the bootstrap. All systems share each draw, so a difference between two is taken over
the same questions, and whatever makes some questions harder than others cancels out. Questions about one
picture stand or fall together, so pictures are drawn, with all their questions.

Source: B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979; percentile intervals. Drawing
clusters: E. Miller, "Adding Error Bars to Evals", 2024, section 2.2, and 4.2 on paired differences.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["DRAWS", "LEVEL", "Interval", "busy_seconds", "draw_means", "interval", "spread"]

DRAWS = 4000
#: What share of intervals hold the true value.
LEVEL = 0.95
_AT_ONCE = 4_000_000  # numbers drawn together: 32 MB


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value, and between which values the true one lies, 19 times out of 20.

    Args:
        value: What was measured.
        low: Lower end of the 95 % interval.
        high: Upper end.
        count: Over how many questions.
    """

    value: float
    low: float
    high: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is more than chance."""
        return self.low > 0 or self.high < 0


def draw_means(scores: np.ndarray, clusters: Sequence[Hashable], *, seed: int) -> np.ndarray:
    """Means of systems over questions drawn again and again.

    Args:
        scores: Of each system, for each question.
        clusters: What each question stands or falls with, its picture for one.
        seed: The same draws again.

    Shapes:
        scores (S, N) -> (`DRAWS`, S)

    Example:
        >>> means = draw_means(np.array([[0.0, 1.0, 1.0, 0.0] * 25]), range(100), seed=0)
        >>> means.shape, bool(abs(means.std() - 0.05) < 0.005)  # sqrt(p (1 - p) / n)
        ((4000, 1), True)
    """
    number = {cluster: at for at, cluster in enumerate(dict.fromkeys(clusters))}
    member = np.array([number[cluster] for cluster in clusters])  # (N,)
    count = len(number)
    sums = np.stack([np.bincount(member, row, count) for row in scores])  # (S, C)
    sizes = np.bincount(member, minlength=count)  # (C,)
    random = np.random.default_rng(seed)
    means = []
    at_once = max(1, _AT_ONCE // count)
    for start in range(0, DRAWS, at_once):
        drawn = random.integers(0, count, (min(at_once, DRAWS - start), count))  # (D, C)
        flat = drawn + count * np.arange(len(drawn))[:, None]
        times = np.bincount(flat.ravel(), minlength=drawn.size).reshape(drawn.shape)  # (D, C)
        means.append((times @ sums.T) / (times @ sizes)[:, None])  # (D, S)
    return np.concatenate(means)


def interval(value: float, draws: np.ndarray, *, count: int, clusters: int, least: float = 0.0) -> Interval:
    """The middle `LEVEL` of what was drawn.

    Args:
        value: What was measured.
        draws: What was drawn.
        count: How many questions that was about.
        clusters: How many of them are independent.
        least: The lowest value there can be; the highest is 1.

    Shapes:
        draws (D,)

    Example:
        >>> interval(1.0, np.ones(4000), count=48, clusters=48).low  # none of 48 was wrong
        0.926027...
    """
    low, high = (float(end) for end in np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    if not spread(draws):
        hidden = 1 - float(((1 - LEVEL) / 2) ** (1 / clusters))
        low, high = max(least, value - hidden), min(1.0, value + hidden)
    return Interval(value, low, high, count)


def spread(draws: np.ndarray) -> bool:
    """Whether draws differ. Where they don't, there is nothing to draw from: no question had another score.

    Then the chance counts that so many miss what happens in a share of all, (1 - share) ** clusters:
    the exact bound of C. Clopper and E. Pearson, 1934. Shapes: draws (D,).
    """
    return bool(np.ptp(draws) > 1e-12)


def busy_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one question was under way.

    Args:
        spans: Of each question, when it began and how long it took.

    Example:
        >>> busy_seconds([(0.0, 2.0), (1.0, 2.0), (10.0, 1.0)])
        4.0
    """
    total, until = 0.0, float("-inf")
    for began, seconds in sorted(spans):
        total += max(0.0, began + seconds - max(began, until))
        until = max(until, began + seconds)
    return total
