"""What an answer cache is to the engine: it keeps the tokens of answers, each by the key of its question."""

from dataclasses import dataclass
from typing import Protocol

from glmflash.engine.sampler import Sampled
from glmflash.output.result import FinishReason

__all__ = ["AnswerStats", "Answers", "Recorded"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Recorded:
    """An answer as its tokens were chosen. Text, boxes, calls and deltas are made of them anew.

    Args:
        tokens: Each with its log-probability, if that was asked for.
        finish_reason: Why it ended, by itself.
    """

    tokens: tuple[Sampled, ...]
    finish_reason: FinishReason


class Answers(Protocol):
    """Answers given before. Any thread may call; whatever is raised makes a request slower, never fail."""

    def find(self, key: str) -> Recorded | None:
        """The answer kept by this key; None if there is none. It must not take long."""

    def keep(self, key: str, answer: Recorded) -> None:
        """Keep an answer. It returns at once; what takes long is done on a thread of its own."""

    @property
    def errors(self) -> int:
        """How often something went wrong."""

    @property
    def nbytes(self) -> int | None:
        """Size of what is kept; None if that is not known."""


@dataclass(frozen=True, slots=True)
class AnswerStats:
    """What an engine had of its answer cache.

    Args:
        hits: Requests that were answered with what was kept.
        shared: Requests that were answered together with the same one under way.
        misses: Requests that were looked for, or waited for, in vain: the model answered them.
        skipped: Requests that are never kept: sampled without a seed, or with functions of the caller's.
        errors: How often the cache failed, or held what is no answer.
        bytes: Size of what it keeps; None if that is not known.
    """

    hits: int = 0
    shared: int = 0
    misses: int = 0
    skipped: int = 0
    errors: int = 0
    bytes: int | None = None

    @property
    def hit_ratio(self) -> float:
        """The part that the model did not have to answer, of all that could be kept; 0 without any.

        Example:
            >>> AnswerStats(hits=2, shared=1, misses=1).hit_ratio
            0.75
        """
        spared = self.hits + self.shared
        return spared / (spared + self.misses) if spared else 0.0

    def __str__(self) -> str:
        parts = [f"{self.hits} hits", f"{self.shared} shared", f"{self.misses} misses ({self.hit_ratio:.0%})"]
        parts += [f"{self.skipped} not kept"] if self.skipped else []
        parts += [f"{self.errors} errors"] if self.errors else []
        parts += [f"{self.bytes / 1e6:,.1f} MB"] if self.bytes is not None else []
        return ", ".join(parts)
