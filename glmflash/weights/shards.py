"""A folder of safetensors files → what tensors it holds, read from the headers alone."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from glmflash.confined import Refused, check_plain, tidy
from glmflash.errors import ConfigError
from glmflash.fields import read_json

__all__ = ["INDEX_FILE", "SINGLE_FILE", "StoredTensor", "read_header", "read_headers"]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# Bytes: the format allows 100 MB, which would take a gigabyte to parse; this is enough for 30,000 tensors.
_LONGEST_HEADER = 2**22


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as a file declares it; `dtype` as safetensors spells it, `num_bytes` on disk."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int

    def __str__(self) -> str:
        return f"{tidy(self.path.name, 80)}: {tidy(self.name, 160)}"


def read_headers(folder: Path, problems: list[str]) -> list[StoredTensor]:
    """List the tensors of a single-file or sharded checkpoint.

    Args:
        folder: The checkpoint.
        problems: Appended to, one line for each thing that is wrong, so that all can be reported together.
    """
    if (folder / SINGLE_FILE).exists() or not (folder / INDEX_FILE).exists():
        path = _inside(folder, SINGLE_FILE, problems)
        return read_header(path, problems) if path else []
    weight_map = _read_index(folder, problems)
    paths = {name: _inside(folder, name, problems) for name in sorted(set(weight_map.values()))}
    tensors = [tensor for path in paths.values() if path for tensor in read_header(path, problems)]
    readable = {tensor.path.name for tensor in tensors}
    problems += _disagreements(weight_map, tensors, readable)
    return tensors


def _read_index(folder: Path, problems: list[str]) -> dict[str, str]:
    try:
        weight_map = read_json(folder / INDEX_FILE).get("weight_map")
    except ConfigError as error:
        problems.append(str(error))
        return {}
    if not isinstance(weight_map, Mapping) or not all(
        isinstance(value, str) for value in weight_map.values()
    ):
        problems.append(f"{INDEX_FILE}: weight_map is not an object of tensor names and file names")
        return {}
    return dict(weight_map)


def _disagreements(
    weight_map: Mapping[str, str], tensors: Iterable[StoredTensor], readable: set[str]
) -> Iterable[str]:
    """Where the index and the headers of the files that could be read contradict each other."""
    found = {(tensor.name, tensor.path.name) for tensor in tensors}
    listed = set(weight_map.items())
    for name, file in sorted(listed - found):
        if file in readable:
            yield f"{file}: {name}: {INDEX_FILE} says that it is here, but it is not"
    for name, file in sorted(found - listed):
        yield f"{file}: {name}: here, but {INDEX_FILE} does not say so"


def _inside(folder: Path, name: str, problems: list[str]) -> Path | None:
    """The path of a file of the folder, if that is what `name` names: no way out, no pipe, no device."""
    if name != Path(name).name or "\\" in name or "\0" in name or not name.endswith(".safetensors"):
        problems.append(f"{INDEX_FILE}: {name!r:.80} is not the name of a safetensors file in this folder")
        return None
    try:
        check_plain(folder / name)
    except Refused as error:
        problems.append(f"{name}: {error}")
        return None
    return folder / name


def read_header(path: Path, problems: list[str]) -> list[StoredTensor]:
    """List the tensors of one file.

    Args:
        path: The file.
        problems: As for `read_headers`.
    """
    try:
        entries = _parse_header(path, problems)
        with safe_open(path, framework="pt"):  # also checks that data_offsets and file length agree
            return [_stored(path, name, entry) for name, entry in entries if name != "__metadata__"]
    except Refused as error:
        problems.append(f"{path.name}: {error}")
    except OSError as error:
        problems.append(f"{path.name}: cannot be read ({error.strerror})")
    except (SafetensorError, ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
        problems.append(f"{path.name}: is not a safetensors file, or is damaged; copy or download it again")
    return []


def _parse_header(path: Path, problems: list[str]) -> list[tuple[str, dict[str, object]]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise ValueError("header longer than the file")
        if length > _LONGEST_HEADER:
            raise Refused(f"has a header of {length} bytes; allowed: at most {_LONGEST_HEADER}")
        # Pairs, not a dict: a key that stands twice would silently win over the first.
        pairs = json.loads(file.read(length), object_pairs_hook=tuple)
    entries = [(str(name), dict(entry)) for name, entry in pairs]
    seen: set[str] = set()
    for name, _ in entries:
        if name in seen:
            problems.append(f"{path.name}: {tidy(name, 160)}: stands twice in this file")
        seen.add(name)
    return entries


def _stored(path: Path, name: str, entry: Mapping[str, object]) -> StoredTensor:
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list):
        raise TypeError("shape and data_offsets are lists")
    begin, end = map(int, offsets)
    return StoredTensor(path, name, str(entry["dtype"]), tuple(map(int, shape)), end - begin)
