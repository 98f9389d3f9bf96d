"""The embedded model's own benchmark → its questions, whose pictures travel with the package."""

from pathlib import Path

from glmflash.evaluate.question import Question
from glmflash.evaluate.question_file import read_questions

__all__ = ["tiny_questions"]

_FILE = Path(__file__).parent / "tiny" / "questions.jsonl"


def __dir__() -> list[str]:
    return __all__


def tiny_questions() -> tuple[Question, ...]:
    """144 questions about 36 receipts, screens and bar charts, for `Pipeline.from_pretrained("tiny")`.

    In English and Chinese, none of them seen in training; `kind` is the task: "transcribe", "total", "price",
    "vendor", "corner", "box" or "highest". Boxes are judged by `iou`, everything else by `exact`. Made by
    `examples/tiny/questions.py` of the repository.

    Example:
        >>> questions = tiny_questions()
        >>> len(questions), questions[0].images[0].name
        (144, 'receipt-01.png')
    """
    return read_questions(_FILE)
