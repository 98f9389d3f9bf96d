"""A path and the folders that are allowed → the file's real place, or a refusal."""

import os
from collections.abc import Sequence
from pathlib import Path

from glmflash.errors import ImageError

__all__ = ["inside", "unmoved"]


def __dir__() -> list[str]:
    return __all__


def inside(path: str | os.PathLike[str], folders: Sequence[str | os.PathLike[str]]) -> str:
    """Where a path leads, all links followed, if that is in one of these folders.

    Nothing is said about whether the file exists: who may not read a place may not ask about it either.

    Raises:
        ImageError: If it is in none of them.

    Example:
        >>> inside("/etc/passwd", ("/home",))
        Traceback (most recent call last):
            ...
        glmflash.errors.ImageError: lies in no folder that InputPolicy.folders allows
    """
    refusal = ImageError("lies in no folder that InputPolicy.folders allows")
    try:
        place = os.path.realpath(path)
    except (OSError, ValueError):  # a zero byte, or links that go in circles
        raise refusal from None
    if not any(_holds(os.path.realpath(folder), place) for folder in folders):
        raise refusal
    return place


def unmoved(place: str, status: os.stat_result) -> bool:
    """Whether an open file is still the one at its real place, and that place no link by now."""
    try:
        return os.path.realpath(place) == place and os.path.samestat(Path(place).stat(), status)
    except OSError:
        return False


def _holds(folder: str, place: str) -> bool:
    try:
        return os.path.commonpath((folder, place)) == folder
    except ValueError:  # on another drive
        return False
