"""What a caller names → the configuration of a network, and what its folder says of the weights."""

from dataclasses import dataclass
from pathlib import Path

from glmflash.config import ModelConfig
from glmflash.errors import ConfigError
from glmflash.weights.hub import resolve
from glmflash.weights.layout import canonical_name
from glmflash.weights.load import load_config, load_preprocessor
from glmflash.weights.shards import INDEX_FILE, SINGLE_FILE, read_headers

__all__ = ["Source"]

_PICTURE = 6144  # vision tokens: what the published checkpoints allow


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Source:
    """A network that may not be there yet.

    Args:
        name: What the caller calls it.
        config: Its sizes.
        folder: Where its files are, if it has any.
        tied: Whether the projection to the vocabulary is the table of embeddings.
        image_tokens: Most vision tokens of a picture.
    """

    name: str
    config: ModelConfig
    folder: Path | None
    tied: bool
    image_tokens: int

    @classmethod
    def find(
        cls,
        model: str | Path | ModelConfig,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> "Source":
        """Read what there is: config.json is enough.

        Raises:
            DownloadError: If there is no such checkpoint.
            ConfigError: If config.json is missing or cannot be honoured.
            ParameterError: If `model` is none of what is said in `plan`.
        """
        if isinstance(model, ModelConfig):
            return cls(model.model_type, model, None, model.tie_word_embeddings, _PICTURE)
        folder = resolve(
            model, revision=revision, local_files_only=local_files_only, progress=False, config_only=True
        )
        config = load_config(folder)
        return cls(str(model), config, folder, _tied(folder, config), _picture(folder, config))


def _tied(folder: Path, config: ModelConfig) -> bool:
    """As loading decides: by what is stored, if anything is."""
    if not any((folder / name).exists() for name in (SINGLE_FILE, INDEX_FILE)):
        return config.tie_word_embeddings
    problems: list[str] = []
    tensors = read_headers(folder, problems)
    if problems or not tensors:  # loading will tell
        return config.tie_word_embeddings
    return not any(canonical_name(tensor.name) == "lm_head.weight" for tensor in tensors)


def _picture(folder: Path, config: ModelConfig) -> int:
    try:
        limits = load_preprocessor(folder, vision=config.vision)
    except ConfigError:
        return _PICTURE
    return max(1, limits.max_pixels // (limits.temporal_patch_size * limits.factor**2))
