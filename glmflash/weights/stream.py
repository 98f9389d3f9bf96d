"""Tensors that are made one by one → a safetensors file, with one of them in memory at a time."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from glmflash.weights.files import creating
from glmflash.weights.manifest import TensorRecord, checksum
from glmflash.weights.trim import give_memory_back

__all__ = ["Entry", "write_stream"]

_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor to be written.

    Args:
        name: In the file.
        dtype: Of floats or whole numbers.
        shape: Its shape.
        make: Gives it, on any device; called once.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) * self.dtype.itemsize


def write_stream(path: Path, entries: Sequence[Entry]) -> dict[str, TensorRecord]:
    """Write a safetensors file tensor by tensor; the library's own writer takes all of them at once.

    Args:
        path: The file; made anew.
        entries: In any order: wide dtypes go first, so that each lies at a multiple of its own size.

    Returns:
        Dtype, shape and checksum of each tensor, as written.

    Example:
        >>> import tempfile
        >>> from safetensors.torch import load_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     entry = Entry("a", torch.int8, (2,), lambda: torch.tensor([1, 2], dtype=torch.int8))
        ...     _ = write_stream(Path(folder) / "a.safetensors", [entry])
        ...     load_file(Path(folder) / "a.safetensors")["a"].tolist()
        [1, 2]

    Source: https://github.com/huggingface/safetensors, "Format".
    """
    ordered = sorted(entries, key=lambda entry: -entry.dtype.itemsize)
    records = {}
    with creating(path) as file:
        file.write(_header(ordered))
        for entry in ordered:
            tensor = entry.make().detach().cpu().contiguous()
            assert (tensor.dtype, tuple(tensor.shape)) == (entry.dtype, entry.shape), entry.name
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
            records[entry.name] = TensorRecord(_NAMES[entry.dtype], entry.shape, checksum(tensor))
            del tensor
            give_memory_back()
    return records


def _header(entries: Sequence[Entry]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        begin, end = end, end + entry.num_bytes
        header[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
