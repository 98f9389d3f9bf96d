"""A file of JSON entries → typed fields, and every problem in one error that names file and place."""

import json
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from glmflash.errors import ParameterError, QuestionError
from glmflash.evaluate.question import Question

__all__ = ["MOST_BYTES", "Entry", "Problems", "collect", "read_bytes", "read_json"]

MOST_BYTES = 256 * 2**20  # of a file; the largest benchmarks in use have a tenth of that
_SHOWN = 20
_T = TypeVar("_T")


def __dir__() -> list[str]:
    return __all__


class Problems:
    """Collects what is wrong with a file, and raises all of it at the end.

    Args:
        path: The file; messages give its name.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._found: list[str] = []

    def add(self, place: str, problem: object) -> None:
        """Note one problem of an entry."""
        self._found.append(f"{self._name}, {place}: {problem}")

    def stop(self, problem: str) -> NoReturn:
        """Raise what makes the whole file useless."""
        raise QuestionError(f"{self._name}: {problem}")

    def check(self) -> None:
        """Raise what was found, if anything."""
        if self._found:
            more = len(self._found) - _SHOWN
            rest = [f"and {more} more problems"] if more > 0 else []
            raise QuestionError("\n".join([*self._found[:_SHOWN], *rest]))


class Entry:
    """Typed reads from one entry; what is wrong raises a `QuestionError` without file and place.

    Args:
        data: What stands in the file.
        folder: Where pictures are looked for.
        outside: Whether they may lie elsewhere.
    """

    def __init__(self, data: object, folder: Path, *, outside: bool) -> None:
        if not isinstance(data, Mapping):
            raise QuestionError(f"is a {type(data).__name__}; allowed: an object")
        self._data, self._folder, self._outside = data, folder, outside

    def only(self, *allowed: str) -> None:
        """Refuse every field but these."""
        unknown = [reprlib.repr(name) for name in self._data if name not in allowed]
        if unknown:
            raise QuestionError(f"unknown field {', '.join(unknown[:5])}; allowed: {', '.join(allowed)}")

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._data.get(name) is not None

    def text(self, name: str) -> str:
        """A string or a whole number, as a string."""
        value = self._data.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
            return str(value)
        if isinstance(value, str):
            return value
        return self._refuse(name, "a string")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; one alone means a list of one."""
        value = self._data.get(name)
        values = value if isinstance(value, list) else [value]
        if not values:
            self._refuse(name, "a string, or a list of them")
        return tuple(Entry({name: item}, self._folder, outside=False).text(name) for item in values)

    def pictures(self, *names: str) -> tuple[Path, ...]:
        """Paths of files that are there, relative to the folder, under the first name that is there."""
        name = next(filter(self.has, names), names[0])
        return tuple(self._picture(text) for text in self.texts(name))

    def _picture(self, text: str) -> Path:
        shown = reprlib.repr(text)
        try:
            path = self._folder / text
            home, real = self._folder.resolve(), path.resolve()
            if not self._outside and not real.is_relative_to(home):
                raise QuestionError(f"picture {shown} lies outside of the folder of pictures; copy it there")
            if not real.is_file():  # also pipes and devices, which would never end
                raise QuestionError(f"picture {shown} is not there")
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, QuestionError):
                raise
            raise QuestionError(f"picture {shown} is no path") from None
        return path

    def _refuse(self, name: str, allowed: str) -> NoReturn:
        value = self._data.get(name)
        shown = "missing" if value is None else reprlib.repr(value)
        raise QuestionError(f"{name} is {shown}; allowed: {allowed}")


def collect(
    items: Iterable[tuple[int, _T]], make: Callable[[int, _T], Question], problems: Problems, *, unit: str
) -> tuple[Question, ...]:
    """Numbered entries, and what makes a question of one → the questions, or one error for all of them.

    Raises:
        QuestionError: If an entry is none, two questions have one id, or there are no questions.
    """
    found: dict[str, Question] = {}
    for number, item in items:
        place = f"{unit} {number}"
        try:
            question = make(number, item)
        except (QuestionError, ParameterError) as error:
            problems.add(place, error)
            continue
        if question.id in found:
            problems.add(place, f"id {reprlib.repr(question.id)} is that of another question")
        found[question.id] = question
    problems.check()
    if not found:
        problems.stop("holds no questions")
    return tuple(found.values())


def read_bytes(path: Path, problems: Problems) -> bytes:
    """The contents of a file of at most `MOST_BYTES`."""
    if not path.is_file():  # also pipes and devices, which would never end
        problems.stop("is not there, or is no file")
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        problems.stop(f"cannot be read ({error.strerror})")
    if len(data) > MOST_BYTES:
        problems.stop(f"has more than {MOST_BYTES} bytes, which is the most that is read")
    return data


def read_json(text: bytes) -> object:
    """The JSON value that a text is, strictly: no NaN, no key twice.

    Raises:
        QuestionError: If it is none.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise QuestionError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except UnicodeDecodeError:
        raise QuestionError("is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, QuestionError):
            raise
        raise QuestionError("is not JSON that can be read: too deep, or a number too long") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for at, (name, _) in enumerate(pairs) if name in dict(pairs[:at]))
        raise QuestionError(f"has {reprlib.repr(twice)} twice")
    return found


def _no_number(name: str) -> object:
    raise QuestionError(f"holds {name}, which is no JSON")
