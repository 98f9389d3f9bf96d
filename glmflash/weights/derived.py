"""Named tensors and JSON values → one safetensors file that knows what it was derived from, and back."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from glmflash.errors import CheckpointError
from glmflash.weights.files import replacing
from glmflash.weights.shards import read_header

__all__ = ["Derived", "read_derived", "write_derived"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """What a derived file holds: tensors on the CPU, in memory of their own, and JSON values."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, object]


def write_derived(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, object],
    kind: str,
    version: int,
    fingerprint: str,
) -> Path:
    """Write what was derived from a model, in one piece or not at all.

    Args:
        path: Replaced once the new file is complete; its folder must exist.
        tensors: On any device. A copy of all of them is in memory while they are written.
        metadata: Values that JSON can hold.
        kind: What sort of file it is, such as "glmflash-encoded-image".
        version: Of that sort; readers refuse any other.
        fingerprint: What it was derived from; see `weights.fingerprint`.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(path)
    own = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
           for name, tensor in tensors.items()}  # fmt: skip
    header = {
        "kind": kind,
        "version": str(version),
        "fingerprint": fingerprint,
        "metadata": json.dumps(metadata, allow_nan=False, sort_keys=True),
    }
    content = save(own, metadata=header | {"sha256": _checksum(header, own)})
    with replacing(path) as file:
        file.write(content)
    return path


def read_derived(
    path: str | Path, *, kind: str, version: int, fingerprint: str, required: Iterable[str] = ()
) -> Derived:
    """Read what `write_derived` wrote, if all of it is as it was written, and derived from this model.

    Args:
        path: The file.
        kind: As it was written, like `version` and `fingerprint`.
        version: See there.
        fingerprint: See there.
        required: Names of tensors that must be in it.

    Raises:
        CheckpointError: If the file is not there, not of this kind or version, of another model, or damaged.
    """
    path = Path(path)
    problems = [] if path.is_file() else [f"{path.name}: no such file"]
    names = [] if problems else [stored.name for stored in read_header(path, problems)]
    if problems:
        raise CheckpointError(f"{path}: {'; '.join(problems)}")
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            stored = header.pop("sha256", None)
            # first: what is no such file may be a model of many gigabytes
            _check_header(path, header, kind=kind, version=version, fingerprint=fingerprint)
            # cloned, so that what is checked is what is used, whatever becomes of the file
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except SafetensorError:  # a dtype that torch has not, or the file was changed meanwhile
        raise CheckpointError(f"{path}: holds what cannot be read; make it anew") from None
    if stored != _checksum(header, tensors):
        raise CheckpointError(f"{path}: the checksum is wrong, so the file is damaged; make it anew")
    if missing := sorted(set(required) - tensors.keys()):
        raise CheckpointError(f"{path}: {', '.join(missing)} missing; make it anew")
    return Derived(tensors, _parse(path, header.get("metadata", "")))


def _check_header(
    path: Path, header: Mapping[str, str], *, kind: str, version: int, fingerprint: str
) -> None:
    if header.get("kind") != kind:
        found = header.get("kind", "another program's file")
        raise CheckpointError(f"{path}: is {found!r:.80}; needed here: {kind!r}")
    if header.get("version") != str(version):
        raise CheckpointError(
            f"{path}: has version {header.get('version')!r:.20} of {kind}; this glmflash reads {version}:"
            " make it anew"
        )
    if header.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{path}: was made by another model, dtype or preprocessing; make it anew with this one"
        )


def _checksum(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of everything in the file that means something."""
    state = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        state.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def _parse(path: Path, text: str) -> Mapping[str, object]:
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, Mapping):
        raise CheckpointError(f"{path}: its metadata is not a JSON object; make it anew")
    return metadata
