"""What every system said to every question → a frozen report: figures, text, Markdown, JSON, HTML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from glmflash.errors import ParameterError
from glmflash.evaluate import report_html, report_json, report_text
from glmflash.evaluate.conditions import Conditions
from glmflash.evaluate.memory import Memory
from glmflash.evaluate.pictures import Thumbnail
from glmflash.evaluate.row import Row
from glmflash.evaluate.summary import Asked, Summary, summarise
from glmflash.weights.files import replacing

__all__ = ["Report"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report:
    """Several systems, compared over the same questions. Made by `run`; `str(report)` is a table.

    Args:
        baseline: The system that others are compared with.
        questions: What was asked.
        rows: What each system said to each, in order.
        conditions: How it was measured.
        memory: What each system took, as far as it is known.
        pictures: Small pictures of the questions with wrong answers, by digest.
        systems: Figures of each, in order; worked out of the others.
    """

    baseline: str
    questions: tuple[Asked, ...]
    rows: Mapping[str, tuple[Row, ...]]
    conditions: Conditions = field(default_factory=Conditions)
    memory: Mapping[str, Memory] = field(default_factory=dict)
    pictures: Mapping[str, Thumbnail] = field(default_factory=dict)
    systems: tuple[Summary, ...] = field(init=False)

    def __post_init__(self) -> None:
        ids = [one.id for one in self.questions]
        if not ids or len(set(ids)) < len(ids):
            raise ParameterError("questions", "none, or some with one id; allowed: one or more, told apart")
        if self.baseline not in self.rows:
            raise ParameterError(
                "baseline", f"is {self.baseline!r:.80}; allowed: {', '.join(map(repr, self.rows)):.400}"
            )
        for name, rows in self.rows.items():
            if [(row.system, row.question) for row in rows] != [(name, one) for one in ids]:
                raise ParameterError("rows", f"of {name!r:.80} are not one for each question, in order")
        found = summarise(
            self.questions, self.rows, self.memory, baseline=self.baseline, seed=self.conditions.seed
        )
        object.__setattr__(self, "systems", found)

    def __getitem__(self, system: str) -> Summary:
        for one in self.systems:
            if one.system == system:
                return one
        raise KeyError(system)

    def wrong(self, system: str) -> tuple[Row, ...]:
        """What a system said wrong: answers worth less than half, and errors."""
        return tuple(row for row in self.rows[system] if not row.right)

    def to_json(self) -> str:
        """All of it; `from_json` reads it again. Figures are in it for other programs."""
        return report_json.write(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: If it is no such text.
            ParameterError: If its parts do not belong together.
        """
        return cls(**report_json.read(text))

    def to_markdown(self) -> str:
        """Tables, for a page or a pull request."""
        return report_text.to_markdown(self)

    def to_html(self, *, most_wrong: int = 40) -> str:
        """A page of its own: plots, tables, and wrong answers beside their pictures. No scripts, no links.

        Args:
            most_wrong: Most questions with wrong answers that are shown.
        """
        return report_html.to_html(self, most_wrong=most_wrong)

    def save(self, path: str | Path) -> Path:
        """Write a file whose ending says what: .html, .json, .md or .txt; an old one stays until it is whole.

        Raises:
            ParameterError: If it has another ending.
            OSError: If it cannot be written.
        """
        path = Path(path)
        ways = {".html": self.to_html, ".json": self.to_json, ".md": self.to_markdown, ".txt": self.__str__}
        if path.suffix not in ways:
            raise ParameterError("path", f"ends in {path.suffix!r:.20}; allowed: {', '.join(ways)}")
        text = ways[path.suffix]()
        with replacing(path) as file:
            file.write(text.encode(errors="backslashreplace"))  # half a pair; JSON reads it again
        return path

    def __str__(self) -> str:
        return report_text.to_text(self)

    def __repr__(self) -> str:
        return f"<Report: {len(self.systems)} systems, {len(self.questions)} questions>"

    def _repr_html_(self) -> str:
        return report_html.to_notebook(self)
