"""A path → an SQLite file of answers, open: made if it is not there, put aside if it is damaged."""

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from glmflash.answers.record import MOST_BYTES
from glmflash.engine.log import note
from glmflash.errors import ParameterError

__all__ = ["Database", "check_owner"]

T = TypeVar("T")
logger = logging.getLogger(__name__)

_OWNER = 0x676C6D61  # "glma", in the file's header
_MAGIC = b"SQLite format 3\0"
_SHORT = 512  # bytes: no database is smaller
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = 0.02  # seconds to wait for another process that writes
_PRAGMAS = (
    "trusted_schema = off",  # whatever a stranger's file would like to be called
    "cell_size_check = on",
    "journal_mode = wal",
    "synchronous = normal",
    "journal_size_limit = 4194304",
    "cache_size = -512",
)
_TABLE = f"""
begin immediate;
pragma application_id = {_OWNER};
create table answers (key text primary key, value blob not null, until real not null, used real not null);
create index by_use on answers (used);
commit;
"""


def __dir__() -> list[str]:
    return __all__


def check_owner(path: Path) -> None:
    """Pass if a path is free, or may be a file of answers, also a damaged one.

    Raises:
        ParameterError: If it is another program's database, or no file, or there is no folder for it.
    """
    if path.exists() and not path.is_file():  # also pipes, which nobody may ever write to
        raise ParameterError("path", "is there, and is no file; allowed: a file of its own")
    header = b""
    with suppress(OSError), path.open("rb") as file:
        header = file.read(_SHORT)
    ours = header[68:72] in (b"", _OWNER.to_bytes(4, "big"))
    # A short one SQLite would take for an empty one, and write over it.
    if not ours if header.startswith(_MAGIC) else 0 < len(header) < _SHORT and header not in _MAGIC:
        raise ParameterError("path", "is a database of another program; allowed: a file of its own")
    if not path.parent.is_dir():
        raise ParameterError("path", "is in a folder that is not there; allowed: a file in one that is")


class Database:
    """One connection, which any thread may use, one at a time.

    Args:
        path: The file.
        aside: Held while the file is put aside; connections of one process share it.
    """

    def __init__(self, path: Path, aside: threading.Lock) -> None:
        self._path = path
        self._aside = aside
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # which one is open, whatever it is called now

    def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """What a function makes of the open file; if that is damaged, of a new one.

        Raises:
            sqlite3.Error: If the file is locked for long, there is no room, and the like.
        """
        with self._lock:
            try:
                return function(self._ready())
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                    raise
            self._put_aside()
            return function(self._ready())

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            self._let_go()

    def _ready(self) -> sqlite3.Connection:
        if self._connection is not None and self._file == _identity(self._path):
            return self._connection
        self._let_go()  # another process has put it aside, or it was deleted
        connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        self._connection, self._file = connection, _identity(self._path)
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * MOST_BYTES)
            (owner,) = connection.execute("pragma application_id").fetchone()
            if owner != _OWNER:
                # Before it has a log, so that the file itself says whose it is.
                connection.executescript(_TABLE)
            for pragma in _PRAGMAS:
                connection.execute(f"pragma {pragma}")
        except BaseException as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                self._let_go()
            raise
        self._file = _identity(self._path)
        return connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _put_aside(self) -> None:
        """Rename the file that is open, unless somebody else has."""
        with self._aside:
            file = self._file
            self._let_go()
            if file is None or file != _identity(self._path):
                return
            text = "%s is damaged; it is kept as %s.damaged, and begun anew"
            note(logger, logging.WARNING, text, *[self._path.name] * 2)
            for end in ("-wal", "-shm"):  # first: they would be taken for the new file's
                self._path.with_name(self._path.name + end).unlink(missing_ok=True)
            self._path.replace(self._path.with_name(self._path.name + ".damaged"))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
