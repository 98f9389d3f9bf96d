"""tokenizer.json → text to ids that are never control tokens, control tokens by name, ids back to bytes.

The library's own switch (`encode_special_tokens`) hides only those added tokens that are marked special;
`<think>` and `<tool_call>` are not. So the added tokens are taken out of the file before the library sees
it: from then on there is no spelling of text that encodes to one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeGuard

import tokenizers

from glmflash.confined import Refused, read_plain
from glmflash.errors import CheckpointError, ConfigError, MessageError
from glmflash.fields import parse_json
from glmflash.prompt.rules import check_rules

__all__ = ["Tokenizer", "byte_alphabet"]

_LARGEST = 2**26  # bytes of a file, three times those of the largest published relative
_MAX_ID = 2**24  # far above any vocabulary; a table of this many entries still fits


def __dir__() -> list[str]:
    return __all__


class Tokenizer:
    """A byte-level BPE tokenizer whose control tokens are reached by name only.

    Nothing changes after it is made, so threads may share it.

    Args:
        data: The contents of a tokenizer.json.
        file: Named in errors.

    Raises:
        CheckpointError: If the contents are not a byte-level BPE tokenizer.
    """

    __slots__ = ("_alphabet", "_bpe", "_file", "_names", "_tokens", "controls", "special_ids", "vocab_size")

    controls: Mapping[str, int]
    """Every added token, special or not: name to id."""

    special_ids: frozenset[int]
    """Ids of those that `decode` leaves out."""

    vocab_size: int
    """One more than the largest id; rows of the network beyond it were never trained."""

    def __init__(self, data: Mapping[str, object], *, file: str = "tokenizer.json") -> None:
        self._file = file
        added = _added_tokens(data, file)
        self.controls = MappingProxyType({name: number for name, number, _ in added})
        self.special_ids = frozenset(number for _, number, special in added if special)
        self._names = {number: name for name, number in self.controls.items()}
        model = data.get("model")
        if not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE":
            raise _bad(file, "model is not of type BPE")
        if model.get("dropout"):
            raise _bad(file, "model.dropout is set, so the same text would be other tokens each time")
        if problem := check_rules(data):
            raise _bad(file, problem)
        vocab = _vocab(model.get("vocab"), file)
        # A file may list its added tokens among the ordinary ones too; there they must not be found either.
        vocab = {
            token: number
            for token, number in vocab.items()
            if number not in self._names and token not in self.controls
        }
        self._tokens = {number: token for token, number in vocab.items()}
        self.vocab_size = 1 + max((*self._tokens, *self._names), default=-1)
        self._alphabet = byte_alphabet()
        bare = {**data, "model": {**model, "vocab": vocab}, "added_tokens": []}
        bare |= {"truncation": None, "padding": None, "post_processor": None}
        self._bpe = _load(json.dumps(bare), file)

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.json.

        Raises:
            CheckpointError: If the file is absent or malformed; the message names it.
        """
        try:
            data = parse_json(read_plain(Path(path), most=_LARGEST))
        except (Refused, ValueError) as error:
            raise _bad(str(path), str(error)) from None
        if not isinstance(data, dict):
            raise _bad(str(path), f"holds a {type(data).__name__}, expected an object")
        return cls(data, file=str(path))

    def encode(self, text: str) -> list[int]:
        """Turn text into ids; none of them is ever a control token's.

        Raises:
            MessageError: If the text is not valid Unicode.
            CheckpointError: If the file's own rules fail on the text.
        """
        try:
            return list(self._bpe.encode(text, add_special_tokens=False).ids)
        except BaseException as error:
            if _passes(error):
                raise
            if any("\ud800" <= character <= "\udfff" for character in text):
                problem = "text holds half of a surrogate pair, which is not valid Unicode; remove it"
                raise MessageError(problem) from None
            problem = f"its rules fail on a text of {len(text)} characters ({type(error).__name__})"
            raise _bad(self._file, problem) from None

    def control(self, name: str) -> int:
        """The id of a control token.

        Raises:
            ConfigError: If the checkpoint has no token of that name.
        """
        try:
            return self.controls[name]
        except KeyError:
            raise ConfigError(
                f"{self._file}: there is no control token {name!r}, which the chat template writes"
            ) from None

    def control_name(self, token_id: int) -> str | None:
        """The name of a control token, or None for ordinary and unused ids."""
        return self._names.get(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for: a control token's name, nothing for an unused id."""
        name = self._names.get(token_id)
        if name is not None:
            return name.encode(errors="replace")
        token = self._tokens.get(token_id, "")
        return b"".join(self._alphabet.get(character) or character.encode() for character in token)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Turn ids into text; bytes that are not UTF-8 become the replacement character.

        Args:
            ids: Token ids; unused ones are left out.
            skip_special: Whether to leave out special tokens. Tokens such as `<think>` are not special.
        """
        skip = self.special_ids if skip_special else frozenset()
        return b"".join(self.token_bytes(i) for i in ids if i not in skip).decode(errors="replace")

    def digest(self) -> str:
        """Names the tokenizer: the full SHA-256, in hex, of all that it encodes and decodes with."""
        controls = [[name, number, number in self.special_ids] for name, number in self.controls.items()]
        return hashlib.sha256(json.dumps([controls, self._bpe.to_str()]).encode()).hexdigest()


def _added_tokens(data: Mapping[str, object], file: str) -> list[tuple[str, int, bool]]:
    """Read name, id and the special mark of each added token."""
    entries = data.get("added_tokens") or []
    if not isinstance(entries, list):
        raise _bad(file, "added_tokens is not a list")
    added: list[tuple[str, int, bool]] = []
    for i, entry in enumerate(entries):
        name, number = (entry.get("content"), entry.get("id")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not name or not _is_id(number):
            raise _bad(file, f"added_tokens[{i}] needs a content and an id")
        added.append((name, number, bool(entry.get("special", False))))
    names, numbers = {name for name, _, _ in added}, {number for _, number, _ in added}
    if min(len(names), len(numbers)) < len(added):
        raise _bad(file, "added_tokens has a content or an id twice")
    return added


def _vocab(vocab: object, file: str) -> dict[str, int]:
    if not isinstance(vocab, dict) or not all(map(_is_id, vocab.values())):
        raise _bad(file, f"model.vocab does not map tokens to ids below {_MAX_ID}")
    if len(set(vocab.values())) < len(vocab):
        raise _bad(file, "model.vocab has an id twice")
    return vocab


def _is_id(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _MAX_ID


def _load(text: str, file: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as error:
        if _passes(error):
            raise
        problem = f"{type(error).__name__}: {error}"
        raise _bad(file, f"is not a tokenizer ({problem[:200]})") from None


def _passes(error: BaseException) -> bool:
    """Whether to let an error through. The library's panics are no `Exception`, nor are they interrupts."""
    interrupt = not isinstance(error, Exception) and type(error).__name__ != "PanicException"
    return interrupt or isinstance(error, MemoryError)


def _bad(file: str, problem: str) -> CheckpointError:
    return CheckpointError(f"{file}: {problem}; download the tokenizer.json of the checkpoint again")


def byte_alphabet() -> dict[str, bytes]:
    """Undo the alphabet of byte-level BPE: visible Latin-1 stands for itself, the rest is moved past 255.

    Source: GPT-2's published encoder; tests/test_prompt_tokenizer.py checks all 256.

    Example:
        >>> letters = byte_alphabet()
        >>> letters["a"], letters["Ġ"], len(letters)
        (b'a', b' ', 256)
    """
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    pairs = [*zip(visible, visible, strict=True), *((256 + i, byte) for i, byte in enumerate(hidden))]
    return {chr(code): bytes([byte]) for code, byte in pairs}
