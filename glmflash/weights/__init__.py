"""Folder or hub id → loaded model, and back."""

from glmflash.weights.hub import resolve
from glmflash.weights.layout import expected_tensors
from glmflash.weights.load import (
    load_config,
    load_generation,
    load_model,
    load_preprocessor,
    load_video_preprocessor,
)
from glmflash.weights.save import save_pretrained, write_checkpoint

__all__ = [
    "expected_tensors",
    "load_config",
    "load_generation",
    "load_model",
    "load_preprocessor",
    "load_video_preprocessor",
    "resolve",
    "save_pretrained",
    "write_checkpoint",
]


def __dir__() -> list[str]:
    return __all__
