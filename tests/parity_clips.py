"""What transformers does with clips: its samplers, layout and expansion, run without torchvision.

Its processors for clips refuse to be made without torchvision, which they need for resizing and normalising
only. So their other methods are called on stand-ins; frames are resized by Pillow, as those of pictures are.
"""

import importlib
import sys
from functools import cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import transformers
from parity_chain import Chain
from transformers.video_utils import VideoMetadata

from glmflash.config import PreprocessorConfig
from glmflash.engine.inputs import build_prompt, read_pictures
from glmflash.media.pixels import resize
from glmflash.prompt.template import render


def processors(family: str) -> tuple[Any, Any, ModuleType]:
    """The classes of a family: for clips, for prompts; and the module of the first."""
    name = family.lower()
    stubs = ("torchvision", "torchvision.transforms", "torchvision.transforms.v2")
    modules = {stub: ModuleType(stub) for stub in stubs}
    modules["torchvision.transforms.v2"].functional = None
    with patch.dict(sys.modules, modules):
        clips = importlib.import_module(f"transformers.models.{name}.video_processing_{name}")
    prompts = importlib.import_module(f"transformers.models.{name}.processing_{name}")
    return getattr(clips, f"{family}VideoProcessor"), getattr(prompts, f"{family}Processor"), clips


def sampled(family: str, count: int, rate: float, duration: float | None = None) -> list[int]:
    """The frames that the reference takes."""
    kind, _, _ = processors(family)
    self = SimpleNamespace(temporal_patch_size=2, fps=2, max_duration=300)
    metadata = VideoMetadata(total_num_frames=count, fps=rate, duration=duration or count / rate)
    return kind.sample_frames(self, metadata).tolist()


def processed(frames: list, rate: float, config: PreprocessorConfig) -> dict[str, Any]:
    """Patches, grid and metadata of one clip."""
    kind, _, module = processors(config.family)
    chosen = sampled(config.family, len(frames), rate)
    height, width = frames[0].shape[:2]
    limits = {"min_pixels": config.min_pixels, "max_pixels": config.max_pixels}
    sizes = {"factor": config.factor, "temporal_factor": config.temporal_patch_size}
    size = module.smart_resize(num_frames=len(chosen), height=height, width=width, **sizes, **limits)
    film = torch.stack([torch.tensor(resize(frames[index], *size)) for index in chosen])
    mean, std = (torch.tensor(value) for value in (config.image_mean, config.image_std))
    film = ((film - 255 * mean) / (255 * std)).permute(0, 3, 1, 2)[None]  # in one step, as in the reference
    rows, *grid = kind.patchify(None, film, config.patch_size, config.merge_size, config.temporal_patch_size)
    metadata = VideoMetadata(total_num_frames=len(frames), fps=rate, frames_indices=chosen)
    return {"rows": rows[0], "grid": grid, "metadata": metadata}


class ClipChain(Chain):
    """A chat with clips, and no pictures: the reference cannot have both in one prompt."""

    clips: list[tuple[list, float]]  # frames and their rate, in the order of the messages

    def __init__(self, folder: Path, messages: list[dict], clips: list[tuple[list, float]]) -> None:
        super().__init__(folder, messages)
        object.__setattr__(self, "clips", clips)

    @property
    def config(self) -> PreprocessorConfig:
        return self.pipeline.engine.video_preprocessor

    @cached_property
    def inputs(self):
        engine = self.pipeline.engine
        seen = read_pictures(
            self.request, engine.preprocessor, engine.settings.policy, video_preprocessor=self.config
        )
        return build_prompt(self.request, seen, tokenizer=engine.tokenizer, config=engine.model.config)

    @cached_property
    def films(self) -> list[dict[str, Any]]:
        return [processed(frames, rate, self.config) for frames, rate in self.clips]

    @cached_property
    def pictures(self) -> dict[str, torch.Tensor]:
        return {
            "pixel_values_videos": torch.cat([film["rows"] for film in self.films]),
            "video_grid_thw": torch.tensor([film["grid"] for film in self.films]),
        }

    @cached_property
    def ids(self) -> list[int]:
        """The reference's own expansion of each clip, through its tokenizer."""
        _, prompts, _ = processors(self.config.family)
        self_ = SimpleNamespace(
            video_processor=SimpleNamespace(merge_size=self.config.merge_size), image_token="<|image|>"
        )
        self_.replace_frame_token_id = lambda *args, **kw: prompts.replace_frame_token_id(self_, *args, **kw)
        text = render(self.request.messages, thinking=False)
        inputs = {
            "video_grid_thw": self.pictures["video_grid_thw"],
            "video_metadata": [film["metadata"] for film in self.films],
        }
        for index in range(len(self.films)):
            text = text.replace("<|video|>", prompts.replace_video_token(self_, inputs, index), 1)
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(self.folder)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    @cached_property
    def arguments(self) -> dict[str, torch.Tensor]:
        config = self.reference.config
        _, prompts, _ = processors(self.config.family)
        self_ = SimpleNamespace(
            image_token_id=config.image_token_id,
            video_start_id=config.video_start_token_id,
            video_end_id=config.video_end_token_id,
        )
        types = prompts.create_mm_token_type_ids(self_, [self.ids])
        return {
            "input_ids": torch.tensor([self.ids]),
            "mm_token_type_ids": torch.tensor(types),
            **self.pictures,
        }

    def reference_vision(self) -> torch.Tensor:
        grids = [[1, h, w] for t, h, w in self.pictures["video_grid_thw"].tolist() for _ in range(t)]
        with torch.inference_mode():
            rows = self.pictures["pixel_values_videos"]
            return self.reference.model.visual(rows, torch.tensor(grids)).pooler_output
