"""A report → nothing to worry about, or an error that names what became worse: for a test of a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

from glmflash.errors import ParameterError, RegressionError
from glmflash.evaluate.report import Report
from glmflash.evaluate.report_text import percent, points_text
from glmflash.evaluate.statistics import Interval, interval, spread
from glmflash.evaluate.summary import paired_draws

__all__ = ["Judged", "Verdict", "gate"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One system against the baseline.

    Args:
        system: Its name.
        difference: Of accuracies, over the same questions.
        certainty: How likely it is that the drop is no larger than allowed: the share of draws in which it
            was not; where no draw differs, how likely so many questions would have shown a larger one.
        passed: Whether it is good enough.
    """

    system: str
    difference: Interval
    certainty: float
    passed: bool

    def __str__(self) -> str:
        word = "passes" if self.passed else "FAILS"
        return (
            f"{self.system} {word}: {points_text(self.difference)} points, "
            f"{percent(self.certainty)} sure that it is within the limit"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All systems against the baseline. `str(verdict)` has a line for each.

    Args:
        baseline: Its name.
        max_drop: Largest drop allowed.
        systems: Of each, how it did.
    """

    baseline: str
    max_drop: float
    systems: tuple[Judged, ...]

    @property
    def passed(self) -> bool:
        """Whether all are good enough."""
        return all(one.passed for one in self.systems)

    def __str__(self) -> str:
        head = f"compared with {self.baseline}, at most {100 * self.max_drop:g} points lower"
        return "\n".join([head, *map(str, self.systems)])


def gate(
    report: Report,
    *,
    max_drop: float,
    baseline: str | None = None,
    systems: Sequence[str] | None = None,
    confidence: float | None = None,
) -> Verdict:
    """Fail if a system is worse than the baseline by more than is allowed.

    Args:
        report: What was measured.
        max_drop: Largest drop of accuracy allowed: 0.01 is one percentage point.
        baseline: What to compare with; the report's own by default.
        systems: Which to judge; all but the baseline by default.
        confidence: How sure it has to be that the drop is within the limit, such as 0.95. None judges by what
            was measured alone, which for few questions lets chance decide.

    Returns:
        The verdict, if all are good enough.

    Raises:
        RegressionError: If one is not; its message is the verdict's text, and `.systems` names them.
        ParameterError: If an argument is not as above.
    """
    baseline = report.baseline if baseline is None else baseline
    others = [name for name in report.rows if name != baseline] if systems is None else list(systems)
    _check(report, baseline, others, max_drop, confidence)
    judged = tuple(_judge(report, name, baseline, max_drop, confidence) for name in others)
    verdict = Verdict(baseline=baseline, max_drop=max_drop, systems=judged)
    if not verdict.passed:
        raise RegressionError(str(verdict), systems=[one.system for one in judged if not one.passed])
    return verdict


def _judge(report: Report, name: str, baseline: str, max_drop: float, confidence: float | None) -> Judged:
    draws = paired_draws(report.questions, report.rows, name, baseline, seed=report.conditions.seed)
    value = report[name].accuracy.value - report[baseline].accuracy.value
    limit = -max_drop - 1e-9  # a drop of exactly as much is allowed, whatever the last bit says
    clusters = len({one.cluster for one in report.questions})
    certainty = float((draws >= limit).mean())
    if not spread(draws):
        certainty = 1 - (1 - min(1.0, max(0.0, value + max_drop))) ** clusters
    passed = value >= limit and (confidence is None or certainty >= confidence)
    return Judged(
        system=name, certainty=certainty, passed=passed,
        difference=interval(value, draws, count=len(report.questions), clusters=clusters, least=-1.0),
    )  # fmt: skip


def _check(
    report: Report, baseline: str, systems: Sequence[str], max_drop: object, confidence: object
) -> None:
    known = ", ".join(map(repr, report.rows))
    if baseline not in report.rows:
        raise ParameterError("baseline", f"is {baseline!r:.80}; allowed: {known:.400}")
    if not systems or any(name not in report.rows or name == baseline for name in systems):
        raise ParameterError(
            "systems", f"are {list(systems)!r:.200}; allowed: one or more of {known:.400}, not the baseline"
        )
    for name, value, most in (("max_drop", max_drop, 1), ("confidence", confidence, 1)):
        if value is None and name == "confidence":
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
            raise ParameterError(name, f"is {value!r:.40}; allowed: a number from 0 to 1")
