"""A checkpoint's folder → where each parameter of the network is stored there, and in what form."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from glmflash.errors import CheckpointError
from glmflash.fields import read_json
from glmflash.model import Glm4v
from glmflash.weights.compressed import StoredSchemes, read_schemes
from glmflash.weights.jobs import EMBEDDINGS, HEAD, Parts, choose
from glmflash.weights.layout import canonical_name, integer_layers, match
from glmflash.weights.manifest import MANIFEST_FILE, MANIFEST_KEY, Manifest, read_manifest
from glmflash.weights.shards import read_headers

__all__ = ["Source", "find"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Source:
    """What a folder holds for a network.

    Args:
        parts: Parameter, or scale of an INT8 layer → the stored tensors it is read from.
        tied: Whether the head is not there, so that the embeddings serve.
        linear: All linear layers of the network.
        integer: Layers that are stored as INT8; the head too if it is tied to such embeddings.
        schemes: What config.json says of INT8 layers; None if it does not say that there are any.
        manifest: Checksums, if glmflash saved the folder.
    """

    parts: Mapping[str, Parts]
    tied: bool
    linear: tuple[str, ...]
    integer: frozenset[str]
    schemes: StoredSchemes | None
    manifest: Manifest | None


def find(folder: Path, model: Glm4v, problems: list[str]) -> Source:
    """Look into the headers of all files.

    Args:
        folder: The checkpoint.
        model: The network, without memory.
        problems: Appended to, one line for each thing that is wrong.

    Raises:
        ConfigError: If config.json says that the weights are quantised in a way that is not supported.
        CheckpointError: If the manifest is missing, damaged, or another program's.
    """
    schemes, manifest = _quantization(folder)
    tensors = read_headers(folder, problems)
    linear = tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    integer = set() if schemes is None else integer_layers(tensors, {EMBEDDINGS, *linear})
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected |= {f"{layer}.weight_scale": (expected[f"{layer}.weight"][0], 1) for layer in integer}
    tied = bool(tensors) and not any(canonical_name(tensor.name) == f"{HEAD}.weight" for tensor in tensors)
    if tied:
        expected.pop(f"{HEAD}.weight")
    weights = {f"{layer}.weight" for layer in integer}
    layers = model.config.text.num_hidden_layers
    parts = match(tensors, expected, layers, problems, integer=weights)
    if tied and EMBEDDINGS in integer:
        integer.add(HEAD)
    if manifest is not None and not problems:
        problems += manifest.differences(tensors)
        problems += manifest.schemes_differ(choose(None, linear, stored=schemes, integer=integer))
    return Source(parts, tied, linear, frozenset(integer), schemes, manifest)


def _quantization(folder: Path) -> tuple[StoredSchemes | None, Manifest | None]:
    config = read_json(folder / "config.json")
    schemes = read_schemes(config, file=str(folder / "config.json"))
    manifest = read_manifest(folder) if schemes else None
    if schemes and manifest is None and MANIFEST_KEY in config:
        raise CheckpointError(f"{folder}: {MANIFEST_FILE} is missing; copy or save the checkpoint again")
    return schemes, manifest
