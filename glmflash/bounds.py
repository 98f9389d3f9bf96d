"""Chats, tools and schemas as given → nothing, or the error of what is too large for any prompt.

Everything here is counted before it is copied, written as JSON or encoded, so a refusal costs a walk over at
most `MAX_VALUES` values, however large, deep or tangled what was given is.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from glmflash.errors import ContextLengthError, MessageError

__all__ = ["CHARACTERS_PER_TOKEN", "MAX_CHARACTERS", "MAX_DEPTH", "MAX_VALUES", "check_chat", "check_tree"]

MAX_CHARACTERS = 2_000_000
"""Characters of all text; 16 for each token of the longest published context."""

MAX_VALUES = 100_000
"""Entries of all lists and objects: a message with a text is three."""

MAX_DEPTH = 100
"""Lists and objects within each other."""

CHARACTERS_PER_TOKEN = 16
"""Only runs of blanks or dashes have more. It bounds the work for a text that will not fit."""


def __dir__() -> list[str]:
    return __all__


def check_chat(messages: Sequence[object]) -> None:
    """Count the messages of a chat, and what stands in them; pictures are counted, not looked at.

    Raises:
        ContextLengthError: If there are too many values or characters.
        MessageError: If something is nested too deep.

    Example:
        >>> check_chat([{"role": "user", "content": "Hi" * MAX_CHARACTERS}])
        Traceback (most recent call last):
        glmflash.errors.ContextLengthError: messages has more than 2,000,000 characters, ...
    """
    room = _take(_ALL, "messages", values=len(messages))
    for message in messages:
        for key, value in message.items() if isinstance(message, Mapping) else ():
            room = _take(room, "messages", values=1)
            if key == "content" and isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
                room = _parts(value, room)
            else:
                room = _tree(value, "messages", room)


def check_tree(value: object, what: str) -> None:
    """Count a value of lists and objects, such as tools or a JSON schema.

    Args:
        value: Of any shape; one that holds itself is too deep.
        what: Its name for errors.

    Raises:
        ContextLengthError: If there are too many values or characters.
        MessageError: If it is nested too deep.
    """
    _tree(value, what, _ALL)


class _Room(NamedTuple):
    """What may still come."""

    values: int
    characters: int


_ALL = _Room(MAX_VALUES, MAX_CHARACTERS)


def _take(room: _Room, what: str, *, values: int = 0, characters: int = 0) -> _Room:
    left = _Room(room.values - values, room.characters - characters)
    if min(left) < 0:
        limit = f"{MAX_VALUES:,} values" if left.values < 0 else f"{MAX_CHARACTERS:,} characters"
        raise ContextLengthError(f"{what} has more than {limit}, which no prompt holds; shorten it")
    return left


def _parts(parts: Sequence[object], room: _Room) -> _Room:
    room = _take(room, "messages", values=len(parts))
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else None
        room = _take(room, "messages", values=1, characters=len(text) if isinstance(text, str) else 0)
    return room


def _tree(value: object, what: str, room: _Room) -> _Room:
    values, characters = room
    layer = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for one in layer:
            if isinstance(one, str):
                characters -= len(one)
            elif isinstance(one, (list, tuple)):
                values -= len(one)
                below += one if values >= 0 else ()
            elif isinstance(one, Mapping):
                values -= len(one)
                below += (inner for pair in one.items() for inner in pair) if values >= 0 else ()
        room = _take(_Room(values, characters), what)
        if not below:
            return room
        layer = below
    raise MessageError(f"{what} is nested deeper than {MAX_DEPTH}, or holds itself; flatten it")
