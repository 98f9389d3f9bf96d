"""F1 to F3, C2 and C3: whatever lies in a checkpoint's folder, it loads right, or an error names the file.

Nothing in it is run, nothing outside of it is read, and no time or memory is lost over it.
"""

import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from malformed import CASES

from glmflash import Pipeline
from glmflash.errors import CheckpointError, ConfigError
from glmflash.testing import random_checkpoint
from glmflash.weights import load_model, save_pretrained

SMALL = {"text_config": {"num_hidden_layers": 1}, "vision_config": {"depth": 1}}
SECONDS, MEGABYTES, CHARACTERS = 5, 100, 400_000
# What code from a folder would show as, and what looks for it elsewhere.
RUNS = (
    "exec",
    "compile",
    "import",
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
)
REACHES = ("socket.connect", "socket.getaddrinfo", "urllib.Request")
_seen: list[tuple[str, str]] | None = None


def _audit(event: str, arguments: tuple) -> None:
    if _seen is not None and event in RUNS + REACHES:
        _seen.append((event, repr(arguments[:1])[:200]))


sys.addaudithook(_audit)  # for ever, so it does nothing unless it is asked to


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """What runs or reaches out meanwhile."""
    global _seen
    _seen = found = []
    try:
        yield found
    finally:
        _seen = None


@contextmanager
def bounded() -> Iterator[None]:
    """Neither long nor large."""
    linux = sys.platform == "linux"
    if linux:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmRSS")
    begin = time.process_time()  # on a busy machine too; what waits for ever meets the limit of all tests
    yield
    assert time.process_time() - begin < SECONDS
    if linux:
        assert memory("VmHWM") - before < MEGABYTES * 1000


def memory(key: str) -> int:
    """Kilobytes."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:")
    )
    return int(line.split()[1])


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("good") / "it", overrides=SMALL)


@pytest.fixture(scope="module")
def good_int8(tmp_path_factory, good: Path) -> Path:
    model = load_model(good, quantize="int8", device="cpu")
    return save_pretrained(model, tmp_path_factory.mktemp("int8") / "it", source=good)


def answer(folder: Path) -> tuple[int, ...]:
    with Pipeline.from_pretrained(folder, device="cpu") as pipe:
        return pipe("What is it?", max_new_tokens=4, temperature=0).token_ids


@pytest.fixture(scope="module")
def answers(good: Path, good_int8: Path) -> dict[bool, tuple[int, ...]]:
    """What the good ones say; and all that is imported once is."""
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):  # Python imports a codec when it meets it first
        "".encode(encoding)
    return {False: answer(good), True: answer(good_int8)}


def test_the_cases_are_many() -> None:
    assert len(CASES) > 200
    assert sum(case.says is None for case in CASES.values()) > 20


@pytest.mark.parametrize("name", CASES)
def test_malformed_checkpoints(name: str, good: Path, good_int8: Path, answers, tmp_path: Path) -> None:
    case = CASES[name]
    folder = shutil.copytree(good_int8 if case.int8 else good, tmp_path / "it")
    case.spoil(folder)
    with watched() as events, bounded():
        if case.says is None:
            assert answer(folder) == answers[case.int8]
        else:
            with pytest.raises((CheckpointError, ConfigError)) as caught:
                answer(folder)
    assert not events
    if case.says is not None:
        message = str(caught.value)
        assert re.search(case.says, message), message[:1000]
        assert len(message) < CHARACTERS
        assert all(len(line) < 600 and line.isprintable() for line in message.split("\n"))
        assert not re.search(r"0x[0-9a-f]{6,}", message)
