"""A system at work → the bytes that it holds: weights, keys and values, this process, its card."""

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import nn

from glmflash.quant import card

__all__ = ["Memory", "device_bytes", "process_bytes", "reset_device_bytes", "weight_bytes"]

_STATUS = Path("/proc/self/statm")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes at most; None where nobody knows.

    Args:
        weights: Of the model, INT8 layers as they are held.
        kv: Of the blocks for keys and values.
        process: Of this process as a whole, other systems that are loaded included.
        device: Of the graphics card, since the system was opened.

    Example:
        >>> Memory(weights=5, kv=1).most(Memory(kv=3, process=9))
        Memory(weights=5, kv=3, process=9, device=None)
    """

    weights: int | None = None
    kv: int | None = None
    process: int | None = None
    device: int | None = None

    def most(self, other: "Memory") -> "Memory":
        """The larger of each."""
        pairs = {one.name: (getattr(self, one.name), getattr(other, one.name)) for one in fields(self)}
        known = {name: [size for size in pair if size is not None] for name, pair in pairs.items()}
        return Memory(**{name: max(sizes) for name, sizes in known.items() if sizes})


def weight_bytes(model: nn.Module) -> int:
    """Of all parameters and buffers, what is shared counted once."""
    return card(model).bytes_after


def process_bytes() -> int | None:
    """What this process has in memory now; None on systems that do not say."""
    try:
        pages = int(_STATUS.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize()


def reset_device_bytes(device: torch.device) -> None:
    """Begin to watch a card."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_bytes(device: torch.device) -> int | None:
    """Most bytes on a card since then."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
