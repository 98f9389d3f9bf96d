"""The bytes of each token → what grammars ask of a vocabulary: ends, tokens by bytes, all bytes in a row."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from glmflash.grammar.state import Mask

__all__ = ["Vocabulary"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a checkpoint, as grammars see them.

    Args:
        pieces: The bytes of each token by id; nothing for control tokens and unused ids, which no text holds.
        eos: Ids that end an answer.
        encode: Text to ids, for grammars that look ahead.
        controls: Ids of control tokens.

    Example:
        >>> vocabulary = Vocabulary([b"a", b"ab", b""], eos=frozenset([2]))
        >>> vocabulary.ids[b"ab"], vocabulary.ends.tolist()
        ([1], [False, False, True])
    """

    pieces: Sequence[bytes]
    eos: frozenset[int]
    encode: Callable[[str], list[int]] = field(default=lambda _: [], repr=False)
    controls: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def ends(self) -> Mask:
        """The end tokens and no other.

        Shapes:
            -> (vocab_size,)
        """
        return self.mask(self.eos)

    @cached_property
    def ids(self) -> dict[bytes, list[int]]:
        """Tokens by their bytes."""
        found: dict[bytes, list[int]] = {}
        for token_id, piece in enumerate(self.pieces):
            if piece and token_id not in self.eos:
                found.setdefault(piece, []).append(token_id)
        return found

    @cached_property
    def ordered(self) -> list[bytes]:
        """Bytes of the tokens, each once, in order."""
        return sorted(self.ids)

    def begins(self, piece: bytes) -> bool:
        """Whether a token begins with these bytes.

        Example:
            >>> vocabulary = Vocabulary([b"a", b"bcd", b""], eos=frozenset([2]))
            >>> vocabulary.begins(b"bc"), vocabulary.begins(b"ab")
            (True, False)
        """
        place = bisect_left(self.ordered, piece)
        return place < len(self.ordered) and self.ordered[place].startswith(piece)

    @cached_property
    def flat(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """All pieces in a row, and where each begins.

        Shapes:
            -> (bytes,), (vocab_size + 1,)
        """
        starts = np.cumsum([0, *map(len, self.pieces)], dtype=np.int64)
        return np.frombuffer(b"".join(self.pieces), np.uint8), starts

    @cached_property
    def texts(self) -> npt.NDArray[np.int64]:
        """Ids of the tokens that are text."""
        return np.array(sorted(token for ids in self.ids.values() for token in ids), np.int64)

    def mask(self, ids: "Sequence[int] | frozenset[int] | npt.NDArray[np.int64]") -> Mask:
        """These tokens and no other.

        Shapes:
            -> (vocab_size,)
        """
        mask = np.zeros(len(self), np.bool_)
        mask[np.fromiter(ids, np.int64, len(ids))] = True
        mask.setflags(write=False)
        return mask
