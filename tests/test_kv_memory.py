"""Memory: what is said, what there is, and what fits."""

import os
from pathlib import Path

import pytest
import torch

from glmflash.errors import ParameterError
from glmflash.kv import auto_memory, available_memory, count_blocks, parse_memory

GIB = 2**30


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("auto", None),
        (0, 0),
        (12345, 12345),
        ("4 GiB", 4 * GIB),
        ("4GiB", 4 * GIB),
        (" 4 gib ", 4 * GIB),
        ("0.5 GiB", GIB // 2),
        ("512MB", 512_000_000),
        ("512 MiB", 512 * 2**20),
        ("3 kB", 3000),
        ("3 KiB", 3072),
        ("1 TB", 10**12),
        ("1 TiB", 2**40),
        ("17 B", 17),
    ],
)
def test_amounts(value, expected):
    assert parse_memory(value) == expected


NUMBERS = [-1, True, False, None, 1.5]
NO_UNIT = ["", "4", "GiB", "-4 GiB", "4 G", "4 PB", "4 gb/s", "4 GiB x", b"4 GiB", "AUTO "]
NO_NUMBER = ["1e3 MB", "4,5 GB", "nan GB", "inf GB", "٤ GB", "1" * 40 + " GB"]


@pytest.mark.parametrize("value", NUMBERS + NO_UNIT + NO_NUMBER)
def test_nonsense_is_refused(value):
    with pytest.raises(ParameterError, match=r'^kv_memory: is .*; allowed: bytes, .*"4 GiB", or "auto"'):
        parse_memory(value)


def test_an_error_names_the_parameter():
    with pytest.raises(ParameterError, match="vision_memory: is 'lots'"):
        parse_memory("lots", parameter="vision_memory")


def test_blocks_that_fit():
    assert count_blocks(1000, block_bytes=100) == 10
    assert count_blocks(199, block_bytes=100) == 1
    with pytest.raises(
        ParameterError, match="kv_memory: is 99 bytes; 100 is the least, a block of 16 tokens"
    ):
        count_blocks(99, block_bytes=100)


# --- what is available

MEMINFO = "MemTotal: 16777216 kB\nMemFree: 1048576 kB\nMemAvailable: 8388608 kB\nBuffers: 1 kB\n"


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_a_limit_it_is_what_the_system_says(tmp_path):
    assert available_memory(system(tmp_path, {"proc/meminfo": MEMINFO})) == 8 * GIB


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"job/memory.max": str(3 * GIB), "job/memory.current": str(GIB)}, 2 * GIB),
        ({"job/memory.max": "max", "job/memory.current": str(GIB)}, 8 * GIB),
        ({"job/memory.max": str(99 * GIB), "job/memory.current": str(GIB)}, 8 * GIB),
        ({"job/memory.max": str(GIB), "job/memory.current": str(2 * GIB)}, 0),
        # A group above may allow less, and only the group mounted as the top may be visible.
        ({"memory.max": str(5 * GIB), "memory.current": str(4 * GIB), "job/memory.max": "max"}, GIB),
        ({"memory.max": str(5 * GIB), "memory.current": "0"}, 5 * GIB),
        (
            {
                "job/memory.max": str(3 * GIB),
                "job/memory.current": str(2 * GIB),
                "job/memory.stat": f"anon 5\nfile 7\ninactive_file {GIB}\n",
            },
            2 * GIB,
        ),
        ({"job/memory.max": "", "job/memory.current": "?"}, 8 * GIB),
    ],
)
def test_a_container_has_what_its_limit_leaves(tmp_path, limits, expected):
    files = {f"sys/fs/cgroup/{name}": text for name, text in limits.items()}
    files |= {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/job\n"}
    assert available_memory(system(tmp_path, files)) == expected


def test_limits_of_older_systems_count_too(tmp_path):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n1:name=systemd:/\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(3 * GIB),
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": str(2 * GIB),
        "sys/fs/cgroup/memory/job/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}\n",
        "sys/fs/cgroup/cpu/memory.max": "1",
    }
    assert available_memory(system(tmp_path, files)) == 2 * GIB


def test_elsewhere_it_is_half_of_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(
        os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__, raising=False
    )
    assert available_memory(tmp_path) == 2_048_000
    monkeypatch.delattr(os, "sysconf")
    assert available_memory(tmp_path) == 4 * GIB


def test_auto_takes_a_part():
    before = available_memory()
    assert 0 < auto_memory("cpu") < before // 2


def test_auto_on_a_gpu_takes_a_part_of_what_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GIB, 16 * GIB))
    assert auto_memory(torch.device("cuda", 0)) == 8 * GIB
