"""F2 and B3, downloads: one copy, of one commit, whole; from a hub on this machine."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import hub_downloads
import pytest


def downloads(checkpoint: Path, points: int) -> list[dict]:
    command = [sys.executable, hub_downloads.__file__, str(checkpoint), str(points)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=280).stdout
    return [json.loads(line) for line in out.splitlines()]


def assert_right(checkpoint: Path, points: int) -> None:
    together, cut = downloads(checkpoint, points)
    assert together["codes"] == [0] * 4
    assert (together["folders"], together["commit"]) == (1, "a" * 40)
    assert together["right"]
    assert together["copies"]
    # The lowest version that is admitted does not go on by itself: then the next call does.
    errors = points if version("huggingface-hub").startswith("1.0.") else 0
    assert (cut["resumed"], cut["errors"]) == (points, errors)
    assert cut["right"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_four_processes_at_once_and_a_connection_that_is_cut(nano_checkpoint: Path) -> None:
    assert_right(nano_checkpoint, 1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_connection_that_is_cut_at_twenty_places(nano_checkpoint: Path) -> None:
    assert_right(nano_checkpoint, 20)
