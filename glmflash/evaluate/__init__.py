"""Systems and questions → how often each is right, how sure that is, and what it costs."""

from glmflash.evaluate.answer import Answer, read_answer
from glmflash.evaluate.question import METRICS, Metric, Question
from glmflash.evaluate.question_file import read_questions, write_questions

__all__ = [
    "METRICS",
    "Answer",
    "Metric",
    "Question",
    "read_answer",
    "read_questions",
    "write_questions",
]


def __dir__() -> list[str]:
    return __all__
