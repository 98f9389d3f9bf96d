"""Several texts → a grammar of which one is to be written: their bytes in order, searched token by token."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from glmflash.grammar.state import Mask
from glmflash.grammar.vocabulary import Vocabulary

__all__ = ["Choice"]

#: First and last but one of the texts that are still possible, and how many bytes of them are written.
_Place = tuple[int, int, int]

_KEPT = 256  # places whose tokens are remembered


def __dir__() -> list[str]:
    return __all__


class Choice:
    """One of several texts, byte for byte.

    Texts in order take no more memory than they have bytes; a tree of them takes hundreds of times that.

    Args:
        texts: The texts.
        vocabulary: Its tokens may cut them wherever they like.

    Example:
        >>> vocabulary = Vocabulary([b"y", b"yes", b"no", b"es", b""], eos=frozenset([4]))
        >>> state = Choice(["yes", "no"], vocabulary).start()
        >>> state.mask().nonzero()[0].tolist()
        [0, 1, 2]
        >>> state.accept(0)
        >>> state.mask().nonzero()[0].tolist()
        [3]
    """

    def __init__(self, texts: Sequence[str], vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._texts = sorted({text.encode() for text in texts})
        self._ids: OrderedDict[_Place, list[int]] = OrderedDict()
        self._root = (0, len(self._texts), 0)
        self.mask(self._root)  # which has the most to find, and here nobody waits for it

    def start(self) -> "Chosen":
        """Begin a text."""
        return Chosen(self, self._root)

    def mask(self, place: _Place) -> Mask:
        """Tokens that are a way on from a place, and the ends if a text ends there."""
        ids = self._ids.pop(place, None)
        if ids is None:
            ids = [token for piece in self._pieces(place) for token in self.vocabulary.ids.get(piece, ())]
            ids += self.vocabulary.eos if self.ends(place) else ()
        self._ids[place] = ids
        if len(self._ids) > _KEPT:
            self._ids.popitem(last=False)
        return self.vocabulary.mask(ids)

    def follow(self, place: _Place, token_id: int) -> _Place:
        """Where a token leads that the place's mask has."""
        first, end, depth = place
        begun = self._texts[first][:depth] + self.vocabulary.pieces[token_id]
        first = bisect_left(self._texts, begun, first, end)
        end = bisect_left(self._texts, True, first, end, key=lambda text: text[: len(begun)] != begun)
        return first, end, len(begun)

    def ends(self, place: _Place) -> bool:
        """Whether a text ends at a place: then it is the first of them."""
        first, _, depth = place
        return len(self._texts[first]) == depth

    def _pieces(self, place: _Place) -> set[bytes]:
        """Bytes that go on from a place, as long as a token begins with them."""
        first, end, depth = place
        found: set[bytes] = set()
        for text in self._texts[first:end]:
            for to in range(depth + 1, len(text) + 1):
                piece = text[depth:to]
                if piece not in found and not self.vocabulary.begins(piece):
                    break
                found.add(piece)
        return found


@dataclass(slots=True, eq=False)
class Chosen:
    """How far one text has come."""

    grammar: Choice
    place: _Place
    ended: bool = False

    def mask(self) -> Mask:
        """Which tokens may come next."""
        return self.grammar.vocabulary.ends if self.ended else self.grammar.mask(self.place)

    def accept(self, token_id: int) -> None:
        """The text goes on with this token; after an end token nothing but ends may come."""
        self.ended = self.ended or token_id in self.grammar.vocabulary.eos
        if not self.ended:
            self.place = self.grammar.follow(self.place, token_id)

    @property
    def complete(self) -> bool:
        """Whether a text ends here and none goes on."""
        first, end, _ = self.place
        return self.ended or (end - first == 1 and self.grammar.ends(self.place))
