"""The tokens of an answer, with their probabilities → how likely each piece of its text was."""

import math
from dataclasses import dataclass

from glmflash.output.result import Result, TokenLogprob
from glmflash.prompt.tokenizer import Tokenizer

__all__ = ["Spelling", "spell"]

_BOXES = ("<|begin_of_box|>", "<|end_of_box|>")
_REVERSIBLE = "surrogateescape"  # half a character at the end is a text too, of as many bytes


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Spelling:
    """An answer as the tokens spell it.

    Args:
        text: What they spell, without control tokens.
        ends: Byte of the text at which each token ends; a control token has no bytes.
        logprobs: Log-probability of each, box markers aside.
        marked: Characters of `text` that the model set between box markers, as (start, end).
    """

    text: str
    ends: tuple[int, ...]
    logprobs: tuple[float, ...]
    marked: tuple[tuple[int, int], ...] = ()

    def probability(self, start: int, end: int) -> float | None:
        """How likely the characters from `start` to `end` were, and that they end there.

        It is the product over the tokens that hold any of them, and the next one: a digit more would be
        another number, so the token that is no such digit counts, be it text or the end of the answer.

        Returns:
            0..1; None if no token spells them.
        """
        first, last = self._byte(start), self._byte(end)
        begins = (0, *self.ends)
        holding = [n for n, to in enumerate(self.ends) if begins[n] < last and to > first and first < last]
        if not holding:
            return None
        counted = self.logprobs[holding[0] : holding[-1] + 2]
        return math.exp(min(0.0, sum(counted)))

    def _byte(self, place: int) -> int:
        return len(self.text[:place].encode(errors=_REVERSIBLE))


def spell(result: Result, tokenizer: Tokenizer) -> Spelling:
    """Lay an answer's tokens out, those behind the reasoning.

    Args:
        result: Answered with `logprobs`, a few of the best ones too.
        tokenizer: Whose tokens they are.
    """
    assert result.logprobs is not None
    names = [tokenizer.control_name(one) for one in result.token_ids]
    begin = 1 + max((place for place, name in enumerate(names) if name == "</think>"), default=-1)
    data, ends, opened = b"", [], -1
    marked: list[tuple[int, int]] = []
    for token_id, name in zip(result.token_ids[begin:], names[begin:], strict=True):
        if name is None:
            data += tokenizer.token_bytes(token_id)
        elif name == "<|begin_of_box|>":
            opened = len(data)
        elif name == "<|end_of_box|>" and opened >= 0:
            marked.append((opened, len(data)))
            opened = -1
        ends.append(len(data))
    return Spelling(
        text=_decode(data),
        ends=tuple(ends),
        logprobs=tuple(_words(one, tokenizer) for one in result.logprobs[begin:]),
        marked=tuple((len(_decode(data[:start])), len(_decode(data[:end]))) for start, end in marked),
    )


def _words(one: TokenLogprob, tokenizer: Tokenizer) -> float:
    """A token's log-probability, box markers aside: a constraint forbids them, and they say nothing."""
    others = (math.exp(logprob) for token_id, logprob in one.top if token_id != one.token_id
              and tokenizer.control_name(token_id) in _BOXES)  # fmt: skip
    return min(0.0, one.logprob - math.log(max(1 - sum(others), 1e-9)))


def _decode(data: bytes) -> str:
    return data.decode(errors=_REVERSIBLE)
