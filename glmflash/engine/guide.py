"""What an answer has to be, and the tokens so far → which token may come next: thinking, calls, the text.

An answer has up to three parts: reasoning from `<think>` to `</think>`, newlines that belong to the marker,
and what was asked for: a tool call, a text of some format, or anything. A guide follows it through them.
"""

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from glmflash.engine.request import Request
from glmflash.errors import ParameterError
from glmflash.grammar.choice import Choice, Chosen
from glmflash.grammar.compile import Compiler
from glmflash.grammar.state import Mask, State
from glmflash.grammar.vocabulary import Vocabulary
from glmflash.prompt.template import TemplateStyle
from glmflash.prompt.tokenizer import Tokenizer

__all__ = ["Guide", "Guides", "Markers"]

_GAP = 2  # most tokens of newlines between `</think>` and what follows


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Markers:
    """Ids of tokens that part an answer.

    Args:
        think: Opens the reasoning.
        end_think: Closes it.
        call: Opens a tool call.
        end_call: Closes it.
        answer: Opens the text in checkpoints that mark it, like GLM-4.1V.
        newlines: Tokens of nothing but newlines.
        eos: Tokens that end an answer.
        size: Entries of the vocabulary.
    """

    think: int | None
    end_think: int | None
    call: int | None
    end_call: int | None
    answer: int | None
    newlines: frozenset[int]
    eos: frozenset[int]
    size: int

    def only(self, token_id: int | None) -> Mask:
        """That token and no other."""
        mask = np.zeros(self.size, np.bool_)
        mask[token_id] = True
        return mask

    def without_ends(self) -> Mask:
        """Anything that does not end the answer."""
        mask = np.ones(self.size, np.bool_)
        mask[list(self.eos)] = False
        return mask


class Guide:
    """One answer on its way through its parts.

    Args:
        markers: Of the checkpoint.
        thinking: Whether it begins with reasoning; "auto": if the model opens it.
        budget: Most tokens of reasoning.
        text: What the text has to be; None: anything.
        names: What a call that has to come may begin with; None: none has to.
    """

    def __init__(
        self,
        markers: Markers,
        *,
        thinking: bool | Literal["auto"],
        budget: int | None = None,
        text: State | None = None,
        names: Chosen | None = None,
    ) -> None:
        self._markers = markers
        self._forced = thinking is True
        self._budget = budget
        self._text = text
        self._names = names
        self._free = text is None and names is None
        self._spent = 0
        self._gap = _GAP  # no newlines but behind a marker
        self.part: Literal["opening", "thinking", "gap", "name", "call", "text", "free"]
        self.part = "opening" if thinking else "gap"

    def mask(self) -> Mask | None:
        """Which tokens may come next; None: all.

        Shapes:
            -> (vocab_size,) bool
        """
        match self.part:
            case "opening":
                return self._opening()
            case "thinking":
                if self._budget is not None and self._spent >= self._budget:
                    return self._markers.only(self._markers.end_think)
                return None if self._free else self._markers.without_ends()
            case "gap":
                return self._after_gap()
            case "name":
                return None if self._names is None else self._names.mask()
            case "call":
                return self._markers.without_ends()
            case "text":
                return None if self._text is None else self._text.mask()
        return None

    def accept(self, token_id: int) -> None:
        """The answer goes on with this token."""
        match self.part:
            case "opening":
                self._open(token_id)
            case "thinking" if token_id == self._markers.end_think:
                self.part, self._gap = "gap", 0
            case "thinking":
                self._spent += 1
            case "gap" if token_id in self._markers.newlines and self._gap < _GAP:
                self._gap += 1
            case "gap" if token_id != self._markers.answer:
                self._begin(token_id)
            case "name" if self._names is not None:
                self._names.accept(token_id)
                self.part = "call" if self._names.complete else "name"
            case "call" if token_id == self._markers.end_call:
                self.part = "free"
            case "text" if self._text is not None:
                self._text.accept(token_id)

    def _opening(self) -> Mask | None:
        if self._forced:
            return self._markers.only(self._markers.think)
        first = self._first()
        if first is not None and self._markers.think is not None:
            first = first | self._markers.only(self._markers.think)
        return first

    def _after_gap(self) -> Mask | None:
        first = self._first()
        if first is None or self._gap == _GAP:
            return first
        first = first.copy()
        first[
            [*self._markers.newlines, *([] if self._markers.answer is None else [self._markers.answer])]
        ] = True
        return first

    def _first(self) -> Mask | None:
        """What may begin the part behind the reasoning."""
        if self._names is not None:
            return self._markers.only(self._markers.call)
        return None if self._text is None else self._text.mask()

    def _open(self, token_id: int) -> None:
        if token_id == self._markers.think:
            self.part = "thinking"
        elif not self._free or token_id not in self._markers.newlines:  # newlines may stand before `<think>`
            self._begin(token_id)

    def _begin(self, token_id: int) -> None:
        if self._names is not None:
            self.part = "name"
        elif self._text is not None:
            self.part = "text"
            self._text.accept(token_id)
        else:
            self.part = "free"


class Guides:
    """Makes the guide of each request, on a reader's thread; what all share is made once, when it is needed.

    Args:
        tokenizer: Of the checkpoint.
        eos: Tokens that end an answer.
    """

    def __init__(self, tokenizer: Tokenizer, eos: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._eos = eos
        self._switch = TemplateStyle.of(tokenizer.controls).switch
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Guide | None:
        """The guide of a request, or None if its answer may be anything.

        Raises:
            ParameterError: If the format cannot be enforced, or the answer prefix does not begin such a text.
        """
        thinking = request.thinking if self._switch else request.thinking or "auto"
        text, names = self._text(request), self._names(request)
        if (
            request.thinking is not True
            and request.thinking_budget is None
            and text is None
            and names is None
        ):
            return None
        return Guide(self.markers, thinking=thinking, budget=request.thinking_budget, text=text, names=names)

    @cached_property
    def markers(self) -> Markers:
        """Tokens that part an answer."""
        find = self._tokenizer.controls.get
        newlines = [self._tokenizer.encode("\n" * count) for count in (1, 2)]
        return Markers(
            think=find("<think>"),
            end_think=find("</think>"),
            call=find("<tool_call>"),
            end_call=find("</tool_call>"),
            answer=None if self._switch else find("<answer>"),
            newlines=frozenset(ids[0] for ids in newlines if len(ids) == 1),
            eos=self._eos,
            size=self._tokenizer.vocab_size,
        )

    def _text(self, request: Request) -> State | None:
        if request.response_format is None:
            return None
        with self._lock:
            compiler = self._compiler
        state = compiler(request.response_format).start()
        for token_id in self._tokenizer.encode(request.answer_prefix):
            if not state.mask()[token_id]:
                raise ParameterError(
                    "answer_prefix", "is not how a text of this response_format begins; change either"
                )
            state.accept(token_id)
        return state

    def _names(self, request: Request) -> Chosen | None:
        if not request.must_call:
            return None
        with self._lock:
            vocabulary = self._vocabulary
        return Choice([f"{name}\n" for name in request.must_call], vocabulary).start()

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        tokenizer = self._tokenizer
        controls = frozenset(tokenizer.controls.values())
        pieces = [b"" if i in controls else tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        return Vocabulary(pieces, eos=self._eos, encode=tokenizer.encode)

    @cached_property
    def _compiler(self) -> Compiler:
        return Compiler(self._vocabulary)
