"""Pictures and types, or things to find → typed values with confidences, and boxes."""

from glmflash.structured.extract import extract
from glmflash.structured.extraction import Extraction, Field
from glmflash.structured.locate import locate

__all__ = ["Extraction", "Field", "extract", "locate"]


def __dir__() -> list[str]:
    return __all__
