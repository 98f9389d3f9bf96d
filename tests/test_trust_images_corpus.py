"""Malformed pictures from the fuzzers of other projects: typed or decoded, quickly, in little memory."""

import base64
import csv
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from glmflash import DataUrl, InputPolicy
from glmflash.errors import ImageError
from glmflash.media import read

CHILD = """
import json, sys, time, warnings
from pathlib import Path
from glmflash import InputPolicy
from glmflash.errors import ImageError
from glmflash.media import read

warnings.simplefilter("ignore")  # Pillow's own, about metadata
policy = InputPolicy(formats=InputPolicy.trusted().formats)

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

for path in sorted(Path(sys.argv[1]).iterdir()):
    Path("/proc/self/clear_refs").write_text("5")
    before, began = memory("VmRSS"), time.process_time()
    try:
        outcome = str(read(path, policy=policy).shape)
    except ImageError as error:
        outcome = "refused"
    seconds = time.process_time() - began
    print(json.dumps([path.name, outcome, seconds, memory("VmHWM") - before]))
"""


@pytest.fixture(scope="module")
def outcomes(test_data) -> dict[str, str]:
    """What bare Pillow 13 does with each file."""
    table = (test_data / "data" / "hostile.tsv").read_text("utf-8")
    return {
        row["file"]: row["pillow_13_outcome"] for row in csv.DictReader(table.splitlines(), delimiter="\t")
    }


def answer(source, policy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, about metadata
        try:
            return read(source, policy=policy)
        except ImageError as error:
            return str(error)


@pytest.mark.slow
@pytest.mark.parametrize("tiff", [False, True])
def test_a1_to_a6_every_door_decodes_it_alike_or_is_typed(test_data, outcomes, tiff):
    policy = InputPolicy(formats=InputPolicy.trusted().formats) if tiff else InputPolicy()
    lost = []
    for name, outcome in outcomes.items():
        path = test_data / "data" / "hostile" / name
        data = path.read_bytes()
        url = DataUrl("data:image/png;base64," + base64.b64encode(data).decode())
        by_path, by_bytes, by_url = (answer(source, policy) for source in (path, data, url))
        if isinstance(by_path, str):
            for text in (by_path, by_bytes, by_url):
                assert isinstance(text, str)
                assert not re.search(r"0x[0-9a-f]{6,}", text)
                assert len(text) <= 500
                assert text.isascii()
            if outcome == "ok" and "found TIFF" not in by_path:
                lost.append((name, by_path))
        else:
            np.testing.assert_array_equal(by_path, by_bytes)
            np.testing.assert_array_equal(by_path, by_url)
    assert lost == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured there")
def test_a2_a3_each_is_quick_and_takes_little_memory(test_data):
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(test_data / "data" / "hostile")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    rows = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(rows) > 400
    assert max(seconds for *_, seconds, _ in rows) < 2
    assert max(peak for *_, peak in rows) < 300
