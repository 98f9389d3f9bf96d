"""Systems and questions → how often each is right, how sure that is, and what it costs."""

from glmflash.evaluate.answer import Answer, read_answer
from glmflash.evaluate.conditions import Conditions
from glmflash.evaluate.gate import Judged, Verdict, gate
from glmflash.evaluate.memory import Memory
from glmflash.evaluate.question import METRICS, Metric, Question
from glmflash.evaluate.question_file import read_questions, write_questions
from glmflash.evaluate.readers import read_chartqa, read_docvqa, read_ocrbench
from glmflash.evaluate.report import Report
from glmflash.evaluate.row import Row
from glmflash.evaluate.run import run
from glmflash.evaluate.score import score
from glmflash.evaluate.statistics import Interval
from glmflash.evaluate.summary import Asked, Summary
from glmflash.evaluate.systems import Asking, System, asking
from glmflash.evaluate.tiny_benchmark import tiny_questions

__all__ = [
    "METRICS",
    "Answer",
    "Asked",
    "Asking",
    "Conditions",
    "Interval",
    "Judged",
    "Memory",
    "Metric",
    "Question",
    "Report",
    "Row",
    "Summary",
    "System",
    "Verdict",
    "asking",
    "gate",
    "read_answer",
    "read_chartqa",
    "read_docvqa",
    "read_ocrbench",
    "read_questions",
    "run",
    "score",
    "tiny_questions",
    "write_questions",
]


def __dir__() -> list[str]:
    return __all__
