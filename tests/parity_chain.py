"""A checkpoint's folder and a chat → every stage on both sides, from text to greedy ids."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch.testing import assert_close
from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil

from glmflash import Pipeline, prepare
from glmflash.engine.inputs import build_prompt, read_pictures
from glmflash.model import NoCache
from glmflash.prompt.template import TemplateStyle, render
from glmflash.weights import load_config


@dataclass(frozen=True)
class Chain:
    """One chat through both: attributes come in pairs, ours and the reference's."""

    folder: Path
    messages: list[dict]

    @cached_property
    def pipeline(self) -> Pipeline:
        return Pipeline.from_pretrained(self.folder, dtype="float32", device="cpu", progress=False)

    @cached_property
    def reference(self) -> Any:
        kind = {"glm4v": "Glm4v", "glm_ocr": "GlmOcr"}[load_config(self.folder).model_type]
        model, info = getattr(transformers, f"{kind}ForConditionalGeneration").from_pretrained(
            self.folder, dtype=torch.float32, output_loading_info=True
        )
        wrong = {name: found for name, found in info.items() if found}
        assert not wrong, f"transformers does not take the folder as it is: {wrong}"
        return model.eval()

    @cached_property
    def request(self):
        options = {"max_new_tokens": 64, "temperature": 0.0, "ignore_eos": True, "repetition_stop": None}
        return prepare.request(self.messages, options, defaults=self.pipeline.engine.generation)

    @cached_property
    def inputs(self):
        engine = self.pipeline.engine
        pictures = read_pictures(self.request, engine.preprocessor, engine.settings.policy)
        config = engine.model.config
        return build_prompt(self.request, pictures, tokenizer=engine.tokenizer, config=config)

    @cached_property
    def pictures(self) -> dict[str, torch.Tensor]:
        """Patches and grids by the reference's processor."""
        images = [Image.fromarray(np.asarray(picture)) for picture in self.request.pictures]
        processor = Glm46VImageProcessorPil.from_pretrained(self.folder)
        return dict(processor(images, return_tensors="pt"))

    @cached_property
    def ids(self) -> list[int]:
        """Our rendering through the reference's tokenizer, placeholders repeated as its processor does."""
        style = TemplateStyle.of(self.pipeline.engine.tokenizer.controls)
        thinking = False if style.switch else None
        text = render(self.request.messages, thinking=thinking, style=style)
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(self.folder)
        merge = self.pipeline.engine.model.config.vision.spatial_merge_size
        counts = iter((self.pictures["image_grid_thw"].prod(-1) // merge**2).tolist())
        image = self.reference.config.image_token_id
        ids = []
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            ids += [image] * next(counts) if token == image else [token]
        return ids

    @cached_property
    def arguments(self) -> dict[str, torch.Tensor]:
        ids = torch.tensor([self.ids])
        types = (ids == self.reference.config.image_token_id).long()
        return {"input_ids": ids, "mm_token_type_ids": types, **self.pictures}

    def vision(self) -> torch.Tensor:
        rows = torch.cat([picture.rows for picture in self.inputs.pictures])
        grids = [picture.grid for picture in self.inputs.pictures]
        return torch.cat(self.pipeline.engine.model.encode_images(rows, grids))

    def reference_vision(self) -> torch.Tensor:
        with torch.inference_mode():
            grids = self.pictures["image_grid_thw"]
            return self.reference.model.visual(self.pictures["pixel_values"], grids).pooler_output

    def logits(self, vision: torch.Tensor) -> torch.Tensor:
        model, prompt = self.pipeline.engine.model, self.inputs.prompt
        embeds = model.embed(torch.tensor(prompt.ids), [vision], prompt.spans)
        return model(embeds, torch.tensor(prompt.positions), NoCache([len(prompt)]))

    def reference_logits(self) -> torch.Tensor:
        with torch.inference_mode():
            return self.reference(**self.arguments).logits[0]

    def reference_greedy(self, count: int) -> list[int]:
        engine = self.pipeline.engine
        unused = range(engine.tokenizer.vocab_size, engine.model.config.text.vocab_size)
        config = transformers.GenerationConfig(
            max_new_tokens=count, do_sample=False, pad_token_id=0, suppress_tokens=list(unused) or None
        )
        self.reference.generation_config = config  # the folder's own would fill in its end tokens
        mask = torch.ones_like(self.arguments["input_ids"])
        with torch.inference_mode():
            out = self.reference.generate(**self.arguments, attention_mask=mask, generation_config=config)
        return out[0, len(self.ids) :].tolist()


def ids(chain: Chain) -> None:
    assert list(chain.inputs.prompt.ids) == chain.ids


def positions(chain: Chain) -> None:
    arguments = {name: value for name, value in chain.arguments.items() if name != "pixel_values"}
    expected, delta = chain.reference.model.get_rope_index(**arguments)
    assert chain.inputs.prompt.positions.tolist() == expected[:, 0].tolist()
    assert chain.inputs.prompt.delta == delta.item()


def patches(chain: Chain) -> None:
    vision = chain.pipeline.engine.model.config.vision
    rows = torch.cat([picture.rows for picture in chain.inputs.pictures])
    frames = rows.view(len(rows), vision.in_channels, 1, -1).expand(-1, -1, vision.temporal_patch_size, -1)
    assert torch.equal(frames.flatten(1), chain.pictures["pixel_values"])
    grids = [[grid.t, grid.h, grid.w] for grid in (picture.grid for picture in chain.inputs.pictures)]
    assert grids == chain.pictures["image_grid_thw"].tolist()


def vision_tokens(chain: Chain) -> None:
    near(chain.vision(), chain.reference_vision())


def logits(chain: Chain) -> None:
    near(chain.logits(chain.vision()), chain.reference_logits())


def near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Within 1e-5, counted in the largest value where that is above 1: a trained model's logits reach 20."""
    assert_close(ours, theirs, atol=1e-5 * max(1.0, float(theirs.abs().max())), rtol=1e-5)


def greedy_ids(chain: Chain) -> None:
    expected = chain.reference_greedy(64)
    assert list(chain.pipeline.engine.start(chain.request).result.token_ids) == expected
    assert len(expected) == 64


STAGES = {stage.__name__: stage for stage in (ids, positions, patches, vision_tokens, logits, greedy_ids)}
