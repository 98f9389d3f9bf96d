"""Systems and questions → how often each is right, how sure that is, and what it costs."""

from glmflash.evaluate.answer import Answer, read_answer

__all__ = ["Answer", "read_answer"]


def __dir__() -> list[str]:
    return __all__
