"""Systems and questions → how often each is right, how sure that is, and what it costs."""

from glmflash.evaluate.answer import Answer, read_answer
from glmflash.evaluate.question import METRICS, Metric, Question
from glmflash.evaluate.question_file import read_questions, write_questions
from glmflash.evaluate.readers import read_chartqa, read_docvqa, read_ocrbench
from glmflash.evaluate.score import score
from glmflash.evaluate.tiny_benchmark import tiny_questions

__all__ = [
    "METRICS",
    "Answer",
    "Metric",
    "Question",
    "read_answer",
    "read_chartqa",
    "read_docvqa",
    "read_ocrbench",
    "read_questions",
    "score",
    "tiny_questions",
    "write_questions",
]


def __dir__() -> list[str]:
    return __all__
