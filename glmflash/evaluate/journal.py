"""Rows as they come → lines of a file that a run which was ended goes on from.

Each line is written whole, at once, at the end of the file. So whatever ends a run, Ctrl-C or a lost machine,
tears the last line at most, and that one is dropped.
"""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from glmflash.errors import ConfigError, ParameterError
from glmflash.evaluate.memory import Memory
from glmflash.evaluate.row import Row, read_row, write_row
from glmflash.fields import Fields

__all__ = ["Journal"]

_FORMAT = "glmflash evaluation 1"
_LOADED = {"weights", "kv"}  # what is known of a pipeline only when it is there


def __dir__() -> list[str]:
    return __all__


class Journal:
    """What is known so far: in memory, and in a file if there is one.

    Args:
        path: The file; made if it is not there. None keeps no file.
        questions: The fingerprint of the questions.

    Raises:
        ParameterError: If the file is a journal of other questions, or none.
        OSError: If it cannot be read or written.

    Example:
        >>> journal = Journal(None, questions="1f")
        >>> journal.add(Row(system="a", question="7", score=1.0, seconds=0.1, began=0.0))
        >>> list(journal.rows)
        [('a', '7')]
    """

    def __init__(self, path: Path | None, *, questions: str) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.memory: dict[str, Memory] = {}
        self._about: dict[str, Mapping[str, object]] = {}
        self._path = path
        if path is not None and not self._read(path, questions):
            self._write(_head(questions))

    def add(self, row: Row) -> None:
        """Keep what a system said; the last one counts."""
        self.rows[row.system, row.question] = row
        self._write(write_row(row))

    def check(self, system: str, about: Mapping[str, str]) -> None:
        """Pass if a system may be the one that is known by this name.

        Args:
            system: Its name.
            about: What it is, as far as that is known; of what is still to be loaded not `_LOADED`.

        Raises:
            ParameterError: If another one had that name.
        """
        known = self._about.get(system, about)
        late = _LOADED - about.keys() if known else set[str]()
        if {name: value for name, value in known.items() if name not in late} != about:
            names = sorted(
                name for name in {**known, **about} if known.get(name) != about.get(name) and name not in late
            )
            raise ParameterError(
                "resume",
                f"is a journal in which {system!r:.80} was another system ({', '.join(names)}); give this "
                "one another name, or a new journal",
            )

    def opened(self, system: str, about: Mapping[str, str]) -> None:
        """Keep what a system is, when it is loaded. Raises as `check`."""
        self.check(system, about)
        if system not in self._about:
            self._about[system] = dict(about)
            self._write({"system": system, "about": dict(about)})

    def closed(self, system: str, memory: Memory) -> None:
        """Keep what a system took."""
        most = memory.most(self.memory.get(system, Memory()))
        if most != self.memory.get(system):
            self.memory[system] = most
            self._write({"system": system, "memory": asdict(most)})

    def _write(self, values: Mapping[str, object]) -> None:
        if self._path is not None:
            line = _line(values)
            with self._path.open("ab", buffering=0) as file:
                if (written := file.write(line)) != len(line):  # nothing may be written behind half a line
                    file.truncate(file.tell() - (written or 0))
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path.name)

    def _read(self, path: Path, questions: str) -> bool:
        """Whether there is a journal; a line that was torn is cut off."""
        if not path.exists():
            return False
        if not path.is_file():
            raise ParameterError("resume", "is no file; give the path of a journal, or of one to be made")
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if not whole and _line(_head(questions)).startswith(data):  # the very first line was torn
            path.write_bytes(b"")
            return False
        head, *lines = whole.splitlines() or [data]
        first = _json(head)
        if first.get("format") != _FORMAT:
            raise ParameterError("resume", "is no journal of an evaluation; give another path")
        if first.get("questions") != questions:
            raise ParameterError(
                "resume", "is a journal of other questions, or of other pictures; give another path"
            )
        for number, line in enumerate(lines, 2):
            self._take(line, f"line {number}")
        if len(whole) < len(data):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        return True

    def _take(self, line: bytes, where: str) -> None:
        data = _json(line)
        try:
            read = Fields(data, where)
            if read.has("about"):
                about = data["about"]
                self._about[read.string("system")] = about if isinstance(about, Mapping) else {}
            elif read.has("memory"):
                sizes = read.section("memory")
                known = {name: sizes.integer(name) for name in asdict(Memory()) if sizes.has(name)}
                self.memory[read.string("system")] = Memory(**known)
            else:
                row = read_row(data, where)
                self.rows[row.system, row.question] = row
        except ConfigError as error:
            raise ParameterError("resume", f"is damaged: {error}") from None


def _head(questions: str) -> dict[str, object]:
    return {"format": _FORMAT, "questions": questions}


def _line(values: Mapping[str, object]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="surrogatepass")


def _json(line: bytes) -> Mapping[str, object]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, Mapping):
        raise ParameterError("resume", "is damaged, or no journal: a line of it is no JSON object")
    return data
