"""A path → a file beside it to write to, which takes its place once it is complete and on the disk."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    from fcntl import LOCK_EX, flock

__all__ = ["replacing", "sync"]


def __dir__() -> list[str]:
    return __all__


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` at the end; on an error `path` stays as it was.

    Writers of one path wait for each other. What a killed one leaves behind, the next one writes over.

    Example:
        >>> with replacing(Path("notes.txt")) as file:
        ...     file.write(b"all or nothing")
        14
        >>> Path("notes.txt").read_bytes()
        b'all or nothing'
    """
    stage = path.with_name(f".{path.name}.saving")
    with _locked(stage) as file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            stage.replace(path)
        except BaseException:
            stage.unlink(missing_ok=True)
            raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold what the system says it holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(stage: Path) -> BinaryIO:
    """Open the file and wait until it is ours alone; closing it lets the next one in."""
    while True:
        file = stage.open("ab")
        try:
            if sys.platform != "win32":  # where two processes must not save one file at the same time
                flock(file.fileno(), LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), stage.stat()):
                return file
        except FileNotFoundError:  # like another file in its place: the last writer moved away what we had
            pass
        except BaseException:
            file.close()
            raise
        file.close()
