"""Blocks in and out → each one free, cached or used: handing out, taking back, listing and evicting."""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable

from glmflash.kv.tree import Block, Key, Node

__all__ = ["Blocks"]


def __dir__() -> list[str]:
    return __all__


class Blocks:
    """All blocks of a pool, and the tree of what they hold.

    Args:
        number: How many there are.
        size: Tokens in one.
        on_evict: Called with the number of each cached block whose content is given up.
    """

    def __init__(self, number: int, size: int, on_evict: Callable[[int], None] | None) -> None:
        self.number = number
        self.size = size
        self.root = Node(None, [])
        self.free = list(range(number))  # a heap
        self.taken: dict[int, Block] = {}  # all that are not free
        # Nodes that no table holds, longest unused first. A table holds a node's ancestors too and lets go
        # of its last block first, so a node stands before its parent: the first one never has children.
        self.cached: OrderedDict[Node, None] = OrderedDict()
        self.high_water = 0
        self.evictions = 0
        self._on_evict = on_evict

    def find(self, keys: list[Key]) -> tuple[list[Block], int]:
        """Blocks that hold the longest prefix of `keys` that is there, and its length."""
        node, path, length = self.root, list[Block](), 0
        while length < len(keys):
            child, shared = node.children.best(keys, length)
            if child is None:
                break
            path.append(child.blocks[0])
            length += shared
            if shared < self.size:
                break
            node = child
        return path, length

    def hold(self, block: Block) -> None:
        """One more table uses the block."""
        block.refs += 1
        if block.refs == 1 and block.node is not None:
            self.cached.pop(block.node, None)

    def release(self, block: Block) -> None:
        """One table fewer uses the block; what only repeats other content is freed, the rest stays cached."""
        block.refs -= 1
        if block.refs:
            return
        node = block.node
        if node is None or not node.listed:
            self._put_back(block)
        elif len(node.blocks) > 1:
            node.blocks.remove(block)
            self._put_back(block)
        elif (other := self._cover(node)) is not None:
            self._unlist(node)
            self._put_back(block)
            if other in self.cached:
                self.cached.move_to_end(other)  # it was used just now, in a way
        else:
            self.cached[node] = None

    def take(self) -> Block:
        """The lowest free block, for one table; there must be one."""
        block = Block(heapq.heappop(self.free))
        block.refs = 1
        self.taken[block.id] = block
        self.high_water = max(self.high_water, block.id + 1)
        return block

    def make_free(self, wanted: int) -> None:
        """Evict until so many blocks are free."""
        while len(self.free) < wanted:
            node, _ = self.cached.popitem(last=False)
            self._unlist(node)
            self.report([self._put_back(node.blocks[0])])

    def append(self, block: Block, keys: list[Key], *, after: Block | None) -> None:
        """The next tokens are in the block; list them, unless what they were computed from went wrong.

        Args:
            block: One that a single table writes to, with room for the keys.
            keys: At least one.
            after: The block before it in that table.
        """
        node = block.node
        if node is None:
            parent = self.root if after is None or after.node is None else after.node
            node = parent.child(block, [])
        parent = node.parent or self.root
        if node.lost or parent.lost:
            node.lost = True
            node.keys += keys
        elif len(node.keys) + len(keys) == self.size:
            self._fill(block, node, parent, keys)
        elif node.listed:
            parent.children.grow(node, keys)
        else:
            node.keys += keys
            self._list(node, parent)

    def sharing(self, node: Node, tokens: int) -> list[Node]:
        """All nodes that hold what this one holds in its first tokens, found by others yet or not."""
        keys = node.keys[:tokens]
        nodes = [block.node for block in self.taken.values() if block.node is not None]
        return [one for one in nodes if one.parent is node.parent and one.keys[:tokens] == keys]

    def forget(self, node: Node) -> list[int]:
        """Make a node and all that follows it unfindable; returns the cached blocks that became free."""
        if node.listed:
            self._unlist(node)
        freed, doomed = list[int](), [node]
        while doomed:
            node = doomed.pop()
            node.lost, node.listed = True, False
            doomed += node.children
            node.children.clear()
            if node in self.cached:
                del self.cached[node]
                freed.append(self._put_back(node.blocks[0]))
        return freed

    def take_over(self, block: Block, tokens: int) -> None:
        """Give up what a block holds beyond its first tokens, so that its only table can go on writing."""
        node = block.node
        assert node is not None
        node.begin(tokens, block)
        if len(node.blocks) > 1:
            node.blocks.remove(block)
        else:
            self.report(self.forget(node))

    def resize(self, number: int) -> None:
        """Change how many there are; no block that goes may be in use."""
        going = [block for block in self.taken.values() if block.id >= number]
        evicted = [one for block in going if block.node is not None for one in self.forget(block.node)]
        self.free = [one for one in self.free if one < number]
        self.free += range(self.number, number)
        heapq.heapify(self.free)
        self.number = number
        self.report(evicted)

    def report(self, evicted: Iterable[int]) -> None:
        """Count evicted blocks and tell of them, once all is in order again."""
        for number in evicted:
            self.evictions += 1
            if self._on_evict is not None:
                self._on_evict(number)

    def _put_back(self, block: Block) -> int:
        block.node = None  # a node knows its blocks, too: a circle
        del self.taken[block.id]
        heapq.heappush(self.free, block.id)
        return block.id

    def _list(self, node: Node, parent: Node) -> None:
        parent.children.add(node)
        node.listed = True

    def _unlist(self, node: Node) -> None:
        assert node.parent is not None
        node.parent.children.remove(node)
        node.listed = False

    def _fill(self, block: Block, node: Node, parent: Node, keys: list[Key]) -> None:
        """List a node that becomes full; if its equal is there, the block joins that one."""
        if node.listed:
            self._unlist(node)
        node.keys += keys
        twin, shared = parent.children.best(node.keys, 0)
        if twin is None or shared < self.size:
            self._list(node, parent)
            return
        block.node = twin
        twin.blocks.append(block)
        if twin in self.cached:  # its own block has no user
            del self.cached[twin]
            self._put_back(twin.blocks.pop(0))

    def _cover(self, node: Node) -> Node | None:
        """Another node that holds all that this one holds; a full one is the only one of its keys."""
        assert node.parent is not None
        return node.parent.children.cover(node) if len(node.keys) < self.size else None
