"""The syntax of JSON → tables: in each mode, which mode a byte leads to and what it does to what is open.

A mode is where a text stands within the innermost thing that is open: before a key, inside a string, three
hexadecimal digits of an escape yet to come. Strings hold valid UTF-8, and no escaped halves of surrogates.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = [
    "ACTIONS",
    "AFTER_COMMA",
    "CLOSED_BY",
    "COMMA",
    "DEAD",
    "DONE",
    "MODES",
    "NEXT",
    "OPEN_ARRAY",
    "OPEN_OBJECT",
    "POP",
    "SPENT",
]


def __dir__() -> list[str]:
    return __all__


_STRING = "string escape hex4 hex3 hex2 hex1 surrogate rest1 rest2 rest3 e0 ed f0 f4".split()
_LITERALS = ("true", "false", "null")
_NUMBER = "minus zero whole dot fraction e e_sign exponent".split()
#: Names of the modes; their numbers are their places.
MODES = (
    *"dead start done value first_item first_key key colon after".split(),
    *(f"{kind}_{mode}" for kind in ("key", "value") for mode in _STRING),
    *_NUMBER,
    *(word[:length] for word in _LITERALS for length in range(1, len(word))),
)
_AT = {name: number for number, name in enumerate(MODES)}
DEAD, DONE = _AT["dead"], _AT["done"]

#: What a byte does beside leading to a mode: opens something, closes what is open, or separates its items.
OPEN_OBJECT, OPEN_ARRAY, POP, COMMA = 1, 2, 3, 4
CLOSED_BY = {ord("}"): 1, ord("]"): 0}  # what has to be open: 1 is an object

#: (modes, 256): where a byte leads; and what it does. A POP says by its byte what it closes.
NEXT: npt.NDArray[np.int8] = np.zeros((len(MODES), 256), np.int8)
ACTIONS: npt.NDArray[np.int8] = np.zeros((len(MODES), 256), np.int8)

_BLANK, _DIGITS, _HEX = b" \t\n\r", b"0123456789", b"0123456789abcdefABCDEF"
_ENDING = ("zero", "whole", "fraction", "exponent")  # modes in which a number is whole


def _lead(mode: str, bytes_: Iterable[int], to: str, action: int = 0) -> None:
    for byte in bytes_:
        NEXT[_AT[mode], byte] = _AT[to]
        ACTIONS[_AT[mode], byte] = action


def _values() -> None:
    """Where a value may begin, what begins one, and what may follow one."""
    _lead("start", b"{", "first_key", OPEN_OBJECT)
    for mode in ("value", "first_item"):
        _lead(mode, _BLANK, mode)
        _lead(mode, b"{", "first_key", OPEN_OBJECT)
        _lead(mode, b"[", "first_item", OPEN_ARRAY)
        _lead(mode, b'"', "value_string")
        _lead(mode, b"-", "minus")
        _lead(mode, b"0", "zero")
        _lead(mode, b"123456789", "whole")
        for word in _LITERALS:
            _lead(mode, word[:1].encode(), word[:1])
    for mode in ("first_key", "key"):
        _lead(mode, _BLANK, mode)
        _lead(mode, b'"', "key_string")
    _lead("colon", _BLANK, "colon")
    _lead("colon", b":", "value")
    _lead("first_key", b"}", "after", POP)
    _lead("first_item", b"]", "after", POP)
    for mode in ("after", *_ENDING):
        _lead(mode, _BLANK, "after")
        _lead(mode, b"}]", "after", POP)
        _lead(mode, b",", "after", COMMA)  # on to a key or a value


def _scalars() -> None:
    for word in _LITERALS:
        for length in range(1, len(word)):
            _lead(
                word[:length],
                word[length].encode(),
                word[: length + 1] if length + 1 < len(word) else "after",
            )
    _lead("minus", b"0", "zero")
    _lead("minus", b"123456789", "whole")
    for mode in ("whole", "fraction", "exponent"):
        _lead(mode, _DIGITS, mode)
    for mode in ("zero", "whole"):
        _lead(mode, b".", "dot")
    for mode in ("zero", "whole", "fraction"):
        _lead(mode, b"eE", "e")
    _lead("dot", _DIGITS, "fraction")
    _lead("e", b"+-", "e_sign")
    for mode in ("e", "e_sign"):
        _lead(mode, _DIGITS, "exponent")


def _strings(kind: str, then: str) -> None:
    def lead(mode: str, bytes_: Iterable[int], to: str) -> None:
        _lead(f"{kind}_{mode}", bytes_, to if to == then else f"{kind}_{to}")

    lead("string", range(0x20, 0x80), "string")
    lead("string", b'"', then)
    lead("string", b"\\", "escape")
    lead("escape", b'"\\/bfnrt', "string")
    lead("escape", b"u", "hex4")
    lead("hex4", _HEX, "hex3")
    lead("hex4", b"dD", "surrogate")
    lead("surrogate", b"01234567", "hex2")
    for mode, after in (("hex3", "hex2"), ("hex2", "hex1"), ("hex1", "string")):
        lead(mode, _HEX, after)
    lead("string", range(0xC2, 0xE0), "rest1")
    lead("string", range(0xE1, 0xF0), "rest2")
    lead("string", range(0xF1, 0xF4), "rest3")
    for byte, mode in ((0xE0, "e0"), (0xED, "ed"), (0xF0, "f0"), (0xF4, "f4")):
        lead("string", [byte], mode)
    for mode, low, high, after in (
        ("rest1", 0x80, 0xC0, "string"), ("rest2", 0x80, 0xC0, "rest1"), ("rest3", 0x80, 0xC0, "rest2"),
        ("e0", 0xA0, 0xC0, "rest1"), ("ed", 0x80, 0xA0, "rest1"),
        ("f0", 0x90, 0xC0, "rest2"), ("f4", 0x80, 0x90, "rest2"),
    ):  # fmt: skip
        lead(mode, range(low, high), after)


_values()
_scalars()
_strings("key", "colon")
_strings("value", "after")
NEXT.setflags(write=False)
ACTIONS.setflags(write=False)

#: Modes after which a comma of an object and of an array goes on: to a key, to a value.
AFTER_COMMA = (_AT["value"], _AT["key"])
#: For each mode, bytes that go on with what may not go on for ever: blank space, and digits of a number.
SPENT: npt.NDArray[np.bool_] = np.zeros((len(MODES), 256), np.bool_)
for _mode in ("value", "first_item", "first_key", "key", "colon", "after"):
    SPENT[_AT[_mode], list(_BLANK)] = True
for _mode in _ENDING:
    SPENT[_AT[_mode], list(_DIGITS + b".eE")] = True
SPENT.setflags(write=False)
