"""What the user says about memory, and what the device has → bytes, and blocks that fit into them."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from glmflash.errors import ParameterError
from glmflash.shown import show

__all__ = ["auto_memory", "available_memory", "count_blocks", "parse_memory"]


def __dir__() -> list[str]:
    return __all__


_MOST = 2**60  # bytes; no machine has as many
_UNITS = {"b": 1} | {
    f"{letter}{infix}b": base**power
    for power, letter in enumerate("kmgt", 1)
    for infix, base in (("", 1000), ("i", 1024))
}


def parse_memory(value: str | int, *, parameter: str = "kv_memory") -> int | None:
    """Bytes; None for "auto".

    Args:
        value: Bytes, or a number with a unit: kB, MB, GB, TB count in thousands, KiB, MiB, GiB, TiB in 1024s.
        parameter: What an error calls it.

    Raises:
        ParameterError: If it is none of that, negative, or more than any machine has.

    Example:
        >>> parse_memory("1.5 GiB"), parse_memory("512MB"), parse_memory(4096), parse_memory("auto")
        (1610612736, 512000000, 4096, None)
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST:
        return value
    if isinstance(value, str):
        if value == "auto":
            return None
        found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?([a-z]{1,3})", value.strip().lower(), re.ASCII)
        if found and found[2] in _UNITS and (size := int(float(found[1]) * _UNITS[found[2]])) < _MOST:
            return size
    raise ParameterError(parameter, f'is {show(value)}; allowed: bytes, a text like "4 GiB", or "auto"')


def auto_memory(device: torch.device | str) -> int:
    """Bytes that a cache may have when nobody says: never the whole device.

    A quarter of what is available now on a CPU, where others want memory too; four fifths of what is free on
    a GPU. Ask after the weights are loaded.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * 4 // 5
    return available_memory() // 4


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process could still take without swapping, within the limits of its container.

    Where a system does not say what is available, half of what it has; where it says nothing, 4 GiB.

    Args:
        root: Where `proc` and `sys` are.
    """
    available = _field(root / "proc/meminfo", "MemAvailable:")
    amounts = list(_left_by_cgroups(root)) + ([] if available is None else [available * 1024])
    if amounts:
        return max(min(amounts), 0)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):  # no such call, or no such name
        return 4 * 2**30


def count_blocks(memory: int, *, block_bytes: int, block_size: int = 16, parameter: str = "kv_memory") -> int:
    """Blocks that fit into so many bytes.

    Args:
        memory: Bytes to have.
        block_bytes: Bytes of one block.
        block_size: Tokens in a block; for the message.
        parameter: What an error calls the memory.

    Raises:
        ParameterError: If not even one fits; says how much it takes.

    Example:
        >>> count_blocks(2**30, block_bytes=655_360)
        1638
    """
    if memory < block_bytes:
        raise ParameterError(
            parameter, f"is {memory} bytes; {block_bytes} is the least, a block of {block_size} tokens"
        )
    return memory // block_bytes


def _left_by_cgroups(root: Path) -> Iterator[int]:
    """What each limit on the way from this process's group to the top leaves; version 2, then version 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        version_1 = "memory" in controllers.split(",")
        if controllers and not version_1:
            continue
        top = root / ("sys/fs/cgroup/memory" if version_1 else "sys/fs/cgroup")
        limit, usage, cache = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if version_1
            else ("memory.max", "memory.current", "inactive_file")
        )
        folder = top / group.lstrip("/")
        for place in (folder, *folder.parents):
            if not place.is_relative_to(top):
                break
            total, used = _field(place / limit), _field(place / usage)
            if total is not None and used is not None:
                # Cached files count as used, but are given up when memory is wanted.
                yield total - used + (_field(place / "memory.stat", cache) or 0)


def _field(path: Path, name: str = "") -> int | None:
    """The number behind a name, or the first one in a file; None if there is none ("max" is none)."""
    try:
        words = path.read_text().split()
        return int(words[words.index(name) + 1] if name else words[0])
    except (OSError, ValueError, IndexError):
        return None
