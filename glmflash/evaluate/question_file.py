"""A JSON Lines file → questions, every problem of it in one error; and questions → such a file."""

import json
import os
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from glmflash.errors import ParameterError
from glmflash.evaluate.entries import Entry, Problems, collect, read_bytes, read_json
from glmflash.evaluate.question import Question
from glmflash.weights.files import replacing

__all__ = ["read_questions", "write_questions"]

_FIELDS = ("id", "image", "question", "answers", "kind", "metric")


def __dir__() -> list[str]:
    return __all__


def read_questions(path: str | Path, *, outside: bool = False) -> tuple[Question, ...]:
    """Read questions from a file of JSON objects, one a line; blank lines are skipped.

    - `question`: what is asked.
    - `answers`: what is right, a string or a list of alternatives.
    - `image`: the picture's path, or a list of paths, relative to the file; may be absent.
    - `kind`: what sort of question it is; may be absent.
    - `metric`: how answers are judged, one of `METRICS`; "exact" if absent.
    - `id`: a name; the number of the line if absent.

    Args:
        path: The file, UTF-8.
        outside: Whether pictures may lie outside of the file's folder.

    Raises:
        QuestionError: If anything cannot be used: all problems, each with its line.

    Example:
        >>> from pathlib import Path
        >>> line = '{"image": "receipt.png", "question": "The total?", "answers": "5.75", "kind": "total"}'
        >>> _ = Path("questions.jsonl").write_text(line)
        >>> read_questions("questions.jsonl")[0].answers
        ('5.75',)
    """
    path = Path(path)
    problems = Problems(path)
    lines = read_bytes(path, problems).split(b"\n")

    def make(number: int, line: bytes) -> Question:
        entry = Entry(read_json(line), path.parent, outside=outside)
        entry.only(*_FIELDS)
        return _question(entry, number)

    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    return collect(numbered, make, problems, unit="line")


def _question(entry: Entry, number: int) -> Question:
    optional = {name: entry.text(name) for name in ("kind", "metric") if entry.has(name)}
    return Question(
        id=entry.text("id") if entry.has("id") else str(number),
        text=entry.text("question"),
        images=entry.pictures("image") if entry.has("image") else (),
        answers=entry.texts("answers"),
        **cast(Any, optional),  # `metric` is checked by `Question`
    )


def write_questions(questions: Iterable[Question], path: str | Path) -> None:
    """Write questions to a file that `read_questions` reads; it is there whole or not at all.

    Args:
        questions: Their pictures have to be files; the file gives their paths relative to its own folder.
        path: The file. Its folder has to exist.

    Raises:
        ParameterError: If a picture is no file, or two questions have one id.

    Example:
        >>> from dataclasses import replace
        >>> question = Question(id="a", text="The total?", images=("receipt.png",), answers=("5.75",))
        >>> write_questions([question], "questions.jsonl")
        >>> read_questions("questions.jsonl") == (replace(question, images=(Path("receipt.png"),)),)
        True
    """
    path, ids, lines = Path(path), set[str](), list[str]()
    for question in questions:
        if question.id in ids:
            raise ParameterError("questions", f"have the id {reprlib.repr(question.id)} twice")
        if len(question.paths) < len(question.images):
            raise ParameterError("questions", "have a picture that is no path; save it to a file first")
        ids.add(question.id)
        images = [os.path.relpath(image.resolve(), path.parent.resolve()) for image in question.paths]
        fields: dict[str, object] = {"id": question.id, "image": [Path(image).as_posix() for image in images]}
        fields |= {"question": question.text, "answers": question.answers, "kind": question.kind}
        fields |= {"metric": question.metric}
        lines.append(json.dumps({name: x for name, x in fields.items() if x}, ensure_ascii=False) + "\n")
    with replacing(path) as file:
        file.write("".join(lines).encode())
