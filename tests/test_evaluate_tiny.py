"""The embedded model's own benchmark: what is in it, where it comes from, and how the model does."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

import glmflash
from glmflash.evaluate import score, tiny_questions
from glmflash.media import read

SCRIPTS = Path(__file__).parents[1] / "examples" / "tiny"


def test_every_task_in_both_languages_and_not_many_bytes():
    questions = tiny_questions()
    assert len(questions) == 144
    counts = Counter((question.kind, question.id[-2:]) for question in questions)
    assert len(counts) == 14
    assert min(counts.values()) >= 7
    folder = Path(glmflash.__file__).parent / "evaluate" / "tiny"
    files = list(folder.iterdir())
    assert {path.name for path in files} == {
        "questions.jsonl", *(path.name for question in questions for path in question.paths)
    }  # fmt: skip
    assert sum(path.stat().st_size for path in files) <= 300_000


def test_pictures_are_those_that_the_model_knows():
    pictures = {path for question in tiny_questions() for path in question.paths}
    assert len(pictures) == 36
    assert all(edge % 28 == 0 for path in pictures for edge in read(path).shape[:2])


@pytest.mark.slow
def test_the_committed_script_makes_it_and_training_never_saw_it(tmp_path, monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from questions import benchmark
    from scenes import Facts, held_out

    made = {question.id: question for question in benchmark(tmp_path, 0)}
    for question in tiny_questions():
        twin = made.pop(question.id)
        assert (twin.text, twin.answers, twin.metric) == (question.text, question.answers, question.metric)
        assert (read(twin.paths[0]) == read(question.paths[0])).all()
        if question.kind == "transcribe":
            kind = question.id.partition("-")[0]
            assert held_out(Facts(kind, "", tuple(question.answers[0].split("\n"))))
    assert not made
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS)):
            del sys.modules[name]


@pytest.mark.slow
def test_the_embedded_model_is_right_almost_always():
    questions = tiny_questions()[::6]  # what all of it gives is in the docs
    with glmflash.Pipeline.from_pretrained("tiny", dtype="float32") as pipe:
        asked = [{"text": one.text, "images": list(one.images)} for one in questions]
        results = pipe.batch(asked, max_new_tokens=200)
    scores = [score(question, result.text) for question, result in zip(questions, results, strict=True)]
    assert sum(scores) / len(scores) > 0.97, json.dumps(scores)
