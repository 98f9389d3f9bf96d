"""glmflash evaluate: what it prints and writes, and how it exits."""

import pytest

from glmflash import RegressionError
from glmflash.cli import main
from glmflash.evaluate import Question, Report, write_questions
from glmflash.evaluate.tiny_benchmark import __file__ as beside


@pytest.fixture(scope="module")
def file() -> str:
    return beside.replace("tiny_benchmark.py", "tiny/questions.jsonl")


@pytest.mark.slow
def test_ways_are_compared_and_reports_written(capsys, file, tmp_path):
    words = ["evaluate", file, "--limit", "3", "--quantize", "none", "int8+kv", "--max-new-tokens", "96"]
    words += ["--resume", str(tmp_path / "j"), "--report", str(tmp_path / "a.html")]
    words += ["--report", str(tmp_path / "a.json"), "--max-drop", "5"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    report = Report.from_json((tmp_path / "a.json").read_text())
    assert [one.system for one in report.systems] == ["as stored", "int8+kv"]
    assert str(report) in printed
    assert "int8+kv passes" in printed
    assert "<svg" in (tmp_path / "a.html").read_text()
    lines = (tmp_path / "j").read_text().count("\n")
    assert main(words) == 0
    assert (tmp_path / "j").read_text().count("\n") == lines


@pytest.mark.slow
def test_a_drop_exits_with_1(capsys, tmp_path, monkeypatch):
    def fail(report, *, max_drop):
        assert max_drop == 0.01
        raise RegressionError("int8 FAILS", systems=["int8"])

    monkeypatch.setattr("glmflash.cli.evaluate.gate", fail)
    write_questions([Question(id="a", text="Hi", answers=("x",))], tmp_path / "q.jsonl")
    words = ["evaluate", str(tmp_path / "q.jsonl"), "--quantize", "none", "int8", "--max-drop", "1"]
    assert main([*words, "--max-new-tokens", "2"]) == 1
    assert capsys.readouterr().err == "glmflash: RegressionError: int8 FAILS\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--report", "a.pdf"],
        ["--report", "no/such/folder/a.html"],
        ["--limit", "0"],
        ["--limit", "-1"],
        ["--max-drop", "1"],
        ["--quantize", "none", "int8", "--max-drop", "101"],
        ["--quantize", "none", "int8", "--max-drop", "nan"],
        ["--quantize", "int4"],
        ["--quantize", "int8", "int8", "--max-drop", "1"],
    ],
)
def test_wrong_words_exit_with_2(capsys, file, words):
    with pytest.raises(SystemExit) as error:
        main(["evaluate", file, *words])
    assert error.value.code == 2


@pytest.mark.slow
def test_a_journal_of_another_way_to_load_is_refused(capsys, tmp_path):
    write_questions([Question(id="a", text="Hi", answers=("x",))], tmp_path / "q.jsonl")
    words = ["evaluate", str(tmp_path / "q.jsonl"), "--resume", str(tmp_path / "j"), "--max-new-tokens"]
    assert main([*words, "2"]) == 0
    assert main([*words, "2"]) == 0
    assert main([*words, "3"]) == 1
    assert main([*words, "2", "--dtype", "bfloat16"]) == 1
    assert "another system (source)" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_one_line(capsys, tmp_path):
    assert main(["evaluate", str(tmp_path / "none.jsonl")]) == 1
    assert capsys.readouterr().err.startswith("glmflash: QuestionError: ")
