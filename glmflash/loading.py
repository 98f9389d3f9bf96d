"""A checkpoint's folder and settings → an engine at work."""

from functools import partial
from pathlib import Path

import torch

from glmflash.engine.engine import Engine
from glmflash.engine.settings import Settings
from glmflash.engine.waiting import elsewhere
from glmflash.progress import LOADING, QUANTISING, Progress, reporter
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.quant import QuantizationConfig
from glmflash.weights.load import (
    load_generation,
    load_model,
    load_preprocessor,
    load_video_preprocessor,
)

__all__ = ["load_engine"]


def __dir__() -> list[str]:
    return __all__


def load_engine(
    folder: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | QuantizationConfig | None = None,
    progress: Progress = None,
    settings: Settings | None = None,
) -> Engine:
    """Load network, tokenizer and configs, and start an engine with them.

    Args:
        folder: The checkpoint; see `weights.resolve` for where it comes from.
        device: "auto" is the first GPU, if there is one, else the CPU.
        dtype: "auto" is the checkpoint's own where the device can compute in it.
        quantize: "int8", "w8a8" or a `QuantizationConfig` makes weights INT8.
        progress: As for `Pipeline.from_pretrained`.
        settings: Limits and memory.

    Raises:
        ConfigError: If a configuration file is missing or asks for what is not supported.
        CheckpointError: If tensors or tokenizer are not as they should be.
        ParameterError: If `device`, `dtype` or `progress` is not one of those above.
    """
    folder = Path(folder)
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    generation = load_generation(folder)
    # In a thread that ends, and takes PyTorch's helpers for it along: GNU OpenMP lets threads that wait for
    # work sleep at once as soon as it knows of more threads than processors, and waking them costs more than
    # most operations on a few tokens take. So the engine's thread should be the only one that computes.
    load = partial(load_model, folder, dtype=dtype, device=device, quantize=quantize)
    with reporter(progress, QUANTISING if quantize is not None else LOADING) as report:
        model = elsewhere(partial(load, progress=report))  # an interrupt here wipes the bar
    preprocessor = load_preprocessor(folder, vision=model.config.vision)
    return Engine(
        model,
        tokenizer,
        preprocessor=preprocessor,
        video_preprocessor=load_video_preprocessor(folder, vision=model.config.vision),
        generation=generation,
        settings=settings,
    )
