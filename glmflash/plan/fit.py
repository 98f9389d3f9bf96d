"""A device → the bytes it has for us; and the refusal to read weights that cannot fit."""

import gc
from pathlib import Path

import torch

from glmflash.errors import CapacityError
from glmflash.kv.memory import available_memory
from glmflash.plan.parts import gib
from glmflash.plan.source import Source, is_damaged
from glmflash.plan.weights import Target, Weights
from glmflash.quant import QuantizationConfig

__all__ = ["device_memory", "require_room"]


def __dir__() -> list[str]:
    return __all__


def device_memory(device: torch.device) -> int:
    """Bytes that this process could still take there.

    On a CPU within the limits of the container; on a GPU with what PyTorch has reserved and does not use.

    Example:
        >>> device_memory(torch.device("cpu")) > 0
        True
    """
    if device.type != "cuda":
        return available_memory()
    free = torch.cuda.mem_get_info(device)[0]
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if torch.cuda.get_device_properties(device).is_integrated:  # its memory is the computer's
        return max(free, available_memory())
    return free


def require_room(
    folder: Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | QuantizationConfig | None = None,
    root: Path = Path("/"),
) -> None:
    """Refuse, before anything is read, a checkpoint whose weights cannot fit.

    Only weights are compared, with all that could be had for them, swap included: what fits by a hair is not
    refused, nor anything on a system that does not say how much it has.

    Args:
        folder: The checkpoint.
        device: As for `load_model`, and so are the next two.
        dtype: See above.
        quantize: See above.
        root: Where `proc` and `sys` are.

    Raises:
        CapacityError: If they cannot; says how much they take, and what would take less.

    Example:
        >>> from glmflash.weights import resolve
        >>> require_room(resolve("tiny"))
    """
    source = Source.find(folder)
    target = Target.choose(source, device=device, dtype=dtype, quantize=quantize)
    needed = Weights.of(source, target).nbytes
    room = _most(target.device, root)
    if room is None or needed <= room:
        return
    gc.collect()  # a model that nobody holds any more may still be in memory
    if target.device.type == "cuda":
        torch.cuda.empty_cache()
    room = _most(target.device, root)
    if room is not None and needed > room and not is_damaged(folder, source.config):
        raise CapacityError(
            f"the weights take {gib(needed)} as {_named(target)}, {target.device} has {gib(room)};"
            f" {_advice(source, target, dtype, room)}"
        )


def _most(device: torch.device, root: Path) -> int | None:
    """All that could be had; None where nobody knows."""
    if device.type == "cuda":
        return device_memory(device)
    if not (root / "proc/meminfo").is_file():
        return None
    words = (root / "proc/meminfo").read_text().split()
    swap = int(words[words.index("SwapFree:") + 1]) * 1024 if "SwapFree:" in words else 0
    return available_memory(root) + swap


def _named(target: Target) -> str:
    return target.scheme or str(target.dtype).removeprefix("torch.")


def _advice(source: Source, target: Target, dtype: str | torch.dtype, room: int) -> str:
    """What would fit, computed."""
    if not target.schemes:
        small = Target.choose(source, device=target.device, dtype=dtype, quantize="int8")
        needed = Weights.of(source, small).nbytes
        if needed <= room:
            return f'with quantize="int8" they take {gib(needed)}, which fits'
    return "free memory, or take a machine with more: `Pipeline.plan` says how much"
