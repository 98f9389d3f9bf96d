"""A JSON object → typed values, or one `ConfigError` that names the file and the field."""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from glmflash.confined import Refused, read_plain, tidy
from glmflash.errors import ConfigError

__all__ = ["Fields", "parse_json", "read_json"]

# Of all lists and objects, and of their entries: three times those of the largest published tokenizer.
_MOST_LISTS, _MOST_ENTRIES = 1_500_000, 6_000_000
_LARGEST = 2**22  # bytes of a file: thirty times what the longest index of a published relative has


def __dir__() -> list[str]:
    return __all__


class Fields:
    """Typed reads from one JSON object; an absent key and a null are the same.

    Args:
        data: The object.
        where: File and section, for messages.
        fallback: The object to look into for keys that `data` lacks.
    """

    def __init__(
        self, data: Mapping[str, object], where: str, fallback: Mapping[str, object] | None = None
    ) -> None:
        self._data, self._where, self._fallback = data, where, fallback or {}

    def _get(self, key: str) -> object:
        value = self._data.get(key)
        return self._fallback.get(key) if value is None else value

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self._get(key) is not None

    def refuse(self, key: str, value: object, allowed: str) -> NoReturn:
        """Raise the one error of this class."""
        shown = "missing" if value is None else reprlib.repr(value)
        raise ConfigError(f"{self._where}: {key} is {shown}; allowed: {allowed}")

    def expect(self, key: str, *allowed: object) -> None:
        """Refuse any value but these; an absent key is fine."""
        if self.has(key) and self._get(key) not in allowed:
            self.refuse(key, self._get(key), " or ".join(map(str, allowed)))

    def section(self, key: str, *, fallback: bool = False) -> "Fields":
        """The object under a key; with `fallback`, keys that it lacks are read from this one."""
        value = self._get(key)
        if value is None and fallback:
            value = {}
        if not isinstance(value, Mapping):
            self.refuse(key, value, "an object")
        return Fields(value, f"{self._where}: {tidy(key, 80)}", self._data if fallback else None)

    def rope(self) -> "Fields":
        """Rope settings: nested in `rope_parameters`, or (old files) split over `rope_scaling` and here."""
        name = "rope_scaling" if self._get("rope_parameters") is None else "rope_parameters"
        nested = self._get(name) or {}
        if not isinstance(nested, Mapping):
            self.refuse(name, nested, "an object")
        parent = {key: value for key, value in self._data.items() if value is not None}
        aliased = {**self._fallback, **parent, "rope_type": nested.get("type")}
        return Fields(nested, f"{self._where}: {name}", aliased)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(key, value, "a number")
        if not abs(value) < 1e300:  # also true for NaN and for integers that no float can hold
            self.refuse(key, value, "a finite number")
        return float(value)

    def positive_number(self, key: str, default: float | None = None) -> float:
        """A finite number above zero."""
        number = self.number(key, default)
        if number <= 0:
            self.refuse(key, number, "a number above 0")
        return number

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number; true and false are none."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(key, value, "a whole number")
        return value

    def positive(self, key: str, default: int | None = None, *, limit: int = 2**31 - 1) -> int:
        """A whole number from 1 to `limit`; `[14, 14]` means 14."""
        value = self._get(key)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            return Fields({key: value[0]}, self._where).positive(key, limit=limit)
        number = self.integer(key, default)
        if not 0 < number <= limit:
            self.refuse(key, number, f"a whole number from 1 to {limit}")
        return number

    def token_id(self, key: str, vocab_size: int) -> int:
        """The id of a token of the vocabulary."""
        number = self.integer(key)
        if not 0 <= number < vocab_size:
            self.refuse(key, number, f"an id below vocab_size {vocab_size}")
        return number

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(key, value, "true or false")
        return bool(value)

    def string(self, key: str) -> str:
        """A string."""
        value = self._get(key)
        if not isinstance(value, str):
            self.refuse(key, value, "a string")
        return str(value)

    def integers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Whole numbers; one alone means a list of one."""
        value = self._get(key)
        if value is None:
            return default
        values = value if isinstance(value, list) else [value]
        return tuple(Fields({key: item}, self._where).integer(key) for item in values)

    def triple(self, key: str) -> tuple[float, float, float]:
        """Three numbers, one a colour channel."""
        value = self._get(key)
        if not isinstance(value, list) or len(value) != 3:
            self.refuse(key, value, "a list of three numbers")
        one, two, three = (Fields({key: item}, self._where).number(key) for item in value)
        return one, two, three


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object from a file of a checkpoint.

    Raises:
        ConfigError: If it is absent, no plain file of its folder, too large, not JSON, holds a key twice, or
            does not hold an object.
    """
    try:
        data = parse_json(read_plain(path, most=_LARGEST))
    except (Refused, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds a {type(data).__name__}, expected an object")
    return data


def parse_json(content: bytes) -> object:
    """Parse JSON in which each object has a key once; else one reader takes the first, another the last.

    Raises:
        ValueError: That says what is wrong, in few words.

    Example:
        >>> parse_json(b'{"a": 1, "a": 2}')
        Traceback (most recent call last):
        ValueError: 'a' stands twice in one object
    """
    # Counted before they are made: empty ones take twenty times their file, and minutes.
    if content.count(b"[") + content.count(b"{") > _MOST_LISTS or content.count(b",") > _MOST_ENTRIES:
        raise ValueError("has more lists, objects or entries than any such file needs")
    try:
        return json.loads(content, object_pairs_hook=_once)
    except _TwiceError as error:
        raise ValueError(f"{error} stands twice in one object") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({type(error).__name__})") from None


class _TwiceError(ValueError):
    """A key stands twice."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    data = dict(pairs)
    if len(data) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # None
        raise _TwiceError(f"{twice!r:.80}")
    return data
