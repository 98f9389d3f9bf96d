"""OpenAI-shaped requests → OpenAI-shaped answers, chunks and errors, in process: no server, no network."""

from glmflash.openai.create import acreate, create
from glmflash.openai.errors import error_body

__all__ = ["acreate", "create", "error_body"]


def __dir__() -> list[str]:
    return __all__
