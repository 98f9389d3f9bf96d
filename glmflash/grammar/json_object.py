"""Any JSON object → a grammar: a pushdown automaton over bytes, walked by all tokens of a vocabulary at once.

What a token does depends on the mode, and for few tokens also on what is open: those that close more than
they open. So the walk of each mode is done once, and only those few are walked again where they stand.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glmflash.grammar.json_tables import (
    ACTIONS,
    AFTER_COMMA,
    CLOSED_BY,
    COMMA,
    DEAD,
    DONE,
    MODES,
    NEXT,
    OPEN_ARRAY,
    OPEN_OBJECT,
    POP,
    SPENT,
)
from glmflash.grammar.state import Mask
from glmflash.grammar.vocabulary import Vocabulary

__all__ = ["JsonObject"]

_Ids = npt.NDArray[np.int64]

#: Bytes of blank space in a row, or of digits, before something else has to come: neither runs on for ever.
_RUN = 32
#: Objects and arrays in one another; a token may open as many again, and 64 bits hold them all.
_DEPTH = 30
_KEPT = 512  # masks, packed
_NEXT, _ACTIONS = NEXT.tolist(), ACTIONS.tolist()
_START = MODES.index("start")
_CLOSES = np.array([CLOSED_BY.get(byte, 0) for byte in range(256)], np.int64)


def __dir__() -> list[str]:
    return __all__


class JsonObject:
    """JSON whose outermost value is an object.

    Args:
        vocabulary: Of the checkpoint.

    Example:
        >>> vocabulary = Vocabulary([b'{"', b"}", b'a":', b" 1}", b"", b"]"], eos=frozenset([4]))
        >>> state = JsonObject(vocabulary).start()
        >>> for token_id in (0, 2):
        ...     state.accept(token_id)
        >>> state.mask().nonzero()[0].tolist()
        [0, 3]
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        flat, starts = vocabulary.flat
        self._first = np.zeros(len(vocabulary), np.uint8)
        self._first[vocabulary.texts] = flat[starts[vocabulary.texts]]
        # All of them now, on the thread that makes grammars: that of the model should not stop for it.
        self._modes = [
            self._walk(mode, 0, 0, most=_DEPTH, below=mode != _START) for mode in range(len(MODES))
        ]
        self._masks: OrderedDict[tuple[int, int, int], npt.NDArray[np.uint8]] = OrderedDict()

    def start(self) -> "Written":
        """Begin a text."""
        return Written(self)

    def mask(self, state: "Written") -> Mask:
        """Which tokens may come next.

        Shapes:
            -> (vocab_size,) bool
        """
        if state.mode == DONE:
            return self.vocabulary.ends
        place = (state.mode, state.stack, state.depth)
        packed = self._masks.get(place)
        if packed is None:
            packed = np.packbits(self.vocabulary.mask(self._ids(*place)))
            self._masks[place] = packed
            if len(self._masks) > _KEPT:
                self._masks.popitem(last=False)
        mask: Mask = np.unpackbits(packed, count=len(self.vocabulary)).view(np.bool_)
        return mask & ~SPENT[state.mode][self._first] if state.run >= _RUN else mask

    def _ids(self, mode: int, stack: int, depth: int) -> _Ids:
        if depth >= _DEPTH:
            return self._walk(mode, stack, depth, most=depth)[0]
        sure, depends = self._modes[mode]
        return np.concatenate((sure, self._walk(mode, stack, depth, most=depth + _DEPTH, ids=depends)[0]))

    def _walk(
        self,
        mode: int,
        stack: int,
        depth: int,
        *,
        most: int,
        ids: _Ids | None = None,
        below: bool = False,
    ) -> tuple[_Ids, _Ids]:
        """Tokens that can be read from here, and those for which that depends on what is open below.

        Args:
            mode: Where they begin.
            stack: What is open, a bit each, the innermost lowest.
            depth: How much is open.
            most: How much may be.
            ids: Tokens to try; all by default.
            below: Whether more is open than `stack` says.
        """
        flat, starts = self.vocabulary.flat
        if ids is None:
            texts = self.vocabulary.texts
            ids = texts[NEXT[mode][self._first[texts]] != DEAD]
        at, ends = starts[ids], starts[ids + 1]
        modes = np.full(len(ids), mode, np.int64)
        stacks, depths = np.full(len(ids), stack, np.int64), np.full(len(ids), depth, np.int64)
        read: list[_Ids] = []
        depends: list[_Ids] = []
        while len(ids):
            bytes_ = flat[at]
            actions, after = ACTIONS[modes, bytes_], NEXT[modes, bytes_].astype(np.int64)
            hot = np.flatnonzero(actions)
            if len(hot):
                unknown = self._act(
                    actions[hot], bytes_[hot], hot, after, stacks, depths, most=most, below=below
                )
                depends.append(ids[unknown])
            alive = after != DEAD
            at = at + 1
            whole = at == ends
            read.append(ids[alive & whole])
            going = alive & ~whole
            ids, at, ends = ids[going], at[going], ends[going]
            modes, stacks, depths = after[going], stacks[going], depths[going]
        return np.concatenate([ids, *read]), np.concatenate([ids, *depends])

    @staticmethod
    def _act(
        actions: npt.NDArray[np.int8],
        bytes_: npt.NDArray[np.uint8],
        hot: _Ids,
        after: _Ids,
        stacks: _Ids,
        depths: _Ids,
        *,
        most: int,
        below: bool,
    ) -> _Ids:
        """Open, close and go on after commas, in place; returns those for which it matters what is below."""
        stack, depth, leads = stacks[hot], depths[hot], after[hot]
        unknown = (actions >= POP) & (depth == 0)
        opens, closes, commas = (
            (actions == OPEN_OBJECT) | (actions == OPEN_ARRAY),
            actions == POP,
            actions == COMMA,
        )
        dies = unknown | (opens & (depth >= most)) | (closes & (stack & 1 != _CLOSES[bytes_]))
        leads = np.where(commas, np.where(stack & 1, AFTER_COMMA[1], AFTER_COMMA[0]), leads)
        stacks[hot] = np.where(opens, stack << 1 | (actions == OPEN_OBJECT), stack >> closes)
        depths[hot] = depth = depth + opens - closes
        if not below:
            leads[closes & (depth == 0)] = DONE
        after[hot] = np.where(dies, DEAD, leads)
        return hot[unknown] if below else hot[:0]


@dataclass(slots=True, eq=False)
class Written:
    """How far one object is written.

    Args:
        grammar: Its grammar.
        mode: See `json_tables`.
        stack: What is open, a bit each: 1 for an object; the innermost lowest.
        depth: How much is open.
        run: Bytes in a row that may not go on for ever.
    """

    grammar: JsonObject
    mode: int = _START
    stack: int = 0
    depth: int = 0
    run: int = 0

    def mask(self) -> Mask:
        """Which tokens may come next."""
        return self.grammar.mask(self)

    def accept(self, token_id: int) -> None:
        """The text goes on with this token."""
        for byte in self.grammar.vocabulary.pieces[token_id]:
            action, after = _ACTIONS[self.mode][byte], _NEXT[self.mode][byte]
            self.run = self.run + 1 if SPENT[self.mode, byte] else 0
            if action == COMMA:
                after = AFTER_COMMA[self.stack & 1]
            elif action == POP:
                self.stack, self.depth = self.stack >> 1, self.depth - 1
                after = after if self.depth else DONE
            elif action:
                self.stack, self.depth = self.stack << 1 | (action == OPEN_OBJECT), self.depth + 1
            self.mode = after
