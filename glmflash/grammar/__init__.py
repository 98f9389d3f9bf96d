"""A rule for texts and the bytes of each token → which token may come next."""

from glmflash.grammar.format import ResponseFormat
from glmflash.grammar.state import Grammar, State
from glmflash.grammar.vocabulary import Vocabulary

__all__ = ["Grammar", "ResponseFormat", "State", "Vocabulary"]


def __dir__() -> list[str]:
    return __all__
