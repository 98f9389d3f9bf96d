"""Questions and their files: what is taken, what is refused, and that every problem has its place named."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glmflash.errors import ParameterError, QuestionError
from glmflash.evaluate import METRICS, Question, entries, read_questions, write_questions
from glmflash.evaluate.question import MOST_ANSWERS, MOST_CHARACTERS, MOST_IMAGES


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / "a.png")
    return tmp_path


def written(folder, *lines):
    path = folder / "questions.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_a_line_becomes_a_question(folder):
    full = {"id": "x", "image": ["pictures/a.png"], "question": "Total?", "answers": ["5", "5.0"],
            "kind": "total", "metric": "relaxed"}  # fmt: skip
    path = written(folder, full, "", {"question": "And?", "answers": 7})
    one, two = read_questions(path)
    picture = folder / "pictures" / "a.png"
    assert one == Question(
        id="x", text="Total?", images=(picture,), answers=("5", "5.0"), kind="total", metric="relaxed"
    )
    assert one.paths == (picture,)
    assert two == Question(id="3", text="And?", answers=("7",))  # the third line


def test_all_problems_are_reported_with_their_lines(folder):
    good = {"question": "a", "answers": "b"}
    path = written(
        folder,
        {"question": "a"},
        "{",
        {**good, "colour": 1},
        {**good, "image": "none.png"},
        {**good, "metric": "magic"},
        [],
        {**good, "id": "1000"},
        {**good, "id": "1000"},
        '{"question": "a", "question": "b", "answers": "c"}',
        '{"question": "a", "answers": NaN}',
        {"question": " ", "answers": []},
        {**good, "image": {"a": 1}},
        '{"question": "a", "answers": "\\ud800"}',
    )
    with pytest.raises(QuestionError) as caught:
        read_questions(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 12
    parts = {
        1: "answers is missing",
        2: "is not JSON",
        3: "unknown field 'colour'; allowed: id, image",
        4: "picture 'none.png' is not there",
        5: "metric: is 'magic'; allowed: exact",
        6: "is a list; allowed: an object",
        8: "id '1000' is that of another question",
        9: "has 'question' twice",
        10: "holds NaN",
        11: "answers is []",
        12: "image is {'a': 1}",
        13: "none in Unicode",
    }
    for line, (number, part) in zip(lines, parts.items(), strict=True):
        assert line.startswith(f"questions.jsonl, line {number}: "), line
        assert part in line
    assert str(folder) not in str(caught.value)
    assert caught.value.code == "question_error"


def test_a_great_many_problems_are_counted(folder):
    with pytest.raises(QuestionError, match="and 80 more problems"):
        read_questions(written(folder, *["{}"] * 100))


@pytest.mark.parametrize(
    "image", ["../secret.png", "pictures/../../secret.png", "link.png", "pictures", "a\0b"]
)
def test_pictures_stay_in_the_folder(folder, image):
    home = folder / "home"
    home.mkdir()
    (home / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "secret.png")
    (home / "link.png").symlink_to(folder / "secret.png")
    path = written(home, {"question": "a", "answers": "b", "image": image})
    with pytest.raises(QuestionError, match="line 1: picture"):
        read_questions(path)


def test_pictures_elsewhere_where_that_is_allowed(folder):
    home = folder / "home"
    home.mkdir()
    lines = [{"question": "a", "answers": "b", "image": image} for image in
             ("../pictures/a.png", str(folder / "pictures" / "a.png"))]  # fmt: skip
    for line in lines:
        with pytest.raises(QuestionError, match="outside"):
            read_questions(written(home, line))
        assert read_questions(written(home, line), outside=True)[0].paths[0].is_file()


def test_a_pipe_is_no_file(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(QuestionError, match="pipe: is not there, or is no file"):
        read_questions(folder / "pipe")
    with pytest.raises(QuestionError, match="'pipe' is not there"):
        read_questions(written(folder, {"question": "a", "answers": "b", "image": "pipe"}))


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "holds no questions"), (b"\n\n", "holds no questions"), (b"\xff\xfe", "line 1: is not UTF-8"),
     (b"[" * 100_000, "line 1: is not JSON"), (b'{"id": ' + b"9" * 5000 + b"}", "line 1: is not JSON")],
)  # fmt: skip
def test_odd_files(folder, content, problem):
    (folder / "odd.jsonl").write_bytes(content)
    with pytest.raises(QuestionError, match=problem):
        read_questions(folder / "odd.jsonl")


def test_files_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(entries, "MOST_BYTES", 20)
    with pytest.raises(QuestionError, match="more than 20 bytes"):
        read_questions(written(folder, {"question": "long enough", "answers": "b"}))
    with pytest.raises(QuestionError, match="not there"):
        read_questions(folder / "none.jsonl")


GOOD = {"id": "1", "text": "a", "answers": ("b",)}


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", ""), ("id", 7), ("text", " "), ("text", "a" * (MOST_CHARACTERS + 1)), ("answers", ()),
     ("answers", "b"), ("answers", ("",)), ("answers", ("b",) * (MOST_ANSWERS + 1)), ("images", ["a.png"]),
     ("images", ("a.png",) * (MOST_IMAGES + 1)), ("kind", 3), ("metric", "f1"), ("metric", ["exact"])],
)  # fmt: skip
def test_a_question_is_checked(field, value):
    with pytest.raises(ParameterError) as caught:
        Question(**{**GOOD, field: value})
    assert caught.value.parameter == field
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("metric", "right", "wrong"),
    [("letter", "b", "Beta"), ("letter", "H", "I"), ("iou", "[[1,2,3,4]]", "[[1,2,1,4]]"),
     ("iou_50", "[1,2,3,4],[5,6,7,8]", "somewhere"), ("teds", "|a|b|\n|-|-|", "a, b"),
     ("teds_structure", "<table><tr><td>a</table>", "<table>" + "<tr><td>" * 2000)],
)  # fmt: skip
def test_what_cannot_be_measured_by_is_refused_at_once(metric, right, wrong):
    Question(**{**GOOD, "answers": (right,)}, metric=metric)
    with pytest.raises(ParameterError, match=f"which the metric {metric} compares"):
        Question(**{**GOOD, "answers": (right, wrong)}, metric=metric)


def test_pictures_that_are_no_files_are_allowed_but_not_written(tmp_path):
    question = Question(**GOOD, images=(Image.new("RGB", (4, 4)), "a.png"))
    assert question.paths == (Path("a.png"),)
    with pytest.raises(ParameterError, match="save it to a file first"):
        write_questions([question], tmp_path / "q.jsonl")
    with pytest.raises(ParameterError, match="id '1' twice"):
        write_questions([Question(**GOOD)] * 2, tmp_path / "q.jsonl")
    assert not list(tmp_path.iterdir())


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3), st.booleans()), min_size=1, max_size=4)
)
def test_what_is_written_is_read(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("written")
    (folder / "a.png").write_bytes(b"")
    questions = tuple(
        Question(id=str(n), text=text, answers=tuple(answers), images=(folder / "a.png",) * picture,
                 metric=("exact", "anls")[picture])
        for n, (text, answers, picture) in enumerate(made)
    )  # fmt: skip
    write_questions(questions, folder / "q.jsonl")
    assert read_questions(folder / "q.jsonl") == questions


def test_every_metric_has_a_name():
    assert len(set(METRICS)) == len(METRICS) == 10
