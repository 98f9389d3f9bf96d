"""A request, its prompt, and who answers it → one key: equal only for what must be answered alike."""

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral
from operator import index

import torch

from glmflash.engine.inputs import Inputs
from glmflash.engine.request import Request
from glmflash.engine.sampling import Sampling
from glmflash.model.glm import Glm4v
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.version import __version__

__all__ = ["answerer", "canonical", "question_key", "repeatable"]

_FORMAT = 1  # of the key; a change makes all answers kept before unfindable

# What cannot change an answer, or is said otherwise. Any field that is not here counts, also a new one.
_LEFT_OUT = {
    "messages",  # the prompt's ids
    "pictures",  # their digests, which cover max_image_tokens
    "max_image_tokens",
    "sampling",  # its own fields
    "priority",
    "timeout",
    "logits_processors",  # there are none
    "max_new_tokens",  # the room that there is
}
_OF_CHANCE = {"temperature", "top_k", "top_p", "min_p", "seed"}  # nothing to a greedy request


def __dir__() -> list[str]:
    return __all__


def repeatable(sampling: Sampling) -> bool:
    """Whether the same request would be answered with the same tokens again."""
    return not sampling.logits_processors and (sampling.greedy or sampling.seed is not None)


def answerer(
    model: Glm4v, tokenizer: Tokenizer, *, fingerprint: Callable[[], str], eos: frozenset[int], kv_dtype: str
) -> bytes:
    """Who answers: weights, dtypes, quantisation and kernels by their fingerprint, and all else that counts.

    Args:
        model: The network.
        tokenizer: Its ids become text, and text ids.
        fingerprint: Gives that of weights and preprocessing; see `weights.fingerprint`.
        eos: Tokens that end an answer.
        kv_dtype: As in `Settings`.
    """
    software = [_FORMAT, __version__, torch.__version__]
    network = [fingerprint(), str(model.dtype), model.device.type, kv_dtype]
    return canonical([software, network, tokenizer.digest(), sorted(eos)])


def question_key(request: Request, inputs: Inputs, *, room: int, answerer: bytes) -> str:
    """The full SHA-256, in hex, of everything that an answer depends on.

    Args:
        request: What was asked.
        inputs: Its prompt and pictures.
        room: Most tokens that the answer can have.
        answerer: As `answerer` gives it.

    Raises:
        TypeError: If a tool holds what no JSON has; such a request has no key.
    """
    sampling = request.sampling
    chosen = _values(sampling, _LEFT_OUT | (_OF_CHANCE if sampling.greedy else set()))
    pictures = [(one.digest, one.grid, one.size) for one in inputs.pictures]
    spans = [(span.start, span.length) for span in inputs.prompt.spans]
    ids = struct.pack(f">{len(inputs.prompt)}q", *inputs.prompt.ids)
    parts = (answerer, ids, spans, pictures, room, chosen, _values(request, _LEFT_OUT))
    return hashlib.sha256(canonical(parts)).hexdigest()


def canonical(value: object) -> bytes:
    """A plain value as bytes that no other value has: each part says what it is, and how long.

    Lists and tuples are alike, and so are dataclasses and mappings of their fields in order.

    Raises:
        TypeError: If a part is not plain.

    Example:
        >>> canonical(["1", 1, True, None])
        b'l4:s1:1i1:1TN'
    """
    match value:
        case None:
            return b"N"
        case bool():
            return b"T" if value else b"F"
        case Integral():
            return _sized(b"i", b"%d" % index(value))
        case float():
            return b"f" + struct.pack(">d", value)
        case str():
            return _sized(b"s", value.encode(errors="surrogatepass"))
        case bytes():
            return _sized(b"b", value)
        case list() | tuple():
            return b"l%d:" % len(value) + b"".join(map(canonical, value))
        case Mapping():
            parts = (canonical(key) + canonical(item) for key, item in value.items())
            return b"m%d:" % len(value) + b"".join(parts)
        case _ if is_dataclass(value):
            return canonical(_values(value, set()))
    raise TypeError(f"a {type(value).__name__} has no canonical bytes")


def _values(value: object, without: set[str]) -> dict[str, object]:
    assert is_dataclass(value)
    return {one.name: getattr(value, one.name) for one in fields(value) if one.name not in without}


def _sized(kind: bytes, data: bytes) -> bytes:
    return kind + b"%d:" % len(data) + data
