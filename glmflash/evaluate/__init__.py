"""Systems and questions → how often each is right, how sure that is, and what it costs."""

from glmflash.evaluate.answer import Answer
from glmflash.evaluate.conditions import Conditions
from glmflash.evaluate.gate import Judged, Verdict, gate
from glmflash.evaluate.memory import Memory
from glmflash.evaluate.question import Question
from glmflash.evaluate.report import Report
from glmflash.evaluate.row import Row
from glmflash.evaluate.run import run
from glmflash.evaluate.statistics import Interval
from glmflash.evaluate.summary import Asked, Summary
from glmflash.evaluate.systems import Asking, System, asking

__all__ = [
    "Answer",
    "Asked",
    "Asking",
    "Conditions",
    "Interval",
    "Judged",
    "Memory",
    "Question",
    "Report",
    "Row",
    "Summary",
    "System",
    "Verdict",
    "asking",
    "gate",
    "run",
]


def __dir__() -> list[str]:
    return __all__
