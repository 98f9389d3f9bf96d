"""A checkpoint's folder → its configs, and the network with its weights, read one tensor at a time."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from glmflash.config import GenerationConfig, ModelConfig, PreprocessorConfig, VisionConfig
from glmflash.confined import tidy
from glmflash.errors import CheckpointError, ConfigError, ParameterError
from glmflash.fields import Fields, read_json
from glmflash.model import Glm4v
from glmflash.progress import LOADING, QUANTISING, Progress, reporter
from glmflash.quant import QuantizationConfig
from glmflash.version import warn_if_old
from glmflash.weights.hub import resolve
from glmflash.weights.jobs import HEAD, choose, jobs
from glmflash.weights.layout import build_on_meta
from glmflash.weights.read import How, read_into
from glmflash.weights.rescale import rescale_
from glmflash.weights.source import find

__all__ = ["load_config", "load_generation", "load_model", "load_preprocessor", "load_video_preprocessor"]

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_MOST_LINES = 1000  # of an error: more than all tensors of any published relative
_log = logging.getLogger(__name__)


def __dir__() -> list[str]:
    return __all__


def load_model(
    folder: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    progress: Progress = None,
    quantize: str | QuantizationConfig | None = None,
) -> Glm4v:
    """Load a checkpoint strictly, tensor by tensor: each has one place, and nothing is left over.

    Args:
        folder: A folder, "tiny", or the hub id of a checkpoint that is on this disk (see `resolve`).
        dtype: "float32", "bfloat16", "float16" or the torch dtype; "auto" is the checkpoint's own, but
            float16 for bfloat16 on CUDA cards before Ampere, and float32 for float16 on CPUs. For float16
            weights are multiplied by powers of two where it would overflow; see `weights.rescale`.
        device: Where the weights go; "auto" is CUDA if there is a card, else the CPU.
        progress: As for `Pipeline.from_pretrained`; a function takes bytes read and bytes in all.
        quantize: "int8" or "w8a8" makes linear layers INT8; see `QuantizationConfig`.

    Raises:
        CheckpointError: All that is missing, unexpected, double, misshapen or not finite, with file and name.
        ConfigError: If config.json cannot be honoured.
        DownloadError: If there is no such folder.
        ParameterError: If an argument is none of what is said above.

    Example:
        >>> load_model("tiny", dtype="float32", device="cpu").dtype
        torch.float32
    """
    wanted = QuantizationConfig.of(quantize)
    place, shown = _device(device), reporter(progress, QUANTISING if wanted else LOADING)
    folder, problems = resolve(folder, local_files_only=True), list[str]()
    config = load_config(folder)
    model = build_on_meta(config)
    source = find(folder, model, problems)
    _raise_all(folder, problems)
    schemes = choose(wanted, source.linear, stored=source.schemes, integer=source.integer)
    named = _dtype(dtype, config.dtype, place, quantized=bool(schemes))
    work = jobs(source.parts, schemes, dtype=named, tied=source.tied)
    how = How(place, kernel=wanted.kernel if wanted else None, manifest=source.manifest)
    with shown as report:
        read_into(model, work, how, report, problems)
    _raise_all(folder, problems)
    if source.tied:
        _tie(model, config)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    model.eval().requires_grad_(False)
    if named == torch.float16:
        rescale_(model)
    return model


def load_config(folder: Path) -> ModelConfig:
    """Read config.json of a folder."""
    return ModelConfig.from_dict(read_json(folder / "config.json"), file=str(folder / "config.json"))


def load_preprocessor(folder: Path, *, vision: VisionConfig | None = None) -> PreprocessorConfig:
    """Read preprocessor_config.json, or the image part of processor_config.json (transformers 5).

    Args:
        folder: The checkpoint.
        vision: If given, patches must have the sizes that this vision tower takes.
    """
    path = folder / "preprocessor_config.json"
    if path.is_file() or not (folder / "processor_config.json").is_file():
        data = read_json(path)
    else:
        path = folder / "processor_config.json"
        nested = read_json(path).get("image_processor")
        if not isinstance(nested, Mapping):
            raise ConfigError(f"{path}: image_processor is missing; expected an object")
        data = dict(nested)
    return _checked(PreprocessorConfig.from_dict(data, file=str(path)), vision, path)


def load_video_preprocessor(folder: Path, *, vision: VisionConfig | None = None) -> PreprocessorConfig:
    """Read how clips are preprocessed: video_preprocessor_config.json, or part of processor_config.json.

    A checkpoint that has neither treats all frames of a clip together as one picture, as the reference does.

    Args:
        folder: The checkpoint.
        vision: As for pictures.
    """
    path, nested = folder / "processor_config.json", None
    if path.is_file():
        nested = read_json(path).get("video_processor")
    if not isinstance(nested, Mapping):
        path = folder / "video_preprocessor_config.json"
        if not path.is_file():
            return load_preprocessor(folder, vision=vision)
        nested = read_json(path)
    named = {"image_processor_type": nested.get("video_processor_type"), **nested}
    config = PreprocessorConfig.from_dict(named, file=str(path))
    fields = Fields(nested, str(path))
    fields.expect("do_sample_frames", True)
    if config.family == "Glm4v":  # the other takes no notice of them
        fields.expect("fps", 2)
        fields.expect("max_duration", 300)
    return _checked(config, vision, path)


def _checked(config: PreprocessorConfig, vision: VisionConfig | None, path: Path) -> PreprocessorConfig:
    if vision is not None:
        given = (config.patch_size, config.temporal_patch_size, config.merge_size)
        wanted = (vision.patch_size, vision.temporal_patch_size, vision.spatial_merge_size)
        if given != wanted:
            raise ConfigError(
                f"{path}: patch_size, temporal_patch_size, merge_size are {given}; "
                f"allowed: {wanted}, the sizes in vision_config of config.json"
            )
    return config


def load_generation(folder: Path) -> GenerationConfig:
    """Read generation_config.json; without the file, greedy decoding and no stop tokens of its own."""
    path = folder / "generation_config.json"
    return (
        GenerationConfig.from_dict(read_json(path), file=str(path)) if path.exists() else GenerationConfig()
    )


def _device(device: str | torch.device) -> torch.device:
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if cards else "cpu")
    refusal = ParameterError("device", f"is {device!r:.80}; allowed: 'auto', 'cpu', 'cuda', 'cuda:1'")
    if not isinstance(device, str | torch.device):
        raise refusal
    try:
        place = torch.device(device)
    except RuntimeError:
        raise refusal from None
    if place.type not in ("cpu", "cuda"):
        raise refusal
    if place.type == "cuda" and (place.index or 0) >= cards:
        found = f"{cards} CUDA card(s), counted from 0" if cards else "no CUDA card here; use 'cpu'"
        raise ParameterError("device", f"is {str(device)!r}, but torch finds {found}")
    return place


def _dtype(
    dtype: str | torch.dtype, stored: str, place: torch.device, *, quantized: bool = False
) -> torch.dtype:
    if isinstance(dtype, str) and dtype != "auto":
        named = _DTYPES.get(dtype)
    elif isinstance(dtype, str) and quantized and place.type == "cpu":
        named = torch.float32  # INT8 layers give it, and what is left of the weights is small
    else:
        named = _computable(_DTYPES[stored], place) if isinstance(dtype, str) else dtype
    if named is None or named not in _DTYPES.values():
        raise ParameterError("dtype", f"is {dtype!r}; allowed: 'auto', {', '.join(map(repr, _DTYPES))}")
    return named


def _computable(dtype: torch.dtype, place: torch.device) -> torch.dtype:
    if place.type == "cpu":
        return torch.float32 if dtype == torch.float16 else dtype
    old = place.type == "cuda" and torch.cuda.get_device_capability(place) < (8, 0)
    return torch.float16 if old and dtype == torch.bfloat16 else dtype


def _raise_all(folder: Path, problems: list[str]) -> None:
    if problems:
        lines = [tidy(line) for line in problems[:_MOST_LINES]]  # some names are a stranger's
        lines += [f"and {len(problems) - _MOST_LINES} more"] if len(problems) > _MOST_LINES else []
        raise CheckpointError(f"{folder}: {len(problems)} problem(s)\n  " + "\n  ".join(lines))


def _tie(model: Glm4v, config: ModelConfig) -> None:
    if not config.tie_word_embeddings:
        _log.warning(
            "the checkpoint has no %s.weight and does not say so; using the embeddings in its place", HEAD
        )
    head: nn.Module = model.lm_head
    if isinstance(head, nn.Linear) and head.weight.is_meta:  # not so if either is INT8
        head.weight = model.model.language_model.embed_tokens.weight


warn_if_old("torch", torch.__version__, (2, 10))  # older ones could run code of files that they load
