"""What a caller names → the configuration of a network, and what its folder says of the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from torch import nn

from glmflash.config import ModelConfig
from glmflash.errors import ConfigError
from glmflash.fields import read_json
from glmflash.weights.compressed import StoredSchemes, read_schemes
from glmflash.weights.hub import resolve
from glmflash.weights.jobs import EMBEDDINGS, HEAD
from glmflash.weights.layout import build_on_meta
from glmflash.weights.load import load_config, load_preprocessor
from glmflash.weights.shards import INDEX_FILE, SINGLE_FILE, StoredTensor
from glmflash.weights.source import Source as Stored
from glmflash.weights.source import find

__all__ = ["Source", "is_damaged"]

_PICTURE = 6144  # vision tokens: what the published checkpoints allow
_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_SIZES = {"F32": 4, "BF16": 2, "F16": 2, "I8": 1}


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Source:
    """A network whose weights may not be there yet.

    Args:
        name: What the caller calls it.
        config: Its sizes.
        stored: What its tensors are, or will be.
        image_tokens: Most vision tokens of a picture.
    """

    name: str
    config: ModelConfig
    stored: Stored
    image_tokens: int

    @classmethod
    def find(
        cls, model: str | Path | ModelConfig, *, revision: str | None = None, local_files_only: bool = False
    ) -> "Source":
        """Read what there is: config.json is enough.

        Raises:
            DownloadError: If there is no such checkpoint.
            ConfigError: If config.json is missing or cannot be honoured.
            ParameterError: If `model` is none of what `plan` takes.
        """
        if isinstance(model, ModelConfig):
            return cls(model.model_type, model, _expected(model, None, ()), _PICTURE)
        folder = resolve(
            model, revision=revision, local_files_only=local_files_only, progress=False, config_only=True
        )
        config = load_config(folder)
        return cls(str(model), config, _stored(folder, config), _picture(folder, config))


def is_damaged(folder: Path, config: ModelConfig) -> bool:
    """Whether there are weights, and they are others than config.json says; loading will say how."""
    problems: list[str] = []
    if any((folder / name).exists() for name in (SINGLE_FILE, INDEX_FILE)):
        find(folder, build_on_meta(config), problems)
    return bool(problems)


def _stored(folder: Path, config: ModelConfig) -> Stored:
    """What the files say, if they are there and whole; else what they would."""
    if any((folder / name).exists() for name in (SINGLE_FILE, INDEX_FILE)):
        problems: list[str] = []
        stored = find(folder, build_on_meta(config), problems)
        if not problems:  # else loading will tell
            return stored
    data = read_json(folder / "config.json")
    schemes = read_schemes(data, file=str(folder / "config.json"))
    section = data.get("quantization_config")
    ignored = section.get("ignore") if isinstance(section, Mapping) else None
    return _expected(config, schemes, ignored if isinstance(ignored, list) else ())


def _expected(config: ModelConfig, schemes: StoredSchemes | None, ignored: object) -> Stored:
    """What a checkpoint of this configuration holds."""
    model = build_on_meta(config)
    linear = tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    skipped = set(map(str, ignored)) if isinstance(ignored, list | tuple) else set()
    integer = frozenset() if schemes is None else frozenset(linear) - skipped
    tied = config.tie_word_embeddings
    parts = {}
    for name, tensor in model.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        if tied and layer == HEAD:
            continue
        packed = leaf == "weight" and layer in integer
        kind = "I8" if packed else _NAMES[config.dtype]
        parts[name] = (_tensor(name, kind, tuple(tensor.shape)),)
        if packed:
            scale = f"{name}_scale"
            parts[scale] = (_tensor(scale, "F32", (len(tensor), 1)),)
    assert f"{EMBEDDINGS}.weight" in parts
    return Stored(parts, tied, linear, integer, schemes, None)


def _tensor(name: str, kind: str, shape: tuple[int, ...]) -> StoredTensor:
    return StoredTensor(Path(SINGLE_FILE), name, kind, shape, prod(shape) * _SIZES[kind])


def _picture(folder: Path, config: ModelConfig) -> int:
    try:
        limits = load_preprocessor(folder, vision=config.vision)
    except ConfigError:
        return _PICTURE
    return max(1, limits.max_pixels // (limits.temporal_patch_size * limits.factor**2))
