"""The scripts of examples/ do what they say, on the embedded model."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_conversation_reuses_what_was_said(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    load(EXAMPLES / "conversation.py").main()
    printed = capsys.readouterr().out
    assert "prompt tokens reused" in printed
    assert "8 receipts in" in printed


@pytest.mark.slow
def test_int8_compares_three_ways_and_loads_what_it_saved(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    load(EXAMPLES / "int8.py").main()
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines() if ", first token" in line] == [
        "float", "int8", "w8a8"
    ]  # fmt: skip
    assert printed.count("49 layers in INT8") == 2
    assert "<Card: 49 INT8 layers" in printed


@pytest.mark.slow
def test_quickstart_asks_three_questions_and_draws_the_answer(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script adds its own folder
    load(EXAMPLES / "quickstart.py").main(folder=tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("?\n") == 3
    assert printed.count("prompt tokens") == 3
    assert "in pixels: " in printed
    with (
        Image.open(tmp_path / "quickstart-boxes.png") as drawn,
        Image.open(tmp_path / "quickstart-receipt.png"),
    ):
        assert drawn.size[0] >= 4 * 140


@pytest.mark.slow
def test_extract_reads_the_receipt_and_doubts_the_blurred_one(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    load(EXAMPLES / "extract.py").main()
    printed, clean, fields, blurred, doubted = capsys.readouterr().out.splitlines()
    assert clean.startswith("clean: Receipt(vendor=")
    assert all(text in clean for text in printed.removeprefix("printed: ").split(", "))
    assert blurred.startswith("blurred: Receipt(")
    sure, less_sure = (float(line.rpartition("(")[2].partition(" %")[0]) for line in (fields, doubted))
    assert sure > less_sure


@pytest.mark.slow
def test_tools_shows_a_receipt_and_reads_it(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    load(EXAMPLES / "tools.py").main()
    call, total = capsys.readouterr().out.splitlines()
    assert call == "show{'n': 3}"
    assert total == "55.47"


@pytest.mark.slow
def test_evaluate_tells_good_systems_from_bad_ones(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    load(EXAMPLES / "evaluate.py").main(str(tmp_path / "report.html"), step=24)
    printed = capsys.readouterr().out
    assert "few pixels FAILS" in printed
    assert "guess FAILS" in printed
    assert printed.count(" passes: ") == 3
    assert "data:image/png" in (tmp_path / "report.html").read_text()
