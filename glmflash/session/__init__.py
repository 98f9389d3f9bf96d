"""A question → an answer that knows what was said before: a conversation, turn by turn."""

from glmflash.session.history import Turn
from glmflash.session.session import Session
from glmflash.session.stream import SessionStream

__all__ = ["Session", "SessionStream", "Turn"]


def __dir__() -> list[str]:
    return __all__
