"""Response formats → grammars for one vocabulary, each made once: the texts of all requests share them."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from glmflash.grammar.choice import Choice
from glmflash.grammar.format import ResponseFormat
from glmflash.grammar.guidance import Guidance
from glmflash.grammar.json_object import JsonObject
from glmflash.grammar.state import Grammar
from glmflash.grammar.vocabulary import Vocabulary

__all__ = ["Compiler"]


def __dir__() -> list[str]:
    return __all__


class Compiler:
    """Makes grammars, and keeps those used last. Threads may share it.

    Args:
        vocabulary: Of the checkpoint.
        keep: Most grammars kept.
        characters: Most characters of the rules of all that are kept, except the newest.

    Example:
        >>> compiler = Compiler(Vocabulary([b"yes", b"no", b""], eos=frozenset([2])))
        >>> compiler(ResponseFormat("choice", ("yes", "no"))).start().mask().tolist()
        [True, True, False]
    """

    def __init__(self, vocabulary: Vocabulary, *, keep: int = 64, characters: int = 2_000_000) -> None:
        self._vocabulary = vocabulary
        self._keep, self._characters = keep, characters
        self._made: OrderedDict[ResponseFormat, Grammar] = OrderedDict()
        self._guidance: Guidance | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._made)

    def __call__(self, form: ResponseFormat) -> Grammar:
        """The grammar of a format.

        Raises:
            ParameterError: If the grammar library gives up on it, or is not there.
        """
        with self._lock:
            grammar = self._made.pop(form, None) or self._make(form)
            self._made[form] = grammar
            while len(self._made) > self._keep or (self._size() > self._characters and len(self._made) > 1):
                self._made.popitem(last=False)
            return grammar

    def _size(self) -> int:
        """Characters of all rules: what a grammar takes grows with its rule."""
        return sum(
            len(form.rule) if isinstance(form.rule, str) else sum(map(len, form.rule)) for form in self._made
        )

    def _make(self, form: ResponseFormat) -> Grammar:
        if form.kind == "json_object":
            return JsonObject(self._vocabulary)
        if form.kind == "choice":
            choices: Sequence[str] = form.rule
            return Choice(choices, self._vocabulary)
        if self._guidance is None:
            self._guidance = Guidance(self._vocabulary)
        assert isinstance(form.rule, str)
        return self._guidance.compile(form.kind, form.rule)
