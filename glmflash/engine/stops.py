"""Streamed answer text and generated ids → whether to stop here, and the text that is safe to show."""

from collections import deque
from collections.abc import Iterable, Sequence

from glmflash.output.result import Delta

__all__ = ["RepetitionStop", "StopStrings"]


def __dir__() -> list[str]:
    return __all__


class StopStrings:
    """Ends an answer before the first stop string in it, wherever token boundaries fall.

    Text that may still turn out to be the beginning of a stop string waits. The stop string that is complete
    first counts; of several complete with the same character, the longest. Only the answer is searched: not
    the reasoning, and not tool calls, which also end what waits.

    Each stop string is matched by the Knuth-Morris-Pratt automaton, so time is linear in the text.

    Args:
        stops: Strings to stop at, none of them empty.

    Example:
        >>> stops = StopStrings(["END"])
        >>> [stops.push("The E"), stops.push("N"), stops.push("t and EN"), stops.push("D of it")]
        ['The ', '', 'ENt and ', '']
        >>> stops.hit, stops.emitted
        ('END', 12)
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = sorted(set(stops), key=len, reverse=True)
        self._borders = [_borders(stop) for stop in self._stops]
        self._matched = [0] * len(self._stops)  # how much of each stop string the text ends with
        self._waiting = ""
        self.hit: str | None = None
        self.emitted = 0

    def push(self, text: str) -> str:
        """Add text of the answer; returns what can be shown. After a hit that is nothing."""
        if self.hit is not None:
            return ""
        if not self._stops:
            self.emitted += len(text)
            return text
        before = len(self._waiting)
        self._waiting += text
        for index, character in enumerate(text):
            for which, stop in enumerate(self._stops):
                matched = self._advance(which, character)
                if matched == len(stop):
                    self.hit = stop
                    return self._emit(before + index + 1 - matched)
        return self._emit(len(self._waiting) - max(self._matched))

    def flush(self) -> str:
        """End of the answer, or of this part of it: what waited was no stop string."""
        self._matched = [0] * len(self._stops)
        return "" if self.hit is not None else self._emit(len(self._waiting))

    def filter(self, deltas: Sequence[Delta], *, final: bool = False) -> list[Delta]:
        """Pass a parser's deltas through, answers by way of `push`; `final` also flushes.

        After a hit, `emitted` is how many characters of the answer to keep (`StreamParser.truncate`).
        """
        shown: list[Delta] = []
        for delta in deltas:
            if self.hit is not None:
                break
            if delta.channel == "answer":
                text = self.push(delta.text)
                shown += [Delta(text, "answer")] if text else []
            else:
                held = self.flush()
                shown += [Delta(held, "answer"), delta] if held else [delta]
        held = self.flush() if final else ""
        return [*shown, Delta(held, "answer")] if held else shown

    def _advance(self, which: int, character: str) -> int:
        stop, borders, matched = self._stops[which], self._borders[which], self._matched[which]
        while matched and stop[matched] != character:
            matched = borders[matched - 1]
        self._matched[which] = matched = matched + (stop[matched] == character)
        return matched

    def _emit(self, length: int) -> str:
        text, self._waiting = self._waiting[:length], self._waiting[length:]
        self.emitted += length
        return text


def _borders(stop: str) -> list[int]:
    """For each prefix: the length of its longest proper prefix that it also ends with."""
    borders = [0] * len(stop)
    matched = 0
    for index in range(1, len(stop)):
        while matched and stop[index] != stop[matched]:
            matched = borders[matched - 1]
        matched += stop[index] == stop[matched]
        borders[index] = matched
    return borders


class RepetitionStop:
    """Notices that a model is caught in a loop: its last tokens are one pattern over and over.

    It stops once the tail consists of a pattern of `period` tokens, repeated at least `repeats` times and
    covering at least `tokens` tokens, for any period up to `max_period`. Eight rows of an empty table are
    no loop; 128 dots are.

    Args:
        tokens: Fewest tokens that the repetition covers.
        repeats: Fewest times that the pattern occurs.
        max_period: Longest pattern looked for, in tokens.

    Example:
        >>> loop = RepetitionStop(16)
        >>> [loop.push(token) for token in [5, *[1, 2] * 8]].index(True)
        16
    """

    def __init__(self, tokens: int, *, repeats: int = 8, max_period: int = 64) -> None:
        self._needed = [max(tokens, repeats * period) - period for period in range(max_period + 1)]
        self._max_period = max_period
        self._count = 0
        self._places: dict[int, deque[int]] = {}  # of each token, where it stood in the last `max_period`
        self._runs: dict[int, int] = {}  # period -> how many of the last tokens equal the one a period before

    def push(self, token_id: int) -> bool:
        """Add a token; returns whether the text is in a loop now."""
        here, self._count = self._count, self._count + 1
        places = self._places.setdefault(token_id, deque(maxlen=self._max_period))
        while places and here - places[0] > self._max_period:
            places.popleft()
        runs = {here - place: self._runs.get(here - place, 0) + 1 for place in places}
        self._runs = runs  # a period that this token broke is gone
        places.append(here)
        return any(run >= self._needed[period] for period, run in runs.items())
