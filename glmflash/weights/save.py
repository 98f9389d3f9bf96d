"""Named tensors → a folder in the layout of the hub: sharded safetensors, an index, the configs."""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from glmflash.confined import Refused, read_plain
from glmflash.errors import ParameterError
from glmflash.fields import read_json
from glmflash.model import Glm4v
from glmflash.shown import show
from glmflash.weights.files import creating
from glmflash.weights.hub import resolve
from glmflash.weights.manifest import MANIFEST_FILE, MANIFEST_KEY
from glmflash.weights.rescale import is_rescaled
from glmflash.weights.save_quantized import is_quantized, quantized_keys, write_quantized
from glmflash.weights.shards import INDEX_FILE, SINGLE_FILE
from glmflash.weights.staged import staged
from glmflash.weights.stream import Entry, write_stream

__all__ = ["save_pretrained", "write_checkpoint"]

_OWN_KEYS = ("torch_dtype", "quantization_config", MANIFEST_KEY)
_OWN_FILES = ("config.json", INDEX_FILE, MANIFEST_FILE)
_COMPANIONS = (".json", ".jinja", ".txt", ".md")
_LARGEST = 2**26  # bytes of one of them
_log = logging.getLogger(__name__)


def __dir__() -> list[str]:
    return __all__


def save_pretrained(
    model: Glm4v, folder: str | Path, *, source: str | Path, shard_bytes: int = 5_000_000_000
) -> Path:
    """Save a model so that `load_model`, and transformers, load it.

    INT8 layers are written as INT8, unpacked one by one, with a manifest: what it takes in memory beside the
    model is the largest layer. Such a folder is known by its config.json, and loads as it was saved; each
    tensor has a checksum there, so a file that was changed or cut is refused.

    Args:
        model: Its weights are written in their own dtype; tied embeddings are written once.
        folder: Made if it is not there. A checkpoint in it is replaced.
        source: The checkpoint to copy configs and tokenizer from (`dtype` is brought up to date).
        shard_bytes: Most bytes of tensors in one file.

    Raises:
        ParameterError: If `folder` or `shard_bytes` is nothing of the kind, or if weights were multiplied for
            float16 (see `weights.rescale`): config.json would not fit them.
    """
    if is_rescaled(model):
        raise ParameterError(
            "model", "has weights rescaled for float16; allowed: a model loaded as float32 or bfloat16"
        )
    folder = _named(folder)
    origin = resolve(source, local_files_only=True)
    embeddings = model.model.language_model.embed_tokens.weight
    tied = getattr(model.lm_head, "weight", None) is embeddings  # an INT8 head has its own
    config = {key: value for key, value in read_json(origin / "config.json").items() if key not in _OWN_KEYS}
    config["tie_word_embeddings"] = tied
    extra = dict(_companions(origin))
    if is_quantized(model):
        # The checkpoint's own: what is not INT8 was widened for this device, and may be narrower on the next.
        config |= {"dtype": model.config.dtype} | quantized_keys(model)
        return _save_quantized(model, folder, config, extra, tied, _checked(shard_bytes))
    config["dtype"] = str(model.dtype).removeprefix("torch.")
    tensors = model.state_dict()
    if tied:
        del tensors["lm_head.weight"]
    return write_checkpoint(folder, tensors.items(), config=config, extra=extra, shard_bytes=shard_bytes)


def _companions(origin: Path) -> Iterator[tuple[str, bytes]]:
    """Tokenizer, configs and texts; a link out of the folder could bring along what is nobody's business."""
    for path in sorted(origin.iterdir()):
        if path.suffix in _COMPANIONS and path.name not in _OWN_FILES:
            try:
                yield path.name, read_plain(path, most=_LARGEST)
            except Refused as error:
                _log.warning("%s is not copied: %s", path.name, error)


def _save_quantized(
    model: Glm4v,
    folder: Path,
    config: Mapping[str, object],
    extra: Mapping[str, bytes],
    tied: bool,
    shard_bytes: int,
) -> Path:
    with staged(folder) as stage:
        shards = write_quantized(stage, model, tied=tied, shard_bytes=shard_bytes)
        names = [[entry.name for entry in shard] for shard in shards]
        entries = [entry for shard in shards for entry in shard]
        size = sum(entry.num_bytes for entry in entries)
        _name_shards(stage, names, parameters=sum(math.prod(entry.shape) for entry in entries), size=size)
        _write_companions(stage, config, extra)
    return folder


def write_checkpoint(
    folder: str | Path,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    config: Mapping[str, object],
    extra: Mapping[str, bytes] | None = None,
    shard_bytes: int = 5_000_000_000,
) -> Path:
    """Write tensors as they come, shard by shard; no more than a shard and the next tensor is in memory.

    What fits into one file is written as model.safetensors, else there are numbered files and an index.
    All is written beside the old files first and moved when complete: a crash, a full disk or a power cut at
    any moment leaves the old checkpoint or the new one. Writers of one folder wait for each other.

    Args:
        folder: Made if it is not there.
        tensors: Names and tensors, in the order to store them.
        config: Contents of config.json.
        extra: Contents of further files by name, such as tokenizer.json.
        shard_bytes: Most bytes of tensors in one file; a larger tensor has a file for itself.

    Example:
        >>> import tempfile, torch
        >>> tensors = {"a": torch.ones(2), "b": torch.ones(3)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_checkpoint(folder, tensors.items(), config={}, shard_bytes=8)
        ...     sorted(file.name for file in path.glob("model-*"))
        ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """
    folder = _named(folder)
    shard_bytes = _checked(shard_bytes)
    with staged(folder) as stage:
        _write_shards(stage, tensors, shard_bytes)
        _write_companions(stage, config, extra or {})
    return folder


def _named(folder: str | Path) -> Path:
    """Nothing given is not the current folder: what lies there would be written over."""
    given: object = folder
    if not isinstance(given, str | os.PathLike) or not os.fspath(given) or "\0" in str(given):
        raise ParameterError("folder", f"is {show(given)}; allowed: the path of a folder")
    return Path(given)


def _checked(shard_bytes: int) -> int:
    given: object = shard_bytes
    if not isinstance(given, int) or isinstance(given, bool) or given <= 0:
        raise ParameterError("shard_bytes", f"is {show(given)}; allowed: whole bytes, more than 0")
    return given


def _write_companions(stage: Path, config: Mapping[str, object], extra: Mapping[str, bytes]) -> None:
    _write_json(stage / "config.json", config)
    for name, content in extra.items():
        with creating(stage / name) as file:
            file.write(content)


def _write_shards(stage: Path, tensors: Iterable[tuple[str, Tensor]], shard_bytes: int) -> None:
    shards: list[list[str]] = []
    total_bytes = parameters = 0
    for shard in _shards(tensors, shard_bytes):
        total_bytes += sum(tensor.nbytes for tensor in shard.values())
        parameters += sum(tensor.numel() for tensor in shard.values())
        shards.append(list(shard))
        write_stream(stage / f"{len(shards)}.safetensors", [_entry(*named) for named in shard.items()])
        shard.clear()
    _name_shards(stage, shards, parameters=parameters, size=total_bytes)


def _entry(name: str, tensor: Tensor) -> Entry:
    return Entry(name, tensor.dtype, tuple(tensor.shape), partial(Tensor.detach, tensor))


def _name_shards(stage: Path, shards: list[list[str]], *, parameters: int, size: int) -> None:
    """Call 1.safetensors and so on what the hub calls them, and write the index; names per file."""
    if len(shards) == 1:
        (stage / "1.safetensors").rename(stage / SINGLE_FILE)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        (stage / f"{number}.safetensors").rename(stage / file)
        weight_map |= dict.fromkeys(names, file)
    metadata = {"total_parameters": parameters, "total_size": size}
    _write_json(stage / INDEX_FILE, {"metadata": metadata, "weight_map": weight_map})


def _shards(tensors: Iterable[tuple[str, Tensor]], shard_bytes: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor.detach().cpu().contiguous()
        size += tensor.nbytes
    yield shard


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    with creating(path) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
