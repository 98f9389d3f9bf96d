"""A question and the shape of its answer → the answer as a value."""

from glmflash.structured.choose import Choices
from glmflash.structured.extraction import Extraction, Field

__all__ = ["Choices", "Extraction", "Field"]


def __dir__() -> list[str]:
    return __all__
