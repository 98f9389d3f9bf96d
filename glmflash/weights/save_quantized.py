"""A model with INT8 layers → the files of a checkpoint, written layer by layer."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from glmflash.model import Glm4v
from glmflash.quant import QuantizedEmbedding, QuantizedLinear, card
from glmflash.weights.compressed import quantization_config
from glmflash.weights.files import creating
from glmflash.weights.jobs import HEAD
from glmflash.weights.manifest import MANIFEST_FILE, MANIFEST_KEY, Manifest, TensorRecord
from glmflash.weights.stream import Entry, write_stream

__all__ = ["is_quantized", "quantized_keys", "write_quantized"]


def __dir__() -> list[str]:
    return __all__


def is_quantized(model: nn.Module) -> bool:
    """Whether any layer is INT8."""
    return any(isinstance(module, QuantizedLinear | QuantizedEmbedding) for module in model.modules())


def quantized_keys(model: Glm4v) -> dict[str, object]:
    """What config.json says beside what it says of the network."""
    layers = list(model.named_modules())
    schemes = {name: layer.scheme for name, layer in layers if isinstance(layer, QuantizedLinear)}
    tables = any(isinstance(layer, QuantizedEmbedding) for _, layer in layers)
    ignore = [name for name, layer in layers if isinstance(layer, nn.Linear)]
    spelled = quantization_config(schemes, ignore=ignore, embeddings=tables)
    return {"quantization_config": spelled, MANIFEST_KEY: MANIFEST_FILE}


def write_quantized(folder: Path, model: Glm4v, *, tied: bool, shard_bytes: int) -> list[list[Entry]]:
    """Write weights, INT8 ones unpacked one by one, and the manifest.

    Args:
        folder: Written to as it is.
        model: Its layers are not changed.
        tied: Whether to leave out the head, which the embeddings stand for.
        shard_bytes: Most bytes of tensors in one file.

    Returns:
        What is in each of the files 1.safetensors and so on.
    """
    records: dict[str, TensorRecord] = {}
    entries = (entry for entry in _entries(model) if not (tied and entry.name == f"{HEAD}.weight"))
    shards = list(_shards(entries, shard_bytes))
    for number, shard in enumerate(shards, start=1):
        records |= write_stream(folder / f"{number}.safetensors", shard)
    with creating(folder / MANIFEST_FILE) as file:
        file.write(Manifest.dump(records, card(model)))
    return shards


def _entries(model: nn.Module) -> Iterator[Entry]:
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear | QuantizedEmbedding):
            scale = module.weight_scale[:, None]  # (O, 1)
            yield Entry(f"{name}.weight", torch.int8, module.shape, module.unpack)
            yield _entry(f"{name}.weight_scale", scale)
        for leaf, parameter in module.named_parameters(recurse=False):
            yield _entry(f"{name}.{leaf}", parameter)


def _entry(name: str, tensor: Tensor) -> Entry:
    return Entry(name, tensor.dtype, tuple(tensor.shape), partial(Tensor.detach, tensor))


def _shards(entries: Iterable[Entry], shard_bytes: int) -> Iterator[list[Entry]]:
    shard: list[Entry] = []
    size = 0
    for entry in entries:
        if shard and size + entry.num_bytes > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(entry)
        size += entry.num_bytes
    yield shard
