"""What was said in a session → HTML for a notebook: who said what, with pictures as thumbnails."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from glmflash.engine.encoded import EncodedImage
from glmflash.markup import block, box, image, note
from glmflash.media.patches import ClipPatches, Patches
from glmflash.media.pixels import thumbnail
from glmflash.session.history import Turn

__all__ = ["to_html"]

_SIDE = 160  # most pixels of a thumbnail on the page
_FRAMES = 6  # most of them for a clip
_COLOURS = {"user": "#1b73e8", "assistant": "#137333"}


def __dir__() -> list[str]:
    return __all__


def to_html(opening: Iterable[Mapping[str, object]], turns: Sequence[Turn]) -> str:
    """The conversation from its beginning; everything said is escaped.

    Args:
        opening: Messages before the first turn.
        turns: Questions and their answers.
    """
    parts = [_said(message) for message in opening]
    for turn in turns:
        parts += [_said(message) for message in turn.question]
        parts.append(_row("assistant", turn.result._repr_html_()))
    return box(*parts) if parts else box(note("nothing was said yet"))


def _said(message: Mapping[str, object]) -> str:
    content = message.get("content")
    pieces = content if isinstance(content, list) else [content or ""]
    calls = message.get("tool_calls")
    spelled = [_call(call.get("function", call)) for call in calls] if isinstance(calls, list) else []
    return _row(str(message["role"]), "".join([*map(_piece, pieces), *spelled]))


def _call(function: Mapping[str, object]) -> str:
    return block(f"{function.get('name')}({function.get('arguments')})")


def _piece(piece: object) -> str:
    if not isinstance(piece, Mapping):
        return block(str(piece))
    picture, film = piece.get("image"), piece.get("video")
    if isinstance(picture, Patches):
        return _shown([picture], _SIDE, "picture")
    if isinstance(film, ClipPatches):
        step = max(1, len(film.groups) // _FRAMES)
        return _shown(film.groups[::step][:_FRAMES], _SIDE // 2, "frame of a clip")
    if isinstance(picture, EncodedImage):
        return picture._repr_html_()
    return block(str(piece.get("text", "[picture]")))


def _shown(pictures: Iterable[Patches], side: int, alt: str) -> str:
    """Thumbnails in a row, twice as fine as they are large."""
    small = [thumbnail(one.pixels, 2 * side) for one in pictures if one.pixels is not None]
    row = "".join(image(one, width=max(1, one.width // 2), alt=alt) for one in small)
    return f"<div style='margin: 2px 0'>{row}</div>"


def _row(role: str, inside: str) -> str:
    bar = f"border-left: 3px solid {_COLOURS.get(role, '#8a8f98')}; padding-left: 8px; margin-bottom: 10px"
    return f"<div style='{bar}'><div style='opacity: .7; font-size: 12px'>{escape(role)}</div>{inside}</div>"
