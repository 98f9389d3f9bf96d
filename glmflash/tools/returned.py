"""What a function returned, or raised → the content of a tool message: text, JSON, pictures."""

import json
import re
from dataclasses import asdict, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from uuid import UUID

from glmflash.engine.encoded import EncodedImage
from glmflash.media.read import is_picture

__all__ = ["content", "explain"]

_TEXTUAL = (PurePath, UUID, Decimal, timedelta)
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}")
_MOST = 1000  # characters of an exception that the model is told


def __dir__() -> list[str]:
    return __all__


def content(value: object) -> str | list[dict[str, object]]:
    """Write a value so that the model can read it.

    Text stays text, a picture becomes a picture, everything else JSON. A list or tuple that holds a picture
    becomes parts, in order. A string is never taken for the path of a picture.

    Raises:
        TypeError: If there is no JSON for it.

    Example:
        >>> content({"city": "Köln", "degrees": 21.5})
        '{"city": "Köln", "degrees": 21.5}'
    """
    if _is_picture(value):
        return [_part(value)]
    if isinstance(value, (list, tuple)) and any(map(_is_picture, value)):
        return [_part(one) for one in value]
    return _text(value)


def explain(error: Exception) -> str:
    """An exception in a line for the model: what it says, without traceback and memory addresses.

    Example:
        >>> explain(ValueError("no such city"))
        'error: ValueError: no such city'
    """
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - its own code
        said = ""
    said = _ADDRESS.sub("0x…", _clean(said))
    said = said if len(said) <= _MOST else said[: _MOST - 1] + "…"
    return f"error: {type(error).__name__}" + (f": {said}" if said else "")


def _is_picture(value: object) -> bool:
    return isinstance(value, EncodedImage) or is_picture(value)


def _part(value: object) -> dict[str, object]:
    if _is_picture(value):
        return {"type": "image", "image": value}
    return {"type": "text", "text": _text(value)}


def _text(value: object) -> str:
    return _clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain))


def _clean(text: str) -> str:
    """Halves of surrogate pairs, which no tokenizer takes, become question marks."""
    return text.encode(errors="replace").decode()


def _plain(value: object) -> object:
    """What JSON can spell, in place of what it cannot."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, _TEXTUAL):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    to_list = getattr(value, "tolist", None)  # of arrays, tensors and their numbers
    if callable(to_list):
        return to_list()
    raise TypeError(f"a tool returned a {type(value).__name__}; allowed: text, pictures, and what JSON holds")
