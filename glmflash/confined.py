"""A file that a stranger may have made → its bytes, if it is a plain file of its folder and not too large."""

import os
from pathlib import Path

__all__ = ["Refused", "check_plain", "read_plain", "tidy"]

_LONGEST = 300  # characters of a line of an error


def __dir__() -> list[str]:
    return __all__


class Refused(Exception):  # noqa: N818  # never leaves the package: whoever reads says which error it is
    """Why a file is not read, in words that follow its name."""


def check_plain(path: Path, *, most: int | None = None) -> None:
    """Refuse what is no file of its folder: links out of it, pipes, devices, folders, and what is too large.

    Args:
        path: The file; its name has no separators.
        most: Bytes.

    Raises:
        Refused: With the reason.
    """
    root = path.parent.resolve()
    # The hub's cache has files in <repository>/blobs, and links to them in <repository>/snapshots/<commit>.
    allowed = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    try:
        target = path.resolve()
        if not any(target.is_relative_to(place) for place in allowed):
            raise Refused("is a link out of the folder; put the file itself there")
        if not target.is_file():
            raise Refused(f"no such file in {path.parent}")
        size = target.stat().st_size
    except (OSError, RuntimeError) as error:  # older Pythons raise the latter for links in a circle
        raise Refused(f"cannot be read ({getattr(error, 'strerror', None) or 'a link to itself'})") from None
    if most is not None and size > most:
        raise Refused(f"has {size} bytes; allowed: at most {most}")


def read_plain(path: Path, *, most: int) -> bytes:
    """Read a file that `check_plain` accepts; it never waits, and never takes more memory than allowed.

    Raises:
        Refused: With the reason.
    """
    check_plain(path, most=most)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror})") from None


def tidy(text: str, most: int = _LONGEST) -> str:
    r"""A stranger's name for a message: one line, nothing that moves a cursor, and not too long.

    Example:
        >>> tidy("weight\nall is well", 12)
        'weight?al...'
    """
    shown = "".join(character if character.isprintable() else "?" for character in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."
