"""Fuzzing: what was found once stays found, and every target still runs; `nox -s fuzz` searches for more."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmflash import ParameterError

HERE = Path(__file__).parent / "fuzz"
NAMES = (
    "picture", "data_url", "clip", "url", "chat", "body", "item", "answer", "folder", "derived",
    "cached_answer", "schema", "regex", "response_format", "extraction",
)  # fmt: skip
FOUND = sorted(path for path in (HERE / "corpus").rglob("*") if path.is_file() and path.suffix != ".md")


@pytest.fixture(scope="module")
def targets() -> Iterator[dict]:
    sys.path.insert(0, str(HERE))
    yield importlib.import_module("targets").TARGETS
    sys.path.remove(str(HERE))


def target(targets: dict, name: str):
    if targets[name].needs:
        pytest.importorskip(targets[name].needs)
    return targets[name]


def test_every_target_is_tried(targets) -> None:
    assert set(targets) == set(NAMES)
    assert {path.parent.name for path in FOUND} <= set(NAMES)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_is_mended(path, targets) -> None:
    edits = importlib.import_module("edits")
    one = target(targets, path.parent.name)
    one.run(edits.from_bytes(path.read_bytes(), raw=one.raw))


def test_what_goes_wrong_is_made_small_and_kept(targets, tmp_path, monkeypatch, capsys) -> None:
    fuzz, kinds = importlib.import_module("fuzz"), importlib.import_module("targets")
    monkeypatch.setattr(fuzz, "CORPUS", tmp_path)
    monkeypatch.setattr(fuzz, "HERE", tmp_path)

    def run(value: bytes) -> None:
        if len(value) > 3:
            raise KeyError("not typed")

    wrong = kinds.Target(st.binary, run, raw=True)
    assert not fuzz.fuzz("wrong", wrong, 5, 0)
    (kept,) = (tmp_path / "wrong").iterdir()
    assert kept.read_bytes() == bytes(4)
    assert "KeyError" in capsys.readouterr().err
    assert fuzz.fuzz("right", kinds.Target(st.binary, len, raw=True), 0.1, 0)


@pytest.mark.parametrize(
    "error", [KeyError("x"), ParameterError("x", "is at 0x7f00deadbeef"), ParameterError("x", "y" * 600)]
)
def test_only_errors_that_are_meant_pass(error, targets) -> None:
    only = importlib.import_module("targets").only
    with pytest.raises((KeyError, AssertionError)), only(ParameterError):
        raise error
    with only(ParameterError):
        raise ParameterError("x", "is wrong")


@pytest.mark.parametrize("name", NAMES)
def test_a_few_inputs_of_each_target(name, targets) -> None:
    one = target(targets, name)

    @settings(max_examples=15, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(one.values())
    def run(value) -> None:
        one.run(value)

    run()
