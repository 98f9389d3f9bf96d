"""The benchmarks run and write what their page explains; how fast is not asked here."""

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from glmflash.ops.int8 import choose_kernel

pytest.importorskip("transformers")

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "benchmarks"


def run_quickly(script, folder):
    command = [sys.executable, str(ROOT / "tests" / "bench" / script), "--quick", "--threads", "1"]
    done = subprocess.run([*command, "--out", str(folder)], capture_output=True, text=True, check=True)
    (path,) = folder.iterdir()
    return path.name, json.loads(path.read_text()), done.stdout


def check_model(report):
    assert report.keys() == {"machine", "work", "results"}
    assert report["machine"]["threads"] >= 1
    for cells in report["results"].values():
        for phase in ("vision", "prefill", "decode"):
            cell = cells[phase]
            low, high = cell["ratio_quartiles"]
            assert 0 < low <= cell["ratio"] <= high
            for side in ("glmflash", "transformers"):
                assert 0 < cell[side]["fastest"] <= cell[side]["seconds"] <= cell[side]["slowest"]
        assert cells["pipeline"]["first_token"] > cells["pipeline"]["prefill"] > 0
        assert all(math.isfinite(value) for value in cells["differences"].values())


def check_engine(report):
    assert report.keys() == {"machine", "work", "tiny", "results"}
    assert report["machine"]["threads"] >= 1
    check_cost(report["tiny"])
    for cells in report["results"].values():
        check_cost(cells["engine_cost"])
        for cell in cells.values():
            check_numbers(cell)
        tokens = cells["first_token"]["tokens_computed"]
        assert 0 < tokens["after_encode"] <= tokens["second"] < tokens["first"]  # what it is all about
        for turn in cells["session"].values():
            assert turn["computed"]["tokens"] <= turn["new_tokens"] < turn["computed_from_nothing"]["tokens"]
            assert turn["computed"]["patches"] < turn["computed_from_nothing"]["patches"]
        assert cells["session"]["third_turn"]["computed"]["patches"] == 0


def check_guided(report):
    assert report.keys() == {"machine", "work", "results"}
    assert report["machine"]["threads"] >= 1
    for cells in report["results"].values():
        for formats in cells.values():
            assert formats.keys() == {"none", "json_object", "json_schema", "regex"}
            check_numbers({name: cell["over_none"] for name, cell in formats.items()})
            assert all(0 < cell["engine_ms"] < cell["step_ms"] for cell in formats.values())
            assert formats["none"]["added"] == 0
            assert formats["none"]["over_none"]["ratio"] == 1


def check_watch(report):
    assert report.keys() == {"machine", "work", "results"}
    assert report["machine"]["threads"] >= 1
    for cell in report["results"].values():
        check_numbers(cell["request"])
        assert cell["spent_ms"].keys() == {"log", "prometheus", "opentelemetry", "scrape", "events"}
        assert all(spent > 0 for spent in cell["spent_ms"].values())
        assert cell["events"]["TokenGenerated"] == report["work"]["answer_tokens"]
        assert 0 < cell["share"] <= cell["share_most"] < 1
        low, high = cell["with_over_without"]["quartiles"]
        assert 0 < low <= cell["with_over_without"]["ratio"] <= high


def check_answers(report, least):
    assert report.keys() == {"machine", "work", "results"}
    assert report["machine"]["threads"] >= 1
    for cells in report["results"].values():
        assert cells.keys() >= {"memory", "sqlite"}
        for cell in cells.values():
            for name in ("miss", "hit"):
                low, high = cell[f"{name}_quartiles"]
                assert 0 < low <= cell[f"{name}_seconds"] <= high
            assert cell["ratio"] >= least
            assert cell["hits"] > 0


def check_decode(report):
    assert report.keys() == {"machine", "work", "results"}
    assert report["machine"]["threads"] >= 1
    cells = report["results"]["int8"]
    assert cells.keys() == {"modules", "one function", "step", "between"}
    for side in ("modules", "one function"):
        for cell in cells[side].values():
            low, high = cell["quartiles"]
            assert 0 < low <= cell["median"] <= high
        assert cells[side]["between_ms"]["median"] < cells[side]["step_ms"]["median"]
    check_numbers({name: cells[name] for name in ("step", "between")})


def check_kernels(report):
    assert report.keys() == {"machine", "work", "results"}
    for schemes in report["results"].values():
        assert schemes.keys() == {"int8", "w8a8"}
        for cells in (cells for counts in schemes.values() for cells in counts.values()):
            for name, cell in cells.items():
                low, high = cell["quartiles"]
                assert 0 < low <= cell["ratio" if "/" in name else "ms"] <= high


def check_cost(sizes):
    assert len(sizes) == 2
    for cell in sizes.values():
        low, high = cell["engine_share_quartiles"]
        assert 0 < low <= cell["engine_share"] <= high < 1
        assert 0 < cell["engine_ms_least"] <= cell["engine_ms"] < cell["step_ms"]


def check_numbers(cell):
    """Wherever there are seconds or ratios, they are in order."""
    for part in [one for one in cell.values() if isinstance(one, dict)]:
        if "fastest" in part:
            assert 0 < part["fastest"] <= part["seconds"] <= part["slowest"]
        elif "quartiles" in part:
            low, high = part["quartiles"]
            assert 0 < low <= part["ratio"] <= high
        else:
            check_numbers(part)


@pytest.mark.slow
def test_quick_run_of_the_model_writes_the_report(tmp_path):
    name, report, said = run_quickly("bench.py", tmp_path)
    assert name == "model-cpu.json"
    check_model(report)
    assert report["results"].keys() == {"float32", "bfloat16"}
    assert report["results"]["float32"]["differences"]["logits"] < 1e-5  # both did the same work
    assert report["results"]["float32"]["differences"]["tokens"] == 0
    assert "float32 decode" in said


@pytest.mark.slow
def test_quick_run_of_the_engine_writes_the_report(tmp_path):
    name, report, said = run_quickly("engine.py", tmp_path)
    assert name == "engine-cpu.json"
    check_engine(report)
    assert report["results"].keys() == {"float32"}
    exact = report["results"]["float32"]
    assert exact["first_token"]["same_token_as_transformers"] == 1
    assert all(turn["same_token"] for turn in exact["session"].values())
    assert "second over first" in said


@pytest.mark.slow
@pytest.mark.extras
def test_quick_run_of_formats_writes_the_report(tmp_path):
    pytest.importorskip("llguidance")
    name, report, said = run_quickly("guided.py", tmp_path)
    assert name == "guided-cpu.json"
    check_guided(report)
    assert "json_schema" in said


@pytest.mark.slow
@pytest.mark.extras
def test_quick_run_of_observers_writes_the_report(tmp_path):
    pytest.importorskip("prometheus_client")
    pytest.importorskip("opentelemetry.sdk")
    name, report, said = run_quickly("watch.py", tmp_path)
    assert name == "watch-cpu.json"
    check_watch(report)
    assert "in observers" in said


def test_observers_cost_less_than_a_hundredth():
    """What the page says of the committed figures."""
    report = json.loads((FOLDER / "watch-cpu.json").read_text())
    assert report["work"]["size"] == "flash-4+4"
    assert all(cell["share_most"] < 0.01 for cell in report["results"].values())


@pytest.mark.slow
def test_quick_run_of_answers_writes_the_report(tmp_path):
    name, report, said = run_quickly("answers.py", tmp_path)
    assert name == "answers-cpu.json"
    check_answers(report, least=1)
    assert "memory" in said


@pytest.mark.slow
def test_quick_run_of_the_decode_step_writes_the_report(tmp_path):
    if choose_kernel(torch.device("cpu")).name not in ("fbgemm", "onednn"):
        pytest.skip("the benchmark clocks kernels for x86 processors")
    name, report, said = run_quickly("decode_step.py", tmp_path)
    assert name == "decode-cpu.json"
    check_decode(report)
    assert "between products" in said


@pytest.mark.slow
def test_quick_run_of_the_kernels_writes_the_report(tmp_path):
    name, report, said = run_quickly("kernels.py", tmp_path)
    assert name == "kernels-cpu.json"
    check_kernels(report)
    assert list(report["results"]) == ["96x64"]
    assert choose_kernel(torch.device("cpu")).name in {"reference", *said.split()}


@pytest.mark.parametrize(
    "path",
    [
        FOLDER / "decode-cpu.json",
        FOLDER / "kernels-cpu.json",
        FOLDER / "watch-cpu.json",
        FOLDER / "answers-cpu.json",
        FOLDER / "guided-cpu.json",
        FOLDER / "engine-cpu.json",
        FOLDER / "model-cpu.json",
    ],
    ids=lambda path: path.name,
)
def test_committed_reports_are_well_formed_and_name_no_machine(path):
    text = path.read_text()
    checks = {"model": check_model, "engine": check_engine, "guided": check_guided, "watch": check_watch}
    checks["decode"], checks["kernels"] = check_decode, check_kernels
    checks["answers"] = partial(check_answers, least=100)
    checks[path.name.partition("-")[0]](json.loads(text))
    assert "/home" not in text
    assert "/root" not in text
