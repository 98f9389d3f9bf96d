"""Tensor names as any exporter writes them → the names and shapes of the network's parameters."""

import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping

import torch
from torch.overrides import TorchFunctionMode

from glmflash.config import ModelConfig
from glmflash.errors import ConfigError
from glmflash.model import Glm4v
from glmflash.weights.shards import StoredTensor

__all__ = ["build_on_meta", "canonical_name", "expected_tensors", "integer_layers", "match"]

_ALIASES = [
    (re.compile(r"^visual\."), "model.visual."),
    (re.compile(r"^model\.(layers|embed_tokens|norm)\."), r"model.language_model.\1."),
    (re.compile(r"^language_model\.model\."), "model.language_model."),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
]
_NOT_WEIGHTS = re.compile(r"(^|\.)inv_freq$|\.embeddings\.position_ids$")
_LAYER = re.compile(r"^(model\.language_model\.layers\.(\d+)\.)(.+)$")
_DRAFT_ONLY = re.compile(r"^(eh_proj|enorm|hnorm|embed_tokens|shared_head)\.")
_FLOATING = ("BF16", "F16", "F32", "F64")
_HALVES = re.compile(r"\.(gate|up)_proj$")
_SCALE = ".weight_scale"


def __dir__() -> list[str]:
    return __all__


def build_on_meta(config: ModelConfig) -> Glm4v:
    """The network without memory for its weights."""
    try:
        with torch.device("meta"), _NoInit():
            return Glm4v(config)
    except RuntimeError as error:  # a product of sizes that no 64-bit integer holds
        raise ConfigError("config.json: the sizes in it are too large to be meant") from error


class _NoInit(TorchFunctionMode):
    """Initialises no weights: they have no memory, and PyTorch would import its compiler for it, a second."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":  # slots have none
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


def expected_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a checkpoint of this configuration holds, and its shape.

    They are the network's own parameters: names are never translated, so there is one list to keep.
    """
    return {name: tuple(tensor.shape) for name, tensor in build_on_meta(config).state_dict().items()}


def canonical_name(name: str) -> str:
    """The name that the published checkpoints use.

    Example:
        >>> canonical_name("language_model.model.layers.0.mlp.down_proj.weight")
        'model.language_model.layers.0.mlp.down_proj.weight'
    """
    for pattern, replacement in _ALIASES:
        renamed, count = pattern.subn(replacement, name)
        if count:
            return renamed
    return name


def integer_layers(tensors: Iterable[StoredTensor], layers: Container[str]) -> set[str]:
    """Those of the layers that are stored as INT8: their weight is, or there is a scale for it.

    Args:
        tensors: From `read_headers`.
        layers: Names of modules that can be INT8.
    """
    found = set()
    for tensor in tensors:
        layer, _, leaf = canonical_name(tensor.name).rpartition(".")
        if leaf == "weight_scale" or (leaf == "weight" and tensor.dtype == "I8"):
            found |= {layer, _HALVES.sub(".gate_up_proj", layer)}
    return {layer for layer in found if layer in layers}


def match(
    tensors: Iterable[StoredTensor],
    expected: Mapping[str, tuple[int, ...]],
    num_layers: int,
    problems: list[str],
    *,
    integer: Container[str] = (),
) -> dict[str, tuple[StoredTensor, ...]]:
    """Find for each parameter the stored tensor it is read from, or two: gate and up, to be stacked.

    Args:
        tensors: From `read_headers`.
        expected: From `expected_tensors`.
        num_layers: Decoder layers; a draft head (MTP) stored behind them is left out.
        problems: Appended to, one line for each tensor that is missing, extra, double or misshapen.
        integer: Those of the expected that are stored as INT8; all others are floating.
    """
    found: defaultdict[str, list[StoredTensor]] = defaultdict(list)
    for tensor in tensors:
        found[canonical_name(tensor.name)].append(tensor)
    for name in _ignored(found, num_layers):
        del found[name]
    problems += [f"{also}: stands also in {first}" for first, *others in found.values() for also in others]
    sources = {name: (first,) for name, (first, *_) in found.items()}
    matched = {name: _sources(name, sources) for name in expected}
    problems += [f"{tensor}: unexpected tensor" for (tensor,) in sources.values()]
    for name, shape in expected.items():
        _check(name, shape, matched[name], problems, ("I8",) if name in integer else _FLOATING)
    return matched


def _ignored(names: Iterable[str], num_layers: int) -> list[str]:
    """Buffers, and whole layers behind the last one that hold the parts of a draft head."""
    drafts, behind, ignored = set(), [], []
    for name in names:
        layer = _LAYER.match(name)
        if layer and int(layer[2]) >= num_layers:
            behind.append((name, layer[1]))
            if _DRAFT_ONLY.match(layer[3]):
                drafts.add(layer[1])
        elif _NOT_WEIGHTS.search(name):
            ignored.append(name)
    return ignored + [name for name, prefix in behind if prefix in drafts]


def _sources(name: str, sources: dict[str, tuple[StoredTensor]]) -> tuple[StoredTensor, ...]:
    """Take the tensors that make up a parameter out of `sources`."""
    if name in sources:
        return sources.pop(name)
    if not name.endswith((".gate_up_proj.weight", f".gate_up_proj{_SCALE}")):
        return ()
    halves = [name.replace("gate_up_proj", half) for half in ("gate_proj", "up_proj")]
    if not all(half in sources for half in halves):
        return ()
    return sources.pop(halves[0]) + sources.pop(halves[1])


def _check(
    name: str,
    shape: tuple[int, ...],
    stored: tuple[StoredTensor, ...],
    problems: list[str],
    dtypes: tuple[str, ...],
) -> None:
    if not stored:
        problems.append(f"{name}: missing, in no file")
    part = (shape[0] // len(stored), *shape[1:]) if len(stored) > 1 else shape
    allowed = (part, part[:1]) if name.endswith(_SCALE) else (part,)
    for tensor in stored:
        if tensor.shape not in allowed:
            problems.append(f"{tensor}: has shape {list(tensor.shape)}, expected {list(part)}")
        if tensor.dtype not in dtypes:
            problems.append(f"{tensor}: has dtype {tensor.dtype}, expected one of {', '.join(dtypes)}")
