"""An answer → JSON with a checksum, and back; of any byte that is not as it was written nothing is read.

No part of it says what to import or to call: numbers and a word are all that can come out.
"""

import hashlib
import json
from typing import NoReturn

from glmflash.engine.recorded import Recorded
from glmflash.engine.sampler import Sampled
from glmflash.output.result import TokenLogprob

__all__ = ["MOST_BYTES", "read", "write"]

#: Bytes of one answer: more than any has. What is larger is neither written nor read.
MOST_BYTES = 16 * 2**20

_FORMAT = 1
_FIELDS = {"format", "key", "made", "finish_reason", "ids", "logprobs"}
_HEAD, _MIDDLE, _TAIL = b'{"sha256":"', b'","answer":', b"}"


def __dir__() -> list[str]:
    return __all__


def write(answer: Recorded, *, key: str, made: float) -> bytes:
    """An answer as bytes.

    Args:
        answer: What to write.
        key: Of its question, which is written too.
        made: When, in seconds since 1970.

    Raises:
        ValueError: If it is too large, or a log-probability is no finite number.
    """
    logprobs = [one.logprob for one in answer.tokens]
    fields = {
        "format": _FORMAT,
        "key": key,
        "made": made,
        "finish_reason": answer.finish_reason,
        "ids": [one.token_id for one in answer.tokens],
        "logprobs": None if None in logprobs else [[one.logprob, one.top] for one in logprobs if one],
    }
    body = json.dumps(fields, allow_nan=False, separators=(",", ":")).encode()
    data = _HEAD + _checksum(body) + _MIDDLE + body + _TAIL
    if len(data) > MOST_BYTES:
        raise ValueError(f"an answer of {len(data)} bytes")
    return data


def read(data: bytes, *, key: str) -> tuple[Recorded, float]:
    """What `write` made bytes of: the answer, and when that was.

    Raises:
        ValueError: If it is anything else, or the answer to another question.

    Example:
        >>> answer = Recorded((Sampled(7), Sampled(2)), "stop")
        >>> data = write(answer, key="0f", made=1.5)
        >>> read(data, key="0f") == (answer, 1.5)
        True
        >>> read(data.replace(b"[7,", b"[8,"), key="0f")
        Traceback (most recent call last):
        ValueError: no answer
    """
    body = _body(data)
    try:
        fields = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        fields = None
    match fields:
        case {
            "format": int(version),
            "key": str(found),
            "made": float(made),
            "finish_reason": "stop" | "length" | "repetition" as reason,
            "ids": list(ids),
            "logprobs": list() | None as logprobs,
        } if (type(version), version, found, fields.keys()) == (int, _FORMAT, key, _FIELDS):
            if not all(map(_is_id, ids)):
                _refuse()
            return Recorded(_tokens(ids, logprobs), reason), made
    return _refuse()


def _body(data: object) -> bytes:
    """The part that means something, if it is what the checksum was made of, to the last byte."""
    if not isinstance(data, bytes) or len(data) > MOST_BYTES:
        _refuse()
    start = len(_HEAD) + 64 + len(_MIDDLE)
    body = data[start : -len(_TAIL)]
    if data != _HEAD + _checksum(body) + _MIDDLE + body + _TAIL:
        _refuse()
    return body


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _tokens(ids: list[int], logprobs: list[object] | None) -> tuple[Sampled, ...]:
    if logprobs is None:
        return tuple(map(Sampled, ids))
    if len(logprobs) != len(ids):
        _refuse()
    return tuple(Sampled(one, _logprob(one, told)) for one, told in zip(ids, logprobs, strict=True))


def _logprob(token_id: int, told: object) -> TokenLogprob:
    match told:
        case [float(logprob), list(top)]:
            return TokenLogprob(token_id, logprob, tuple(map(_pair, top)))
    return _refuse()


def _pair(told: object) -> tuple[int, float]:
    match told:
        case [int(other), float(logprob)] if _is_id(other):
            return other, logprob
    return _refuse()


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _refuse(_: str = "") -> NoReturn:
    raise ValueError("no answer")
