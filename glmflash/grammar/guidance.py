"""JSON schemas and regular expressions → grammars, by llguidance: the one place that imports it."""

import importlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from glmflash.errors import ParameterError
from glmflash.grammar.state import Mask
from glmflash.grammar.vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher

__all__ = ["Guidance", "Matched", "check"]

#: Between two parts of a JSON text. Without an end, a model can indent for ever.
_BLANK = r"[\x20\x0A\x0D\x09]{1,32}"


def __dir__() -> list[str]:
    return __all__


def check(kind: str, rule: str) -> None:
    """Pass if the library can enforce a schema or an expression.

    Raises:
        ParameterError: If it cannot, with its reason; or if it is not installed.
    """
    library = _library()
    with _refusing("cannot be enforced"):
        grammar, limits = _grammar(library, kind, rule), _limits(library, kind, rule)
        failed, said = library.LLMatcher.validate_grammar_with_warnings(grammar, limits=limits)
        if failed:
            raise ValueError(said[0])


class Guidance:
    """Grammars of one vocabulary, made by the library. Its view of the vocabulary takes a second to make.

    Args:
        vocabulary: Of the checkpoint.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._library = _library()
        with _refusing("met a vocabulary that the grammar library does not take"):
            self._tokens = self._library.LLTokenizer(
                self._library.TokenizerWrapper(_Tokens(vocabulary)), n_vocab=len(vocabulary)
            )

    def compile(self, kind: str, rule: str) -> "Matched":
        """Make a grammar.

        Raises:
            ParameterError: If the library gives up.
        """
        with _refusing("cannot be enforced"):
            grammar = _grammar(self._library, kind, rule)
            limits = _limits(self._library, kind, rule)
            matcher = self._library.LLMatcher(self._tokens, grammar, log_level=0, limits=limits)
            return Matched(matcher, vocabulary=self._vocabulary)


class Matched:
    """A grammar, and how far one text has come in it.

    Args:
        matcher: The library's.
        vocabulary: It was made for.

    Raises:
        ParameterError: If the matcher has failed; as `mask` and `accept` do.
    """

    def __init__(self, matcher: "LLMatcher", *, vocabulary: Vocabulary) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._ended = False
        self._lock = threading.Lock()  # of `start`: readers share a grammar
        self._check()

    def start(self) -> "Matched":
        """Begin a text."""
        with self._lock, _refusing("failed"):
            return Matched(self._matcher.deep_copy(), vocabulary=self._vocabulary)

    def mask(self) -> Mask:
        """Which tokens may come next.

        Shapes:
            -> (vocab_size,) bool
        """
        size = len(self._vocabulary)
        if self._ended:
            return self._vocabulary.ends
        words = np.zeros(-(-size // 32), np.uint32)  # anew: a mask may outlive the next one
        with _refusing("failed"):
            self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        self._check()
        mask = np.unpackbits(words.astype("<u4", copy=False).view(np.uint8), count=size, bitorder="little")
        allowed: Mask = mask.view(np.bool_)
        with _refusing("failed"):  # the library knows one end token; others are as good
            allowed[list(self._vocabulary.eos)] = self._matcher.is_accepting()
        return allowed

    def accept(self, token_id: int) -> None:
        """The text goes on with this token."""
        if token_id in self._vocabulary.eos:
            self._ended = True
            return
        with _refusing("failed"):
            self._matcher.consume_token(token_id)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            with _refusing("failed"):
                raise ValueError(self._matcher.get_error())


class _Tokens:
    """A vocabulary as the library's wrapper wants it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = min(vocabulary.eos)
        self.bos_token_id = None
        self.tokens = [piece or f"<{i}>".encode() for i, piece in enumerate(vocabulary.pieces)]
        self.special_token_ids = [i for i, piece in enumerate(vocabulary.pieces) if not piece]
        self._encode = vocabulary.encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def _library() -> Any:  # noqa: ANN401 - a module that need not be there
    try:
        return importlib.import_module("llguidance")
    except ImportError:
        raise ParameterError(
            "response_format",
            "JSON schemas and regular expressions need llguidance: pip install 'glmflash[grammar]'"
            ' ({"type": "json_object"} and choices work without it)',
        ) from None


def _grammar(library: Any, kind: str, rule: str) -> str:  # noqa: ANN401 - see above
    matcher = library.LLMatcher
    if kind == "regex":
        return str(matcher.grammar_from_regex(rule))
    # A schema may hold options of the library; these are not its to choose, or the text would be no JSON.
    overrides = {"whitespace_pattern": _BLANK, "item_separator": ",", "key_separator": ":"}
    return str(matcher.grammar_from_json_schema(json.loads(rule), overrides=overrides))


def _limits(library: Any, kind: str, rule: str) -> Any:  # noqa: ANN401 - see above
    """What the library may spend: masks are made between the steps of all requests, which wait meanwhile.

    An expression such as `(a{1000}){1000}` would take ten seconds. A list of ten thousand values takes a
    large part of the library's own limit when it is read, and nothing later.
    """
    has_expression = kind == "regex" or '"pattern' in rule
    return library.LLParserLimits(
        initial_lexer_fuel=50_000 if has_expression else 1_000_000, max_lexer_states=50_000
    )


@contextmanager
def _refusing(problem: str) -> Iterator[None]:
    """Whatever the library raises, its panics too, is an error of the response format, in a line."""
    try:
        yield
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if isinstance(error, (ParameterError, MemoryError)) or not (isinstance(error, Exception) or panic):
            raise
        said = _reason(str(error))
        raise ParameterError(
            "response_format",
            f"{problem} ({said or type(error).__name__}); simplify the schema or expression",
        ) from None


def _reason(said: str) -> str:
    """The line that says what is wrong; around it the library draws pictures and dumps its state."""
    lines = said.strip().splitlines()
    return next((line for line in lines if line.startswith("error:")), lines[0] if lines else "")[:200]
