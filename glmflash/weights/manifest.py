"""What `save_pretrained` knows of a quantised model → quantization.json beside the weights, and back.

It holds a checksum of every tensor, so that a file that was changed or cut is noticed, and of each INT8 layer
what only the unquantised weights could tell. The checksum is CRC-32: it finds every flipped bit, and all but
one in four billion larger changes, in half the time of SHA-256 or less. It does not protect from forgery, nor
does any checksum that lies beside what it protects.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from glmflash.errors import CheckpointError, ConfigError
from glmflash.fields import read_json
from glmflash.quant import Card, LayerCard
from glmflash.weights.shards import StoredTensor

__all__ = [
    "MANIFEST_FILE",
    "MANIFEST_KEY",
    "Manifest",
    "TensorRecord",
    "checksum",
    "read_manifest",
]

#: The file, and the key of config.json that says that there is one.
MANIFEST_FILE, MANIFEST_KEY = "quantization.json", "quantization_manifest"
_FORMAT, _VERSION = "glmflash-quantized", 1
_REMEDY = "copy or save the checkpoint again"


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor as it was written: dtype as safetensors spells it, shape, CRC-32 of its bytes in digits."""

    dtype: str
    shape: tuple[int, ...]
    crc32: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What quantization.json says.

    Args:
        tensors: By name.
        layers: INT8 layers by name, as they were when they were saved.
    """

    tensors: Mapping[str, TensorRecord]
    layers: Mapping[str, LayerCard]

    def differences(self, stored: Iterable[StoredTensor]) -> list[str]:
        """What the headers of the files say otherwise, one line for each tensor."""
        found = {tensor.name: tensor for tensor in stored}
        lines = [
            f"{tensor}: is not in {MANIFEST_FILE}"
            for name, tensor in found.items()
            if name not in self.tensors
        ]
        for name, record in self.tensors.items():
            tensor = found.get(name)
            if tensor is None:
                lines.append(f"{name}: in {MANIFEST_FILE}, but in no file")
            elif (tensor.dtype, tensor.shape) != (record.dtype, record.shape):
                lines.append(
                    f"{tensor}: is {tensor.dtype} {list(tensor.shape)}, but {MANIFEST_FILE} says "
                    f"{record.dtype} {list(record.shape)}"
                )
        return lines

    def schemes_differ(self, schemes: Mapping[str, str]) -> list[str]:
        """Where config.json gives a layer another scheme, or one to another layer; one line for each."""
        own = {name: record.scheme for name, record in self.layers.items()}
        names = sorted(own.keys() | schemes.keys())
        none = "not INT8"
        return [
            f"{name}: is {own.get(name, none)} in {MANIFEST_FILE}, {schemes.get(name, none)} in the rest"
            for name in names
            if own.get(name) != schemes.get(name)
        ]

    @staticmethod
    def dump(tensors: Mapping[str, TensorRecord], card: Card) -> bytes:
        """The file's contents."""
        content: dict[str, object] = {
            "format": _FORMAT,
            "version": _VERSION,
            "card": card.to_dict(),
            "tensors": {name: asdict(record) for name, record in tensors.items()},
        }
        content["sha256"] = _digest(content)
        return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def checksum(tensor: Tensor) -> str:
    """CRC-32 of a tensor's bytes, in hexadecimal; it must be contiguous and on the CPU.

    Example:
        >>> checksum(torch.tensor([1, 2, 3], dtype=torch.uint8))
        '55bc801d'
    """
    return f"{zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data):08x}"


def read_manifest(folder: Path) -> Manifest | None:
    """Read quantization.json of a folder; None if there is none.

    Raises:
        CheckpointError: If it is damaged, or of another format or version.
        ConfigError: If it is not a JSON object, or its card is none.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        return None
    data = read_json(path)
    stored = data.pop("sha256", None)
    if data.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: format is {data.get('format')!r:.40}; expected {_FORMAT!r}: {_REMEDY}, or, if the "
            "weights are another program's, give the file another name"
        )
    if data.get("version") != _VERSION and stored == _digest(data):
        raise CheckpointError(
            f"{path}: has version {data.get('version')!r:.20}; this glmflash reads {_VERSION}: save it anew"
        )
    if stored != _digest(data):
        raise CheckpointError(f"{path}: the checksum is wrong, so the file was changed or damaged; {_REMEDY}")
    try:
        return _parse(data, str(path))
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, ConfigError):
            raise
        raise CheckpointError(f"{path}: does not hold what this version says; {_REMEDY}") from None


def _parse(data: Mapping[str, object], where: str) -> Manifest:
    card, tensors = data["card"], data["tensors"]
    if not isinstance(card, Mapping) or not isinstance(tensors, Mapping):
        raise TypeError("card and tensors are objects")
    records = {
        str(name): TensorRecord(str(entry["dtype"]), tuple(map(int, entry["shape"])), str(entry["crc32"]))
        for name, entry in tensors.items()
    }
    layers = Card.from_dict(card, where=f"{where}: card").layers
    return Manifest(records, {layer.name: layer for layer in layers})


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
