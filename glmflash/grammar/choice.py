"""Several texts → a grammar of which one is to be written: a trie of their bytes, walked token by token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from glmflash.grammar.state import Mask
from glmflash.grammar.vocabulary import Vocabulary

__all__ = ["Choice"]


def __dir__() -> list[str]:
    return __all__


@dataclass(slots=True, eq=False)
class _Node:
    """All texts that go on from here."""

    next: "dict[int, _Node]" = field(default_factory=dict)
    last: bool = False  # a text ends here
    ids: Sequence[int] | None = None  # tokens that are a way on; found when they are first needed


class Choice:
    """One of several texts, byte for byte.

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
        self._vocabulary = vocabulary
        self._longest = max(map(len, vocabulary.ids), default=0)
        self._root = _Node()
        for text in texts:
            node = self._root
            for byte in text.encode():
                node = node.next.setdefault(byte, _Node())
            node.last = True
        self.mask(self._root)  # which has the most to find, and here nobody waits for it

    def start(self) -> "Chosen":
        """Begin a text."""
        return Chosen(self, self._root)

    def mask(self, node: _Node) -> Mask:
        """Tokens that are a way on from a node, and the ends if a text ends there."""
        if node.ids is None:
            ids = [token for piece in self._pieces(node) for token in self._vocabulary.ids.get(piece, ())]
            node.ids = [*ids, *(self._vocabulary.eos if node.last else ())]
        return self._vocabulary.mask(node.ids)

    def follow(self, node: _Node, token_id: int) -> _Node:
        """Where a token leads that the node's mask has."""
        for byte in self._vocabulary.pieces[token_id]:
            node = node.next[byte]
        return node

    def _pieces(self, node: _Node) -> Iterator[bytes]:
        """All bytes that go on from a node, as long as tokens can be."""
        ways = [(b"", node)]
        while ways:
            piece, node = ways.pop()
            for byte, after in node.next.items():
                way = piece + bytes([byte])
                yield way
                if len(way) < self._longest:
                    ways.append((way, after))


@dataclass(slots=True, eq=False)
class Chosen:
    """How far one text has come."""

    grammar: Choice
    node: _Node

    def mask(self) -> Mask:
        """Which tokens may come next."""
        return self.grammar.mask(self.node)

    def accept(self, token_id: int) -> None:
        """The text goes on with this token; after an end token nothing but ends may come."""
        ended = token_id in self.grammar._vocabulary.eos
        self.node = _Node(last=True) if ended else self.grammar.follow(self.node, token_id)

    @property
    def complete(self) -> bool:
        """Whether a text ends here and none goes on."""
        return self.node.last and not self.node.next
