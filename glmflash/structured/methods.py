"""What a pipeline takes from here as methods of its own: choose, extract, locate."""

from glmflash.structured.choose import choose
from glmflash.structured.extract import extract
from glmflash.structured.locate import locate

__all__ = ["choose", "extract", "locate"]


def __dir__() -> list[str]:
    return __all__
