"""A question and what a system said → how right it is, 0 to 1, by the question's metric."""

from collections.abc import Callable

from glmflash.evaluate.answer import Answer, read_answer
from glmflash.evaluate.metrics import anls, contains, contains_formula, exact, letter, relaxed
from glmflash.evaluate.overlap import boxes_found, boxes_overlap
from glmflash.evaluate.question import Metric, Question
from glmflash.evaluate.teds import teds, teds_structure
from glmflash.output.boxes import parse_boxes

__all__ = ["score"]

_OF_TEXT: dict[Metric, Callable[[str, str], float]] = {
    "exact": exact,
    "anls": anls,
    "relaxed": relaxed,
    "contains": contains,
    "contains_formula": contains_formula,
    "letter": letter,
    "teds": teds,
    "teds_structure": teds_structure,
}


def __dir__() -> list[str]:
    return __all__


def score(question: Question, answer: Answer | str) -> float:
    """How right an answer is: the best of what its metric gives for each of the right answers.

    Args:
        question: Says what is right, and how that is judged.
        answer: What a system said. Boxes are compared in thousandths of the picture.

    Example:
        >>> question = Question(id="a", text="The shop?", answers=("Corner Cafe", "Cafe"), metric="anls")
        >>> score(question, "The Corner Cafe")  # 4 of 15 letters too many
        0.7333333333333334
    """
    said = read_answer(answer)
    if question.metric in ("iou", "iou_50"):
        compare = boxes_overlap if question.metric == "iou" else boxes_found
        return max(compare(said.boxes, parse_boxes(right, size=(1000, 1000))) for right in question.answers)
    metric = _OF_TEXT[question.metric]
    return max(metric(said.text, right) for right in question.answers)
