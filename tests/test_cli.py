"""The command line: what is printed where, and how it exits."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import glmflash
from glmflash import Pipeline
from glmflash.cli import main
from glmflash.weights import save_pretrained
from glmflash.weights.load import load_model

ASK = ["ask", "What is the total?", "--max-new-tokens", "4"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "a.png"
    Image.linear_gradient("L").convert("RGB").resize((112, 84)).save(path)
    return path


@pytest.fixture(scope="module")
def answer(picture: Path) -> str:
    with Pipeline.from_pretrained("tiny", progress=False) as pipe:
        return pipe("What is the total?", images=picture, max_new_tokens=4).text


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_the_answer_and_nothing_else_goes_to_standard_output(capsys, picture, answer, stream) -> None:
    assert main([*ASK, "--image", str(picture), stream]) == 0
    printed = capsys.readouterr()
    assert printed.out == answer + "\n"
    assert printed.err == ""


def test_the_question_can_come_from_standard_input(capsys, monkeypatch, picture, answer) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is the total?\n"))
    assert main(["ask", "tiny", "-", *ASK[2:], "--image", str(picture)]) == 0
    assert capsys.readouterr().out == answer + "\n"


@pytest.mark.parametrize("written", [True, False], ids=["output", "input"])
def test_an_encoding_that_does_not_fit_is_one_line(capsys, monkeypatch, written) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="ascii")
    monkeypatch.setattr(sys, "stdout" if written else "stdin", narrow)
    if written:
        monkeypatch.setattr(sys.modules["glmflash.cli.main"], "ask", lambda _: sys.stdout.write("总计"))
    assert main(["ask", "-"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("glmflash: Unicode")
    assert printed.err.count("\n") == 1


def test_json_holds_what_a_program_wants(capsys, picture, answer, tmp_path) -> None:
    drawn = tmp_path / "drawn.png"
    words = [*ASK, "--image", str(picture), "--json", "--stream", "--draw", str(drawn), "--quantize", "int8"]
    assert main([*words, "--temperature", "0", "--seed", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        "text", "thinking", "finish_reason", "boxes", "tool_calls", "usage", "timings"
    ]  # fmt: skip
    assert found["usage"]["completion"] <= 4
    assert isinstance(found["text"], str)
    with Image.open(drawn) as opened:
        assert opened.size == (112, 84)


def test_thinking_goes_to_standard_error(capsys, picture) -> None:
    for stream in ("--stream", "--no-stream"):
        assert main([*ASK[:2], "--image", str(picture), "--thinking", "--max-new-tokens", "12", stream]) == 0
        assert capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["ask", "Hi", "--image", "no/such.png"], "ImageError"),
        (["ask", "no/such/folder", "Hi"], "DownloadError"),
        (["ask", "Hi", "--temperature", "-1"], "ParameterError"),
        (["plan", "tiny", "--context", "0"], "ParameterError"),
        (["plan", "tiny", "--memory", "much"], "ParameterError"),
        (["info", "no/such/folder"], "DownloadError"),
    ],
)
def test_an_error_is_one_line(capsys, words, kind) -> None:
    assert main(words) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf"glmflash: {kind}: .+\n", printed.err)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["ask"],
        ["guess", "tiny"],
        ["ask", "what", "is", "this"],
        ["ask", "Hi", "--draw", "a.png"],
        ["ask", "Hi", "--image", "a.png", "--draw", "a.txt"],
        ["ask", "Hi", "--quantize", "int3"],
        ["plan"],
    ],
)
def test_wrong_words_exit_with_2(capsys, words) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: glmflash" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["ask", "--help"], ["plan", "--help"], ["--version"]])
def test_help_and_version(capsys, words) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert "glmflash" in capsys.readouterr().out


def test_a_plan_is_the_plan(capsys) -> None:
    assert main(["plan", "tiny", "--context", "512", "--memory", "1 GB", "--kv-dtype", "int8"]) == 0
    plan = Pipeline.plan("tiny", context=512, memory="1 GB", kv_dtype="int8")
    assert capsys.readouterr().out == f"{plan}\n"


def test_info_knows_sizes_files_and_tokenizer_without_reading_weights(capsys, monkeypatch) -> None:
    monkeypatch.setattr("glmflash.weights.load.read_into", None)
    assert main(["info", "tiny"]) == 0
    printed = capsys.readouterr().out
    model = load_parameters()
    assert re.search(rf"parameters +{model:,}\n", printed)
    assert "model.safetensors" in printed
    assert "724 tokens, 36 of them control tokens" in printed


def load_parameters() -> int:
    from glmflash.weights.hub import resolve
    from glmflash.weights.layout import build_on_meta
    from glmflash.weights.load import load_config

    return sum(one.numel() for one in build_on_meta(load_config(resolve("tiny"))).parameters())


def test_info_shows_the_card_of_a_quantised_checkpoint(capsys, tmp_path) -> None:
    save_pretrained(load_model("tiny", quantize="int8", progress=False), tmp_path, source="tiny")
    assert main(["info", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"INT8 +49 layers", printed)
    counts = re.findall(r"quantised .* x ([0-9]+), int8, .* error 0\.[0-9]+ %", printed)
    assert sum(map(int, counts)) == 49


def test_an_interrupt_exits_with_130(capsys, monkeypatch) -> None:
    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("glmflash.cli.ask.Pipeline.from_pretrained", interrupted)
    assert main(ASK) == 130
    assert capsys.readouterr().err == "\n"


def started(*words: str, **options: object) -> subprocess.Popen[str]:
    path = str(Path(glmflash.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "glmflash", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path}, **options,
    )  # fmt: skip


@pytest.mark.slow
def test_as_a_program_it_answers_into_a_pipe(picture, answer) -> None:
    out, err = started(*ASK, "--image", str(picture)).communicate(timeout=120)
    assert (out, err) == (answer + "\n", "")


@pytest.mark.slow
def test_nobody_reading_is_no_error(picture) -> None:
    process = started(*ASK, "--image", str(picture))
    process.stdout.close()
    process.stdout = None
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 141


@pytest.mark.slow
def test_ctrl_c_while_it_answers_leaves_no_traceback() -> None:
    words = ("ask", "Hi", "--max-new-tokens", "4000", "--stream", "--temperature", "1.9", "--seed", "1")
    process = started(*words)
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, 0)  # it may have been done
    assert "Traceback" not in err
