"""What a rule for texts becomes for one vocabulary: a way to begin, and which token may come next."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Grammar", "Mask", "State"]

Mask = npt.NDArray[np.bool_]


def __dir__() -> list[str]:
    return __all__


class State(Protocol):
    """How far one text has come."""

    def mask(self) -> Mask:
        """Which tokens may come next; end tokens once the text may end. Do not write to it.

        Shapes:
            -> (vocab_size,) bool
        """

    def accept(self, token_id: int) -> None:
        """The text goes on with this token, which the mask allowed."""


class Grammar(Protocol):
    """A rule, made for one vocabulary. Threads may share it."""

    def start(self) -> State:
        """Begin a text."""
