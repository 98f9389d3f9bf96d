"""The files that DocVQA, ChartQA and OCRBench come in → their questions, with the metrics of their papers.

Nothing is downloaded: each reader says where its data is to be had. Every problem of a file is reported in
one `QuestionError`, with the number of the entry, counted from 1.
"""

from collections.abc import Callable
from pathlib import Path

from glmflash.errors import QuestionError
from glmflash.evaluate.entries import Entry, Problems, collect, read_bytes, read_json
from glmflash.evaluate.question import Question

__all__ = ["read_chartqa", "read_docvqa", "read_ocrbench"]

_FORMULAS = "HME100k"


def __dir__() -> list[str]:
    return __all__


def read_docvqa(path: str | Path, *, images: str | Path | None = None) -> tuple[Question, ...]:
    """Read DocVQA, or InfographicVQA, which comes alike: answers are judged by `anls`.

    Get "Task 1 - Single Page Document VQA" of https://rrc.cvc.uab.es/?ch=17 (downloads; registration is
    free): a JSON file, and an archive of pictures. The file holds `{"data": [{"questionId", "question",
    "image" or "image_local_name", "answers", "question_types", ...}]}`.

    Args:
        path: `val_v1.0_withQT.json`, or the file of another split that has answers.
        images: The folder that the pictures' names are relative to; if not given, that of the file. Names
            begin with `documents/`.

    Raises:
        QuestionError: If anything cannot be used. The test split has no answers, and is refused.

    `Question.kind` is the first of the question's types ("table/list", "form", ...), if they are in the file.
    """

    def make(number: int, entry: Entry) -> Question:
        if not entry.has("answers"):
            raise QuestionError(
                "has no answers; those of the test split are not published, take another split"
            )
        return Question(
            id=entry.text("questionId") if entry.has("questionId") else str(number),
            text=entry.text("question"),
            images=entry.pictures("image", "image_local_name"),
            answers=entry.texts("answers"),
            kind=entry.texts("question_types")[0] if entry.has("question_types") else "",
            metric="anls",
        )

    return _read(Path(path), images, make, under="data")


def read_chartqa(path: str | Path, *, images: str | Path | None = None) -> tuple[Question, ...]:
    """Read ChartQA: answers are judged by `relaxed`.

    Get "ChartQA Dataset" of https://github.com/vis-nlp/ChartQA, or the same with more annotations from
    ahmed-masry/ChartQA on the Hugging Face hub: folders `train`, `val` and `test`, each with a file of what
    people wrote, `test_human.json`, one of what was generated, `test_augmented.json`, and pictures in
    `png/`. A file holds `[{"imgname", "query", "label"}]`.

    Args:
        path: One of the files, or the folder of a split for both of its files.
        images: The folder of the pictures; if not given, `png` beside the file.

    Raises:
        QuestionError: If anything cannot be used.

    `Question.kind` is "human" or "augmented", after the file's name; ids are that and the entry's number.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted((*path.glob("*_human.json"), *path.glob("*_augmented.json")))
        if not files:
            raise QuestionError(f"{path.name}: holds no *_human.json and no *_augmented.json")
        return tuple(question for file in reversed(files) for question in read_chartqa(file, images=images))
    kind = path.stem.rpartition("_")[2]

    def make(number: int, entry: Entry) -> Question:
        return Question(
            id=f"{kind}-{number}",
            text=entry.text("query"),
            images=entry.pictures("imgname"),
            answers=entry.texts("label"),
            kind=kind,
            metric="relaxed",
        )

    return _read(path, images or path.parent / "png", make)


def read_ocrbench(path: str | Path, *, images: str | Path | None = None) -> tuple[Question, ...]:
    """Read OCRBench: answers are judged by `contains`, those of HME100k by `contains_formula`.

    Get `OCRBench/json_files/OCRBench.json` and the pictures ("OCRBench Images") by way of
    https://github.com/Yuliang-Liu/MultimodalOCR. The file holds `[{"dataset_name", "type", "question",
    "answers", "image_path", ...}]`. OCRBench's score, out of 1,000, is 1,000 times the mean.

    Args:
        path: `OCRBench.json`.
        images: The folder of the pictures; if not given, `OCRBench_Images` beside the file.

    Raises:
        QuestionError: If anything cannot be used.

    `Question.kind` is the entry's type ("Regular Text Recognition", "Doc-oriented VQA", ...); ids are the
    data set and the entry's number.
    """
    path = Path(path)

    def make(number: int, entry: Entry) -> Question:
        origin = entry.text("dataset_name")
        return Question(
            id=f"{origin}-{number}",
            text=entry.text("question"),
            images=entry.pictures("image_path"),
            answers=entry.texts("answers"),
            kind=entry.text("type"),
            metric="contains_formula" if origin == _FORMULAS else "contains",
        )

    return _read(path, images or path.parent / "OCRBench_Images", make)


def _read(
    path: Path, images: str | Path | None, make: Callable[[int, Entry], Question], *, under: str = ""
) -> tuple[Question, ...]:
    """Questions of a list of entries, which may stand under a key of an object."""
    folder = Path(images) if images is not None else path.parent
    problems = Problems(path)
    text = read_bytes(path, problems)
    try:
        data = read_json(text)
    except QuestionError as error:
        problems.stop(str(error))
    if under:
        data = data.get(under) if isinstance(data, dict) else None
    if not isinstance(data, list):
        where = f"an object with a list under {under!r}" if under else "a list"
        problems.stop(f"does not hold {where} of entries")

    def checked(number: int, item: object) -> Question:
        return make(number, Entry(item, folder, outside=False))

    return collect(enumerate(data, 1), checked, problems, unit="entry")
