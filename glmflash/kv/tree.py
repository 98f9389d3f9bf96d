"""Keys of the blocks in the cache → the block that shares most with a prompt: a tree, compared key by key.

root ── Node [a b c d] ── Node [e f g h]          a node is content: keys, after all that came before
                      └── Node [e f x]            its blocks are the places where that content lies
"""

from collections.abc import Hashable, Iterator

__all__ = ["Block", "Key", "Level", "Node"]

Key = Hashable


def __dir__() -> list[str]:
    return __all__


class Block:
    """A physical block that is not free: who uses it, and what it holds.

    Args:
        id: Its number in the store.
    """

    __slots__ = ("id", "node", "pins", "refs")

    def __init__(self, id: int) -> None:  # noqa: A002  # the name that its users read
        self.id = id
        self.refs = 0  # tables that hold it
        self.pins = 0  # pinned tables among them
        self.node: Node | None = None  # nothing committed yet


class Node:
    """Content of one block: the keys of its tokens, computed from all that its ancestors hold.

    Only a full node has children, and no two full siblings have the same keys. A sequence that computes
    what is there already adds its block to that node's blocks.

    Args:
        parent: The node of the block before; None for the root.
        keys: Those committed so far.
    """

    __slots__ = ("blocks", "children", "keys", "listed", "lost", "parent")

    def __init__(self, parent: "Node | None", keys: list[Key]) -> None:
        self.parent = parent
        self.keys = keys
        self.blocks: list[Block] = []
        self.children = Level()
        self.listed = False  # among its parent's children, where prompts find it
        self.lost = False  # never to be found again

    def child(self, block: Block, keys: list[Key]) -> "Node":
        """A node after this one, whose content lies in the block; not listed yet."""
        node = Node(self, keys)
        node.blocks.append(block)
        block.node = node
        return node

    def begin(self, tokens: int, block: Block) -> None:
        """Let the block hold the beginning of this node, as a node of its own; not listed yet."""
        assert self.parent is not None
        self.parent.child(block, self.keys[:tokens]).lost = self.lost


class Level:
    """Nodes that share their first keys, by the key that comes next.

    Prompts begin alike, so siblings do too; a search takes one step per key however many there are. A
    node sits as high as it can: levels are made only as deep as two siblings agree.
    """

    __slots__ = ("ends", "next")

    def __init__(self) -> None:
        self.next: dict[Key, Node | Level] = {}
        self.ends: list[Node] = []  # nodes without a next key

    def __iter__(self) -> Iterator[Node]:
        """All nodes; those that end first come first."""
        ways: list[Iterator[Node | Level]] = [iter((self,))]
        while ways:
            here = next(ways[-1], None)
            if here is None:
                ways.pop()
            elif isinstance(here, Node):
                yield here
            else:
                yield from here.ends
                ways.append(iter(here.next.values()))

    def clear(self) -> None:
        """Let go of all nodes."""
        self.next.clear()
        self.ends.clear()

    def best(self, keys: list[Key], start: int) -> tuple[Node | None, int]:
        """The node that shares most with `keys[start:]`, and how many keys they share."""
        level = self
        for index in range(start, len(keys)):
            below = level.next.get(keys[index])
            if isinstance(below, Node):
                return below, _common(below.keys, keys, start)
            if below is None:
                return (next(iter(level)), index - start) if index > start else (None, 0)
            level = below
        return next(iter(level), None), len(keys) - start

    def add(self, node: Node, depth: int = 0) -> None:
        """Put a node in, whose first `depth` keys lead here."""
        level = self
        while depth < len(node.keys):
            key = node.keys[depth]
            below = level.next.setdefault(key, node)
            if below is node:
                return
            depth += 1
            if isinstance(below, Node):
                level.next[key] = deeper = Level()
                deeper.add(below, depth)
                below = deeper
            level = below
        level.ends.append(node)

    def grow(self, node: Node, keys: list[Key]) -> None:
        """Append keys to a node that is here."""
        depth = len(node.keys)
        level = self._where(node)
        node.keys += keys
        if level is not None:
            level.ends.remove(node)
            level.add(node, depth)

    def remove(self, node: Node) -> None:
        """Take a node out, with the levels that it alone needed."""
        level, path = self, []
        for key in node.keys:
            path.append((level, key))
            below = level.next[key]
            if isinstance(below, Node):
                break
            level = below
        else:
            level.ends.remove(node)
        for above, key in reversed(path):
            below = above.next[key]
            if isinstance(below, Level) and (below.next or below.ends):
                return
            del above.next[key]

    def cover(self, node: Node) -> Node | None:
        """Another node that holds all that this one holds."""
        level = self._where(node)
        return next((other for other in level if other is not node), None) if level is not None else None

    def _where(self, node: Node) -> "Level | None":
        """The level at which the node ends; None if it sits higher, so that no other holds all its keys."""
        level = self
        for key in node.keys:
            below = level.next[key]
            if isinstance(below, Node):
                return None
            level = below
        return level


def _common(held: list[Key], keys: list[Key], start: int) -> int:
    """How many keys `held` and `keys[start:]` share at their beginnings."""
    given = keys[start : start + len(held)]
    if given == held:
        return len(held)
    for count, (one, other) in enumerate(zip(held, given, strict=False)):
        if one != other:
            return count
    return len(given)
