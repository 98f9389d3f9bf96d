"""A path → a file to write to, which is there once it is complete and on the disk; nothing else opens one."""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    from fcntl import LOCK_EX, flock

__all__ = ["creating", "locked", "replacing", "sync"]


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
            _settle(file)
            stage.replace(path)
        except BaseException:
            stage.unlink(missing_ok=True)
            raise
    sync(path.parent)


@contextmanager
def creating(path: Path) -> Iterator[BinaryIO]:
    """Open a new file in a folder that nobody reads yet; at the end it is on the disk."""
    with path.open("wb") as file:
        yield file
        _settle(file)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until the file, which is made, is ours alone; it is gone at the end."""
    with _locked(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the disk hold what the system says it holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _locked(stage: Path) -> BinaryIO:
    """Open the file and wait until it is ours alone; closing it lets the next one in."""
    while True:
        file = open(stage, "ab", opener=_plainly)  # noqa: SIM115  # given to whoever closes it
        try:
            _check_own(file, stage)
            if sys.platform != "win32":  # where two processes must not save one file at the same time
                flock(file.fileno(), LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), stage.lstat()):
                return file
        except FileNotFoundError:  # like another file in its place: the last writer moved away what we had
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def _plainly(path: str, flags: int) -> int:
    """Follow no link and wait for no pipe: who may write to the folder could have put either there."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def _check_own(file: BinaryIO, stage: Path) -> None:
    """Refuse what is no file of this name alone: writing would change something else."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise FileExistsError(errno.EEXIST, "is in the way of saving, and no writer left it", str(stage))
