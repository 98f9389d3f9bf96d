"""What the engine did → counters, percentiles by phase and speed, collected cheaply and read as one value."""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil

from glmflash.engine.recorded import AnswerStats
from glmflash.engine.stats_html import to_html
from glmflash.kv.pool import PoolStats
from glmflash.output.result import Result

__all__ = ["PHASES", "Accounts", "Percentiles", "Stats", "VisionStats", "phases_of"]

#: What is timed: six phases as in `Timings`, the wait for the first token, and the time for each later one.
PHASES = ("queue", "media", "vision", "prefill", "decode", "total", "first_token", "per_token")

_RECENT = 1024


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long something took, in seconds, over the requests counted.

    Percentiles are exact, by nearest rank: p95 is the smallest value that at least 95 % do not exceed.

    Args:
        count: How many values there are; with none, all others are 0.
        p50: Half of them took no longer.
        p95: 95 % took no longer.
        p99: 99 % took no longer.
        max: The longest.

    Example:
        >>> Percentiles.of([4.0, 1.0, 3.0, 2.0])
        Percentiles(count=4, p50=2.0, p95=4.0, p99=4.0, max=4.0)
    """

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Percentiles":
        """Sort and pick."""
        values = sorted(seconds)
        count = len(values)
        if not count:
            return cls()
        p50, p95, p99 = (values[ceil(percent * count / 100) - 1] for percent in (50, 95, 99))
        return cls(count, p50, p95, p99, values[-1])


@dataclass(frozen=True, slots=True)
class VisionStats:
    """The memory of vision tokens.

    Args:
        entries: Pictures it holds.
        bytes: Their size.
        hits: Pictures that were found in it.
        misses: Pictures that went through the vision tower.
    """

    entries: int = 0
    bytes: int = 0
    hits: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What an engine did since it was made, and what it is at. `str(stats)` is a table.

    Args:
        submitted: Requests accepted.
        rejected: Requests turned away at the door: the queue was full.
        waiting: Requests that have not begun, or were sent back to wait.
        running: Requests being answered.
        finished: Answers by finish reason.
        failed: Errors by their `code`; a future that was cancelled has no answer, and counts as "cancelled".
        prompt_tokens: Tokens of the prompts of all answers, picture tokens included.
        image_tokens: Those of them that stand for pictures.
        cached_tokens: Those of them whose KV was already there.
        completion_tokens: Tokens of all answers.
        saved_prefill: Tokens that were not computed again thanks to any cache.
        preemptions: How often a running request had to give its blocks back and wait.
        tokens_per_second: Tokens generated per second of the decoder's work, over its last 1,024 steps; idle
            time and pictures are not counted.
        vision: The memory of vision tokens.
        pool: The KV blocks; None without a pool.
        kv_bytes: Memory that the KV blocks take now.
        model_bytes: Memory of the weights.
        answers: The answer cache; None without one.
        phases: Seconds by phase (see `PHASES`) over the last 1,024 requests that had it: `media` and `vision`
            over those with pictures, `first_token` over those that got as far, `decode` and `per_token` over
            those of two tokens or more. Failed requests are not in them, and answers given before are only
            in `queue`, `media`, `first_token` and `total`.

    Example:
        >>> Stats(submitted=3, finished={"stop": 2}, waiting=1).answered
        2
    """

    submitted: int = 0
    rejected: int = 0
    waiting: int = 0
    running: int = 0
    finished: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    image_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    saved_prefill: int = 0
    preemptions: int = 0
    tokens_per_second: float = 0.0
    vision: VisionStats = field(default_factory=VisionStats)
    pool: PoolStats | None = None
    kv_bytes: int = 0
    model_bytes: int = 0
    answers: AnswerStats | None = None
    phases: Mapping[str, Percentiles] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Requests that ended with an answer, whatever the reason."""
        return sum(self.finished.values())

    def __str__(self) -> str:
        lines = [f"{name:<12}{text}" for name, text in self._lines()]
        lines.append(f"{'seconds':<12}" + "".join(f"{name:>10}" for name in ("count", *_COLUMNS)))
        lines += [f"{name:<12}" + "".join(f"{cell:>10}" for cell in cells) for name, cells in self._table()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return to_html(self._lines(), ("count", *_COLUMNS), self._table(), self.pool)

    def _lines(self) -> Iterator[tuple[str, str]]:
        parts = [f"{self.submitted} submitted", f"{self.waiting} waiting", f"{self.running} running"]
        yield "requests", ", ".join([*parts, *_counted(self.finished)])
        problems = [f"{self.rejected} rejected"] if self.rejected else []
        if problems := [*problems, *_counted(self.failed)]:
            yield "failed", ", ".join(problems)
        prompt = f"{self.image_tokens:,} image, {self.cached_tokens:,} cached"
        rest = f"{self.completion_tokens:,} completion, {self.saved_prefill:,} saved"
        yield "tokens", f"{self.prompt_tokens:,} prompt ({prompt}), {rest}"
        yield "speed", f"{self.tokens_per_second:.1f} tokens/s, {self.preemptions} preemptions"
        pool, seen = self.pool, self.vision
        if pool is not None:
            blocks = f"{pool.used} used + {pool.cached} cached + {pool.free} free = {pool.num_blocks} blocks"
            size = f"{pool.block_size} tokens, {self.kv_bytes / 1e6:,.1f} MB"
            yield "kv", f"{blocks} of {size}, {pool.evictions} evicted"
        found = f"{seen.hits} hits, {seen.misses} misses"
        yield "vision", f"{seen.entries} pictures, {seen.bytes / 1e6:,.1f} MB, {found}"
        if self.answers is not None:
            yield "answers", str(self.answers)

    def _table(self) -> Iterator[tuple[str, list[str]]]:
        for name, one in self.phases.items():
            yield name, [str(one.count), *(f"{getattr(one, column):.4f}" for column in _COLUMNS)]


def phases_of(result: Result) -> Iterator[tuple[str, float]]:
    """The phases (see `PHASES`) that an answered request had, and how long each took, in seconds."""
    usage, timings, computed = result.usage, result.timings, not result.from_cache
    yield "queue", timings.queue
    yield "total", timings.total
    if usage.image:
        yield "media", timings.media
    if usage.image and computed:
        yield "vision", timings.vision
    if usage.completion:
        yield "first_token", timings.first_token
    if usage.completion and computed:
        yield "prefill", timings.prefill
    if usage.completion > 1 and computed:
        yield "decode", timings.decode
        yield "per_token", timings.decode / (usage.completion - 1)


def _counted(counts: Mapping[str, int]) -> list[str]:
    return [f"{count} {name}" for name, count in sorted(counts.items())]


_COLUMNS = ("p50", "p95", "p99", "max")


class Accounts:
    """Where an engine writes down what it does. Any thread may call any of it.

    Example:
        >>> accounts = Accounts()
        >>> accounts.submitted()
        >>> accounts.finished(Result(text="42"))
        >>> accounts.snapshot().finished
        {'stop': 1}
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._finished: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._phases = {phase: deque[float](maxlen=_RECENT) for phase in PHASES}
        self._steps = deque[tuple[int, float]](maxlen=_RECENT)

    def submitted(self) -> None:
        """A request was accepted."""
        with self._lock:
            self._counts["submitted"] += 1

    def rejected(self) -> None:
        """A request was turned away."""
        with self._lock:
            self._counts["rejected"] += 1

    def generated(self, tokens: int, seconds: float) -> None:
        """A step of the engine ended.

        Args:
            tokens: Tokens that it generated, over all requests; 0 if it only read prompts.
            seconds: How long it took.
        """
        with self._lock:
            self._steps.append((tokens, seconds))

    def finished(self, result: Result) -> None:
        """A request has its answer."""
        usage, phases = result.usage, self._phases
        with self._lock:
            self._finished[result.finish_reason] += 1
            counts = self._counts
            counts["prompt_tokens"] += usage.prompt
            counts["image_tokens"] += usage.image
            counts["cached_tokens"] += usage.cached
            counts["completion_tokens"] += usage.completion
            counts["saved_prefill"] += usage.saved_prefill
            for phase, seconds in phases_of(result):
                phases[phase].append(seconds)

    def failed(self, code: str) -> None:
        """A request ended with an error.

        Args:
            code: The error's `code`, or the name of its class if it has none.
        """
        with self._lock:
            self._failed[code] += 1

    def snapshot(
        self,
        *,
        waiting: int = 0,
        running: int = 0,
        preemptions: int = 0,
        vision: VisionStats | None = None,
        pool: PoolStats | None = None,
        kv_bytes: int = 0,
        model_bytes: int = 0,
        answers: AnswerStats | None = None,
    ) -> Stats:
        """All of it at one moment; the engine adds what others keep count of. Arguments: see `Stats`."""
        with self._lock:
            counts, steps = dict(self._counts), list(self._steps)
            finished, failed = dict(self._finished), dict(self._failed)
            phases = {phase: list(seconds) for phase, seconds in self._phases.items()}
        worked = sum(seconds for _, seconds in steps)
        return Stats(
            **counts,
            finished=finished,
            failed=failed,
            waiting=waiting,
            running=running,
            preemptions=preemptions,
            tokens_per_second=sum(tokens for tokens, _ in steps) / worked if worked > 0 else 0.0,
            vision=VisionStats() if vision is None else vision,
            pool=pool,
            kv_bytes=kv_bytes,
            model_bytes=model_bytes,
            answers=answers,
            phases={phase: Percentiles.of(seconds) for phase, seconds in phases.items()},
        )
