"""Freed memory goes back to the system, where the C library can."""

import ctypes
import subprocess
import sys

import pytest

from glmflash.weights import trim

SCRIPT = """
import torch
from glmflash.weights.trim import give_memory_back
def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
pieces = [torch.ones(4096) for _ in range(4000)]  # 16 KiB each, 64 MB in all
kept = pieces[::100]
held = anonymous()
del pieces[:], kept[20:]
give_memory_back()
assert held - anonymous() > 30_000, (held, anonymous())
"""


@pytest.mark.slow
@pytest.mark.skipif(trim._malloc_trim() is None, reason="needs glibc")
def test_what_lies_between_pieces_in_use_goes_back() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_another_c_library_keeps_it(monkeypatch, error) -> None:
    def missing(_: object) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert trim._malloc_trim.__wrapped__() is None
