"""A question and the shape of its answer → the answer as a value."""

from glmflash.structured.choose import Choices
from glmflash.structured.extract import extract
from glmflash.structured.extraction import Extraction, Field
from glmflash.structured.locate import locate

__all__ = ["Choices", "Extraction", "Field", "extract", "locate"]


def __dir__() -> list[str]:
    return __all__
