"""A checkpoint's name → what it is, line by line: sizes, files, tokenizer, INT8. No weights are read."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path

from glmflash.config import ModelConfig
from glmflash.plan.source import Source
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.quant import Card
from glmflash.weights import resolve
from glmflash.weights.manifest import read_manifest
from glmflash.weights.source import Source as Stored

__all__ = ["info"]


def __dir__() -> list[str]:
    return __all__


def info(arguments: argparse.Namespace) -> int:
    """Print what there is to know; of a hub id whose weights are not here, what its small files say.

    Raises:
        GlmflashError: If there is no such checkpoint, or its files are not as they should be.
    """
    folder = resolve(
        arguments.model, local_files_only=arguments.local_files_only, progress=False, config_only=True
    )
    source = Source.find(folder)
    lines = [("checkpoint", arguments.model), *_network(source.config), *_weights(source.stored)]
    lines += [("picture", f"at most {source.image_tokens:,} tokens"), *_files(folder), *_card(folder)]
    for name, text in lines:
        sys.stdout.write(f"{name:<14}{text}\n")
    return 0


def _network(config: ModelConfig) -> Iterator[tuple[str, str]]:
    text, vision = config.text, config.vision
    yield "model", f"{config.model_type}, {config.dtype}"
    yield (
        "vision tower",
        f"{vision.depth} layers of {vision.hidden_size}, patches of {vision.patch_size} pixels",
    )
    heads = f"{text.num_attention_heads} heads, {text.num_key_value_heads} of keys and values"
    yield "decoder", f"{text.num_hidden_layers} layers of {text.hidden_size}, {heads}"
    tied = ", tied" if config.tie_word_embeddings else ""
    yield "vocabulary", f"{text.vocab_size:,} tokens{tied}"
    yield "context", f"{text.max_position_embeddings:,} tokens"


def _weights(stored: Stored) -> Iterator[tuple[str, str]]:
    tensors = [tensor for parts in stored.parts.values() for tensor in parts]
    scales = {name for name in stored.parts if name.endswith("_scale")}
    parameters = sum(
        prod(tensor.shape) for name, parts in stored.parts.items() if name not in scales for tensor in parts
    )
    yield "parameters", f"{parameters:,}"
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.num_bytes
    by_dtype = ", ".join(f"{size / 1e9:.3f} GB {dtype}" for dtype, size in sizes.most_common())
    yield "weights", f"{len(tensors):,} tensors, {by_dtype}"
    if stored.integer:
        yield "INT8", f"{len(stored.integer)} layers"


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".json", ".safetensors", ".jinja"):
            yield "file", f"{path.stat().st_size:>14,} bytes  {path.name}"
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
        yield (
            "tokenizer",
            f"{tokenizer.vocab_size:,} tokens, {len(tokenizer.controls)} of them control tokens",
        )


def _card(folder: Path) -> Iterator[tuple[str, str]]:
    """What `save_pretrained` wrote down of each INT8 layer, by kind."""
    manifest = read_manifest(folder)
    for one in Card(tuple(manifest.layers.values())).groups if manifest else ():
        low, middle, high = one.errors
        size = f"{one.bytes_before / 1e6:,.1f} -> {one.bytes_after / 1e6:,.1f} MB"
        error = f"error {100 * middle:.2f} % ({100 * low:.2f} to {100 * high:.2f} %)"
        yield "quantised", f"{one.kind} x {one.count}, {one.scheme}, {size}, {error}"
