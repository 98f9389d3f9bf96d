"""A text, pictures and the right answers → one question of a benchmark, frozen and checked."""

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, get_args

from glmflash.errors import ParameterError
from glmflash.evaluate.yardstick import problem

__all__ = ["METRICS", "MOST_ANSWERS", "MOST_CHARACTERS", "MOST_IMAGES", "Metric", "Question"]

#: How an answer is judged; each is defined, with its source, in `glmflash.evaluate.metrics`.
Metric = Literal[
    "exact",
    "anls",
    "relaxed",
    "contains",
    "contains_formula",
    "letter",
    "iou",
    "iou_50",
    "teds",
    "teds_structure",
]
#: The names of all metrics.
METRICS: tuple[Metric, ...] = get_args(Metric)

MOST_IMAGES = 64
MOST_ANSWERS = 1000
MOST_CHARACTERS = 100_000  # of a text or an answer


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question about pictures, and what is right.

    Args:
        id: Names it in reports; no two of one benchmark have the same.
        text: What is asked.
        images: The pictures: paths, or anything else that `Pipeline` takes for one.
        answers: What is right; more than one are alternatives. Boxes are written as the model writes them,
            `[[x1,y1,x2,y2]]` in thousandths of width and height; tables in HTML or Markdown.
        kind: What sort of question it is; reports give the figures of each kind.
        metric: How answers are judged.

    Raises:
        ParameterError: If a field is of the wrong type, blank, or too large.

    Example:
        >>> Question(id="7", text="What is the total?", images=("receipt.png",), answers=("5.75",)).metric
        'exact'
    """

    id: str
    text: str
    images: tuple[object, ...] = ()
    answers: tuple[str, ...]
    kind: str = ""
    metric: Metric = "exact"

    def __post_init__(self) -> None:
        _check_text("id", self.id, 1000)
        _check_text("text", self.text, MOST_CHARACTERS)
        if self.kind != "":
            _check_text("kind", self.kind, 1000)
        if self.metric not in METRICS:
            _refuse("metric", self.metric, ", ".join(METRICS))
        _check_tuple("images", self.images, 0, MOST_IMAGES)
        _check_tuple("answers", self.answers, 1, MOST_ANSWERS)
        for answer in self.answers:
            _check_text("answers", answer, MOST_CHARACTERS)
            if found := problem(self.metric, answer):
                raise ParameterError("answers", f"are {reprlib.repr(answer)}: {found}")

    @property
    def paths(self) -> tuple[Path, ...]:
        """Those of the pictures that are files."""
        return tuple(Path(image) for image in self.images if isinstance(image, (str, Path)))


def _check_tuple(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, tuple) or not least <= len(value) <= most:
        _refuse(name, value, f"a tuple of {least} to {most}")


def _check_text(name: str, value: object, most: int) -> None:
    if not isinstance(value, str) or not value.strip():
        _refuse(name, value, "a text that is not blank")
    if len(value) > most:
        raise ParameterError(name, f"has {len(value)} characters; allowed: {most}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which no tokenizer takes
            raise ParameterError(name, "holds a character that is none in Unicode") from None


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise ParameterError(name, f"is {reprlib.repr(value)}; allowed: {allowed}")
