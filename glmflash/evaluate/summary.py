"""Rows of several systems → figures of each: accuracy, differences, latency, speed, memory, errors."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict

import numpy as np

from glmflash.engine.stats import Percentiles
from glmflash.evaluate.memory import Memory
from glmflash.evaluate.row import Row
from glmflash.evaluate.statistics import Interval, busy_seconds, draw_means, interval

__all__ = ["Asked", "Summary", "paired_draws", "summarise"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as a report keeps it: without its pictures, which it names.

    Args:
        id: See `Question`, and so are the next four.
        text: See above.
        answers: See above.
        kind: See above; the metric's name where questions have no kind.
        metric: See above.
        pictures: Digests of its pictures.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    kind: str
    metric: str
    pictures: tuple[str, ...] = ()

    @property
    def cluster(self) -> tuple[str, ...]:
        """Questions with the same pictures are not independent of each other."""
        return self.pictures or (f"question {self.id}",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures of one system.

    Args:
        system: Its name.
        accuracy: Mean score over all questions; an error scores 0.
        kinds: The same over the questions of each kind.
        difference: To the baseline's accuracy, over the same questions; None for the baseline itself.
        errors: How many, by code.
        latency: Seconds from asking to the whole answer, over those that came.
        first_token: Seconds to the first token, over the answers that say.
        tokens_per_second: Tokens generated per second of work; None if the system does not count them.
        answers_per_second: Answers per second of work; questions asked together count together.
        cached: Share of the prompts' tokens that were not computed again; None if nobody knows.
        memory: Most bytes held.
    """

    system: str
    accuracy: Interval
    kinds: Mapping[str, Interval]
    difference: Interval | None
    errors: Mapping[str, int]
    latency: Percentiles
    first_token: Percentiles
    tokens_per_second: float | None
    answers_per_second: float
    cached: float | None
    memory: Memory

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)


def summarise(
    questions: Sequence[Asked],
    rows: Mapping[str, Sequence[Row]],
    memory: Mapping[str, Memory],
    *,
    baseline: str,
    seed: int,
) -> tuple[Summary, ...]:
    """Work out all figures.

    Args:
        questions: All of them, in order.
        rows: Of each system, one for each question, in that order.
        memory: Of each system, as far as it is known.
        baseline: The system that others are compared with.
        seed: Of the draws.
    """
    names, clusters = list(rows), len({one.cluster for one in questions})
    scores = _scores(rows)  # (S, N)
    draws = draw_means(scores, [one.cluster for one in questions], seed=seed)  # (D, S)
    kinds = _kinds(questions, scores, names, seed)
    base = names.index(baseline)
    found = []
    for at, name in enumerate(names):
        difference = None
        if at != base:
            apart = float(scores[at].mean() - scores[base].mean())
            difference = interval(
                apart, draws[:, at] - draws[:, base], count=len(questions), clusters=clusters, least=-1.0
            )
        accuracy = interval(float(scores[at].mean()), draws[:, at], count=len(questions), clusters=clusters)
        speed = _speed(rows[name])
        found.append(
            Summary(
                system=name, accuracy=accuracy, kinds=kinds[name], difference=difference,
                memory=memory.get(name, Memory()), **speed,
            )
        )  # fmt: skip
    return tuple(found)


def paired_draws(
    questions: Sequence[Asked], rows: Mapping[str, Sequence[Row]], system: str, baseline: str, *, seed: int
) -> np.ndarray:
    """Differences of two systems' means, drawn as for a report. Shapes: -> (D,)."""
    scores = _scores({name: rows[name] for name in (system, baseline)})
    draws = draw_means(scores, [one.cluster for one in questions], seed=seed)  # (D, 2)
    difference: np.ndarray = draws[:, 0] - draws[:, 1]
    return difference


def _scores(rows: Mapping[str, Sequence[Row]]) -> np.ndarray:
    return np.array([[row.score for row in of_one] for of_one in rows.values()])  # (S, N)


def _kinds(
    questions: Sequence[Asked], scores: np.ndarray, names: Sequence[str], seed: int
) -> dict[str, dict[str, Interval]]:
    """By system, then by kind in the order of the questions."""
    found: dict[str, dict[str, Interval]] = {name: {} for name in names}
    for kind in dict.fromkeys(one.kind for one in questions):
        mine = [at for at, one in enumerate(questions) if one.kind == kind]
        part = scores[:, mine]
        clusters = [questions[at].cluster for at in mine]
        draws = draw_means(part, clusters, seed=seed)
        for at, name in enumerate(names):
            found[name][kind] = interval(
                float(part[at].mean()), draws[:, at], count=len(mine), clusters=len(set(clusters))
            )
    return found


class _Speed(TypedDict):
    errors: Mapping[str, int]
    latency: Percentiles
    first_token: Percentiles
    tokens_per_second: float | None
    answers_per_second: float
    cached: float | None


def _speed(rows: Sequence[Row]) -> _Speed:
    """What does not depend on the other systems."""
    good = [row for row in rows if row.error is None]
    busy = busy_seconds((row.began, row.seconds) for row in good)
    counted = [row.answer.completion_tokens for row in good if row.answer.completion_tokens is not None]
    read = [row.answer for row in good if row.answer.prompt_tokens and row.answer.cached_tokens is not None]
    prompt = sum(answer.prompt_tokens or 0 for answer in read)
    return {
        "errors": dict(Counter(row.error for row in rows if row.error is not None)),
        "latency": Percentiles.of(row.seconds for row in good),
        "first_token": Percentiles.of(
            row.answer.first_token for row in good if row.answer.first_token is not None
        ),
        "tokens_per_second": sum(counted) / busy if counted and busy else None,
        "answers_per_second": len(good) / busy if busy else 0.0,
        "cached": sum(answer.cached_tokens or 0 for answer in read) / prompt if prompt else None,
    }
