"""Systems and questions → a report; what a run that was ended has done already is not done again."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TypeGuard

from glmflash.errors import ParameterError
from glmflash.evaluate.ask import Given, ask_all
from glmflash.evaluate.conditions import Conditions
from glmflash.evaluate.journal import Journal
from glmflash.evaluate.memory import Memory, process_bytes
from glmflash.evaluate.pictures import Thumbnail, fingerprint, picture_digests, thumbnails
from glmflash.evaluate.question import Question
from glmflash.evaluate.report import Report
from glmflash.evaluate.row import Row
from glmflash.evaluate.score import score
from glmflash.evaluate.summary import Asked
from glmflash.evaluate.systems import System, about_of, open_system
from glmflash.progress import Progress, Work, reporter
from glmflash.progress import Report as Told

__all__ = ["run"]

_EVALUATED = Work("evaluated", " answers")
_MOST_PICTURES = 200  # thumbnails that a report keeps


def __dir__() -> list[str]:
    return __all__


def run(
    systems: Mapping[str, System],
    questions: Iterable[Question],
    *,
    baseline: str | None = None,
    concurrency: int = 1,
    timeout: float | None = 600.0,
    resume: str | Path | None = None,
    retry_errors: bool = False,
    seed: int = 0,
    progress: Progress = None,
) -> Report:
    """Ask every system every question, and compare.

    Systems are asked one after the other. An error is an answer that scores 0; the report has its code.

    Args:
        systems: By name: a pipeline, `asking(...)`, or a function that takes a question.
        questions: With different ids; see `read_questions`.
        baseline: The system that others are compared with; the first by default.
        concurrency: Questions that a system has under way at once. With 1, latencies are those of a question
            alone; with more they include waiting for neighbours, and a batch answers more in the same time.
        timeout: Most seconds for a question, after which it is an error; None for no limit.
        resume: A journal: made if it is not there, and gone on from if it is.
        retry_errors: Whether questions that the journal has errors for are asked again.
        seed: Of the draws behind the intervals; see `glmflash.evaluate.statistics`.
        progress: As for `Pipeline.from_pretrained`; a function hears of answers given and in all.

    Raises:
        ParameterError: If an argument is not as above, or the journal is of other questions or systems.
        ImageError: If a picture's file is not there.
        GlmflashError: What making a pipeline raises.

    Example:
        >>> ask = Question(id="1", text="How many?", answers=("3",))
        >>> report = run({"good": lambda question: "3", "bad": lambda question: "4"}, [ask])
        >>> report["bad"].difference.value
        -1.0
    """
    questions = tuple(questions)
    conditions = _conditions(systems, questions, baseline, concurrency, timeout, seed)
    known = {name: about_of(system) for name, system in systems.items()}
    digests = picture_digests(questions)
    journal = _journal(resume, known, fingerprint(questions, digests))
    with reporter(progress, _EVALUATED) as told:
        work = _Work(journal, questions, conditions, retry_errors, told, len(systems))
        for name, system in systems.items():
            work.evaluate(name, system)
    return work.report(list(systems), next(iter(systems)) if baseline is None else baseline, digests)


def _journal(resume: str | Path | None, known: Mapping[str, Mapping[str, str]], questions: str) -> Journal:
    """What was done before, if these systems did it: found out before any is asked, or loaded."""
    journal = Journal(None if resume is None else Path(resume), questions=questions)
    for name, about in known.items():
        journal.check(name, about)
    return journal


class _Work:
    """One run under way."""

    def __init__(
        self, journal: Journal, questions: Sequence[Question], conditions: Conditions, retry: bool,
        told: Told, systems: int,
    ) -> None:  # fmt: skip
        self._journal, self._questions, self._conditions = journal, questions, conditions
        self._retry, self._told = retry, told
        self._done, self._total = 0, systems * len(questions)

    def evaluate(self, name: str, system: System) -> None:
        """Ask one system what it has not been asked."""
        todo = [one for one in self._questions if not self._known(name, one)]
        self._done += len(self._questions) - len(todo)
        self._told(self._done, self._total)
        if not todo:
            return
        timeout = self._conditions.timeout
        memory = Memory()
        with open_system(system) as opened:
            self._journal.opened(name, opened.about)
            with suppress(Exception):  # when it is asked again, it will be an answer
                opened.warm_up(todo[0], timeout)
            answers = ask_all(opened, todo, concurrency=self._conditions.concurrency, timeout=timeout)
            try:
                with closing(answers):
                    for given in answers:
                        self._journal.add(_row(name, given))
                        memory = memory.most(Memory(process=process_bytes()))
                        self._done += 1
                        self._told(self._done, self._total)
            finally:
                opened.cancel()
            self._journal.closed(name, memory.most(opened.memory()))

    def report(self, systems: Sequence[str], baseline: str, digests: Mapping[str, tuple[str, ...]]) -> Report:
        """All that is known now."""
        asked, memory = self._questions, self._journal.memory
        rows = {name: tuple(self._row(name, one) for one in asked) for name in systems}
        wrong = [one for at, one in enumerate(asked) if not all(row[at].right for row in rows.values())]
        return Report(
            baseline=baseline,
            questions=tuple(_asked(one, digests[one.id]) for one in asked),
            rows=rows,
            conditions=self._conditions,
            memory={name: memory[name] for name in systems if name in memory},
            pictures=_pictures(wrong, digests),
        )

    def _row(self, name: str, question: Question) -> Row:
        """What is known; of what stood in a journal, by today's metrics."""
        row = self._journal.rows[name, question.id]
        return row if row.error is not None else replace(row, score=score(question, row.answer))

    def _known(self, name: str, question: Question) -> bool:
        row = self._journal.rows.get((name, question.id))
        return row is not None and not (self._retry and row.error is not None)


def _row(system: str, given: Given) -> Row:
    worth = score(given.question, given.answer) if given.error is None else 0.0
    return Row(
        system=system, question=given.question.id, score=worth, seconds=given.seconds, began=given.began,
        answer=given.answer, error=given.error,
    )  # fmt: skip


def _asked(one: Question, pictures: tuple[str, ...]) -> Asked:
    kind = one.kind or one.metric
    return Asked(
        id=one.id, text=one.text, answers=one.answers, kind=kind, metric=one.metric, pictures=pictures
    )


def _pictures(wrong: Sequence[Question], digests: Mapping[str, tuple[str, ...]]) -> dict[str, Thumbnail]:
    """Of what was answered wrong, as many as a report can hold."""
    kept: dict[str, Question] = {}
    for one in wrong:
        for digest in digests[one.id]:
            if len(kept) < _MOST_PICTURES:
                kept.setdefault(digest, one)
    chosen = list(dict.fromkeys(one.id for one in kept.values()))
    return thumbnails([one for one in wrong if one.id in chosen], digests)


def _conditions(
    systems: object,
    questions: tuple[Question, ...],
    baseline: object,
    concurrency: object,
    timeout: object,
    seed: object,
) -> Conditions:
    """The arguments of a run, checked."""
    if not isinstance(systems, Mapping) or not systems or not all(_name(one) for one in systems):
        raise ParameterError("systems", "not a mapping from names to one or more systems")
    if baseline is not None and baseline not in systems:
        raise ParameterError("baseline", f"is {baseline!r:.80}; allowed: the name of one of the systems")
    if not questions or not all(isinstance(one, Question) for one in questions):
        raise ParameterError("questions", "not one or more of evaluate.Question; see read_questions")
    if len({one.id for one in questions}) < len(questions):
        raise ParameterError("questions", "two have one id; rows would be mixed up")
    if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
        raise ParameterError("concurrency", f"is {concurrency!r:.40}; allowed: a whole number from 1")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ParameterError("seed", f"is {seed!r:.40}; allowed: a whole number from 0")
    if timeout is not None and not _positive(timeout):
        raise ParameterError("timeout", f"is {timeout!r:.40}; allowed: seconds above 0, or None")
    return Conditions(
        concurrency=concurrency, timeout=timeout, seed=seed,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count() or 1} processors",
    )  # fmt: skip


def _name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _positive(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value > 0
