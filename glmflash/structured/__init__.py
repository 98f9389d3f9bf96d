"""A question and the shape of its answer → the answer as a value."""

from glmflash.structured.choose import Choices

__all__ = ["Choices"]


def __dir__() -> list[str]:
    return __all__
