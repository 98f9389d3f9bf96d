"""The benchmark of INT8 runs and writes what its page shows; llama.cpp's programs are read where they are."""

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "benchmarks"
PICTURE = np.zeros((8, 8, 3), dtype=np.uint8)

BENCH = """
def number(flag):
    return int(sys.argv[sys.argv.index(flag) + 1])

assert sys.argv[sys.argv.index("-o") + 1] == "json"
sys.stderr.write("load_backend: loaded CPU backend\\n")
given = {"model_type": "glm4 9B Q8_0", "model_size": 9988000000, "n_threads": number("-t"), "avg_ts": 1.0}
prompt = given | {"n_prompt": number("-p"), "n_gen": 0, "samples_ns": [3000000000] * number("-r")}
answer = given | {"n_prompt": 0, "n_gen": number("-n"), "samples_ns": [500000000] * number("-r")}
print(json.dumps([prompt, answer]))
"""
MULTIMODAL = """
picture, = (sys.argv[n + 1] for n, word in enumerate(sys.argv) if word == "--image")
assert open(picture, "rb").read(4) == b"\\x89PNG"
sys.stderr.write('''encoding image slice...
image slice encoded in 4200 ms
decoding image batch 1/1, n_tokens_batch = 256
image decoded (batch 1/1) in 3900 ms

llama_perf_context_print:        load time =    9000.25 ms
llama_perf_context_print: prompt eval time =    4400.50 ms /   288 tokens (   15.28 ms per token)
llama_perf_context_print:        eval time =       0.00 ms /     1 runs   (    0.00 ms per token)
''')
print("The")
"""


@pytest.fixture
def bench_module(monkeypatch):
    """Modules of tests/bench, which find each other by being in one folder."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "bench")
    return importlib.import_module


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Nothing of llama.cpp is on PATH but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name, body):
        program = folder / name
        program.write_text(f"#!{sys.executable}\nimport json, sys\n{body}")
        program.chmod(0o755)

    return put


def beside(bench_module, **files):
    given = {"gguf": None, "mmproj": None} | files
    numbers = {"prompt": 288, "steps": 10, "threads": 2, "rounds": 3}
    return bench_module("llama").measure(picture=PICTURE, text="What?", **given, **numbers)


def test_absent_programs_say_so(bench_module, programs):
    assert beside(bench_module) == {"llama-bench": "not on PATH", "llama-mtmd-cli": "not on PATH"}


def test_programs_without_a_file_say_what_is_missing(bench_module, programs):
    programs("llama-bench", BENCH)
    programs("llama-mtmd-cli", MULTIMODAL)
    assert set(beside(bench_module).values()) == {"not given --gguf"}
    found = beside(bench_module, gguf=Path("model.gguf"))
    assert found["llama-mtmd-cli"] == "not given --mmproj"


def test_programs_are_run_and_read(bench_module, programs):
    programs("llama-bench", BENCH)
    programs("llama-mtmd-cli", MULTIMODAL)
    found = beside(bench_module, gguf=Path("model.gguf"), mmproj=Path("tower.gguf"))
    bench, asked = found["llama-bench"], found["llama-mtmd-cli"]
    assert (bench["model"], bench["model_bytes"], bench["threads"]) == ("glm4 9B Q8_0", 9988000000, 2)
    assert bench["prefill"] == {"seconds": 3.0, "fastest": 3.0, "slowest": 3.0}
    assert bench["decode"]["seconds"] == 0.05  # 500 ms for 10 tokens
    assert asked["prompt_tokens"] == 288
    assert asked["vision"]["seconds"] == 4.2
    assert asked["first_token"]["seconds"] == 8.6005


def test_a_program_that_fails_or_says_something_else_is_no_row(bench_module, programs):
    programs("llama-bench", "sys.exit(1)")
    with pytest.raises(subprocess.CalledProcessError):
        beside(bench_module, gguf=Path("model.gguf"))
    programs("llama-bench", BENCH)
    programs("llama-mtmd-cli", "print('no such model')")
    with pytest.raises(ValueError, match="no such model"):
        beside(bench_module, gguf=Path("model.gguf"), mmproj=Path("tower.gguf"))


def test_bars_are_met_from_their_bound_on(bench_module):
    bar = bench_module("int8_table").Bar
    least, most = bar("faster", ("a", "b"), 2.0), bar("points", ("a", "b"), 0.5, least=False)
    for value, faster, few in (
        (1.99, False, False),
        (2.0, True, False),
        (0.5, False, True),
        (-1.0, False, True),
    ):
        assert (least.met({"a": {"b": value}}), most.met({"a": {"b": value}})) == (faster, few)
    assert least.met({"a": {}}) is least.met({}) is None


def check(report, table):
    assert report["machine"]["threads"] >= 1
    for block in report["blocks"].values():
        for phase in ("vision", "first_token", "decode"):
            for cell in block[phase].values():
                assert 0 < cell["fastest"] <= cell["seconds"] <= cell["slowest"]
            for cell in block["ratios"][phase].values():
                check_ratio(cell)
        assert all(0 < share < 1.2 for share in block["share_of_bandwidth"].values())
    for found in report["together"].values():
        for part in ("decode", "end_to_end"):
            check_ratio(found[part])
            assert found[part]["alone_tokens_per_second"] > 0 < found[part]["together_tokens_per_second"]
    ways = report["memory"]["ways"].values()
    assert report["memory"]["gb_per_second"] == max(way["median"] for way in ways) > 0
    assert all(way["median"] <= way["fastest"] for way in ways)
    for found in report["weights"].values():
        assert 0 < found["bytes_read_by_a_decode_step"] < found["bytes_after"] < found["bytes_before"]
        assert "reference" not in found["kernels"]
    check_accuracy(report)
    assert report["bars"] == table.verdicts(report)


def check_ratio(cell):
    low, high = cell["quartiles"]
    assert 0 < low <= cell["ratio"] <= high


def check_accuracy(report):
    exact = report["tiny"]["float32"]
    for cell in report["tiny"].values():
        assert cell["questions"] == exact["questions"]
        assert cell["right"] == exact["right"] - cell["lost"] + cell["won"]
    logits = report["logits"]
    assert logits.keys() == {"int8", "w8a8", "bfloat16", "weights only", "one scale for all activations"}
    errors = {name: [cell["relative_error"] for cell in cells.values()] for name, cells in logits.items()}
    assert all(math.isfinite(error) and error > 0 for found in errors.values() for error in found)
    for kind in (
        0,
        1,
    ):  # what the schemes are for: no worse than rounding weights alone, and never torch's way
        weights, torch_way = errors["weights only"][kind], errors["one scale for all activations"][kind]
        assert errors["int8"][kind] == pytest.approx(weights, rel=0.05)
        # With 7 bits, on processors without VNNI, and rows of 64 numbers the two are not far apart.
        assert weights < errors["w8a8"][kind] < 0.9 * torch_way


@pytest.mark.slow
def test_quick_run_writes_the_report(tmp_path, bench_module):
    pytest.importorskip("transformers")
    command = [sys.executable, str(ROOT / "tests" / "bench" / "int8.py"), "--quick", "--threads", "1"]
    without = {**os.environ, "PATH": ""}
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, check=True, env=without
    )
    report = json.loads((tmp_path / "int8-cpu.json").read_text())
    check(report, bench_module("int8_table"))
    assert len(report["blocks"]) == 4
    assert all(bar["measured"] is not None for bar in report["bars"])
    assert set(report["llama.cpp"].values()) == {"not on PATH"}
    assert (tmp_path / "int8-cpu.txt").read_text().strip() == done.stdout.strip()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("int8*.json")), ids=lambda path: path.name)
def test_committed_report_is_well_formed_and_its_tables_show_it(path, bench_module):
    text, table = path.read_text(), bench_module("int8_table")
    report = json.loads(text)
    check(report, table)
    assert path.with_suffix(".txt").read_text() == table.tables(report)
    assert "/home" not in text
    assert "/root" not in text
