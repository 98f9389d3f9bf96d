"""Whatever ends a run, it is gone on from; and nothing is mixed up with another run."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from evaluating import SCARLET, questions, right, wrong

from glmflash import ParameterError
from glmflash.evaluate import Answer, Memory, Question, Row, asking, run
from glmflash.evaluate.journal import Journal
from glmflash.evaluate.pictures import fingerprint, picture_digests
from glmflash.evaluate.systems import about_of

SYSTEMS = {"right": right, "wrong": wrong}


def said(report):
    """All but times."""
    return [
        (row.system, row.question, row.answer.text, row.score, row.error)
        for rows in report.rows.values()
        for row in rows
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The journal of a run that nothing ended."""
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    run(SYSTEMS, questions(5), resume=path)
    return path.read_bytes()


def test_a_journal_torn_anywhere_is_gone_on_from(whole, tmp_path):
    path, expected = tmp_path / "j.jsonl", said(run(SYSTEMS, questions(5)))
    cuts = [0, 1, 20, *range(whole.index(b"\n") - 1, len(whole), 37), len(whole) - 1, len(whole)]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        assert said(run(SYSTEMS, questions(5), resume=path)) == expected
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]  # and it is whole now
        assert sum("question" in line for line in lines) == 10


def test_what_has_been_asked_is_not_asked_again(tmp_path):
    asked = []

    def counted(question):
        asked.append(question.id)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return right(question)

    path = tmp_path / "j.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run({"a": counted}, questions(6), resume=path)
    report = run({"a": counted}, questions(6), resume=path)
    assert asked == ["q0", "q1", "q2", "q3", "q3", "q4", "q5"]
    assert report["a"].accuracy.value == 1.0
    run({"a": counted}, questions(6), resume=path)
    assert len(asked) == 7


def test_errors_are_kept_unless_they_are_to_be_tried_again(tmp_path):
    path, broken = tmp_path / "j.jsonl", [True]

    def flaky(question):
        if broken[0] and question.id == "q1":
            raise ConnectionError
        return right(question)

    assert run({"a": flaky}, questions(3), resume=path)["a"].errors == {"ConnectionError": 1}
    broken[0] = False
    assert run({"a": flaky}, questions(3), resume=path)["a"].errors == {"ConnectionError": 1}
    assert run({"a": flaky}, questions(3), resume=path, retry_errors=True)["a"].errors == {}
    assert run({"a": flaky}, questions(3), resume=path)["a"].accuracy.value == 1.0  # the last one counts


def test_new_systems_can_be_added(whole, tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(whole)
    report = run({"right": right, "third": wrong}, questions(5), resume=path)
    assert [one.system for one in report.systems] == ["right", "third"]


@pytest.mark.parametrize("count", [4, 6])
def test_a_journal_of_other_questions_is_refused(whole, tmp_path, count):
    path = tmp_path / "j.jsonl"
    path.write_bytes(whole)
    with pytest.raises(ParameterError, match="other questions"):
        run(SYSTEMS, questions(count), resume=path)
    assert path.read_bytes() == whole


def test_other_pictures_are_other_questions(tmp_path):
    path, picture = tmp_path / "j.jsonl", tmp_path / "a.png"
    SCARLET.save(picture)
    ask = (Question(id="1", text="?", answers=("a",), images=(picture,)),)
    run(SYSTEMS, ask, resume=path)
    run(SYSTEMS, ask, resume=path)
    SCARLET.rotate(90, expand=True).save(picture)
    with pytest.raises(ParameterError, match="other pictures"):
        run(SYSTEMS, ask, resume=path)


@pytest.mark.parametrize(
    "damage",
    [b"hello\n", b"hello", b"[]\n", b"{}\n", b'{"format": "other"}\n', b"\xff\xfe\n", b"\n\n"],
)
def test_what_is_no_journal_is_refused_and_left_alone(tmp_path, damage):
    path = tmp_path / "j.jsonl"
    path.write_bytes(damage)
    with pytest.raises(ParameterError, match="resume"):
        run(SYSTEMS, questions(2), resume=path)
    assert path.read_bytes() == damage


@pytest.mark.parametrize("line", [b"3\n", b'{"system": "right"}\n', b'{"system": 3, "memory": {"kv": -}}\n'])
def test_damage_in_the_middle_is_refused(whole, tmp_path, line):
    path = tmp_path / "j.jsonl"
    head, rest = whole.split(b"\n", 1)
    path.write_bytes(head + b"\n" + line + rest)
    with pytest.raises(ParameterError, match="damaged"):
        run(SYSTEMS, questions(5), resume=path)
    with pytest.raises(ParameterError, match="no file"):
        run(SYSTEMS, questions(5), resume=tmp_path)


def test_another_system_of_the_same_name_is_refused(tmp_path):
    journal = Journal(tmp_path / "j", questions="1")
    journal.opened("a", {"weights": "1f", "kv": "auto"})
    journal.closed("a", Memory(kv=3))
    again = Journal(tmp_path / "j", questions="1")
    again.opened("a", {"weights": "1f", "kv": "auto"})
    assert again.memory == {"a": Memory(kv=3)}
    with pytest.raises(ParameterError, match=r"another system \(kv\)"):
        again.opened("a", {"weights": "1f", "kv": "int8"})


def load():
    pytest.fail("was loaded")


@pytest.mark.parametrize(
    "other",
    [
        asking(load, max_new_tokens=9), asking(load, prompt=str.lower), right,
        replace(asking(load, max_new_tokens=8), source="other"),
    ],
)  # fmt: skip
def test_another_system_is_refused_before_it_is_loaded_also_with_nothing_left_to_ask(tmp_path, other):
    path, asked = tmp_path / "j", questions(2)
    same = replace(asking(load, max_new_tokens=8), source="tiny")
    journal = Journal(path, questions=fingerprint(asked, picture_digests(asked)))
    journal.opened("a", {"weights": "1f", "kv": "auto", **about_of(same)})
    for one in asked:
        journal.add(Row(system="a", question=one.id, score=1.0, seconds=0.1, began=0.0, answer=Answer("x")))
    assert run({"a": same}, asked, resume=path)["a"].latency.count == 2
    with pytest.raises(ParameterError, match="another system"):
        run({"a": other}, asked, resume=path)


def test_half_a_line_is_taken_back(tmp_path):
    """The disk is full: a line behind half a line would make the whole journal useless."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "j"
    journal = Journal(path, questions="1")
    row = Row(system="a", question="1", score=1.0, seconds=0.1, began=0.0)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, old[1]))
    try:
        with pytest.raises(OSError, match="No space"):
            journal.add(row)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    journal.add(row)
    assert list(Journal(path, questions="1").rows) == [("a", "1")]


SLOW = """
import sys, time
sys.path[:0] = {path!r}
from evaluating import questions, right
from glmflash.evaluate import run

def slow(question):
    time.sleep(0.05)
    return right(question)

print("begun", flush=True)
run({{"slow": slow}}, questions(200), resume={journal!r}, progress=False)
"""


@pytest.mark.slow
def test_ctrl_c_leaves_a_journal_that_goes_on(tmp_path):
    path = tmp_path / "j.jsonl"
    code = SLOW.format(path=[str(Path(__file__).parent), str(Path.cwd())], journal=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and (not path.exists() or path.read_bytes().count(b"\n") < 8):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert b"KeyboardInterrupt" in errors
    done = path.read_bytes().count(b'"question"')
    assert 6 <= done < 200
    asked = []

    def quick(question):
        asked.append(question.id)
        return right(question)

    assert run({"slow": quick}, questions(200), resume=path)["slow"].accuracy.value == 1.0
    assert len(asked) in (200 - done, 200 - done + 1)
