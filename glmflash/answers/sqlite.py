"""Answers in an SQLite file: they outlive the process, and processes share them."""

import sqlite3
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from glmflash.answers.database import Database, check_owner
from glmflash.answers.store import read_size
from glmflash.errors import ParameterError

__all__ = ["SQLiteAnswers"]

_MOST_TOUCHED = 1000  # readings that wait for the next writing to be noted
_FIND = "select value from answers where key = ? and until > ?"
_PUT = "insert or replace into answers (key, value, until, used) values (?, ?, ?, ?)"
_TOUCH = "update answers set used = ? where key = ?"
_EXPIRE = "delete from answers where until <= ?"
_EVICT = "delete from answers where key in (select key from answers order by used limit 16)"


def __dir__() -> list[str]:
    return __all__


class SQLiteAnswers:
    """Up to so many bytes of answers in a file. The ones used longest ago make room.

    A file that is damaged is kept with ".damaged" at the end of its name, and a new one begun. Threads and
    processes may share one.

    Args:
        path: The file; it is made if it is not there, its folder is not.
        max_bytes: Size of the file, or a text such as "1 GiB"; its log may take some 4 MiB more.

    Raises:
        ParameterError: If there is no such folder, the file is another program's, or `max_bytes` is less
            than 64 KiB, or not as above.
    """

    def __init__(self, path: str | Path, max_bytes: str | int = "1 GiB") -> None:
        given: object = path
        if not isinstance(given, str | Path):
            raise ParameterError("path", f"is a {type(path).__name__}; allowed: the path of a file")
        self.path = Path(path)
        self.max_bytes = read_size(max_bytes, least=2**16)
        check_owner(self.path)
        aside = threading.Lock()
        self._reading, self._writing = Database(self.path, aside), Database(self.path, aside)
        self._nbytes: int | None = None
        self._touched: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int | None:
        """Bytes of the file that are in use, as of the last writing; None before."""
        return self._nbytes

    def get(self, key: str) -> bytes | None:
        """See `AnswerStore`. It waits for nobody who writes."""
        now = time.time()
        row: tuple[object] | None = self._reading.run(
            lambda connection: connection.execute(_FIND, (key, now)).fetchone()
        )
        value = None if row is None else row[0]
        if not isinstance(value, bytes):
            return None
        with self._lock:
            if len(self._touched) < _MOST_TOUCHED:
                self._touched[key] = now
        return value

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """See `AnswerStore`. A value of more than a quarter of the file is not kept."""
        if len(value) <= self.max_bytes // 4:
            self._writing.run(partial(self._put, key, value, ttl))

    def clear(self) -> None:
        """Forget everything, and give the room back."""
        with self._lock:
            self._touched.clear()
        self._writing.run(self._clear)

    def close(self) -> None:
        """Close the file. It is opened again when it is needed."""
        self._reading.close()
        self._writing.close()

    def _put(self, key: str, value: bytes, ttl: float, connection: sqlite3.Connection) -> None:
        now = time.time()
        with self._lock:
            touched, self._touched = self._touched, {}
        connection.execute("begin immediate")
        try:
            connection.executemany(_TOUCH, [(used, one) for one, used in touched.items()])
            self._make_room(connection, len(value), now)
            connection.execute(_PUT, (key, value, now + ttl, now))
            connection.execute("commit")
        except BaseException:
            with suppress(sqlite3.Error):  # the first error is what counts
                connection.execute("rollback")
            raise
        self._nbytes = _in_use(connection)

    def _make_room(self, connection: sqlite3.Connection, size: int, now: float) -> None:
        """Free pages are used again, so what is in use at most is how large the file becomes."""
        room = self.max_bytes - size - size // 8 - 8 * 4096  # pages of the value, the trees, and the lists
        if _in_use(connection) > room:
            connection.execute(_EXPIRE, (now,))
        while _in_use(connection) > room:
            if not connection.execute(_EVICT).rowcount:
                return

    def _clear(self, connection: sqlite3.Connection) -> None:
        connection.execute("delete from answers")
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)")
        self._nbytes = _in_use(connection)


def _in_use(connection: sqlite3.Connection) -> int:
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (connection.execute(f"pragma {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)
