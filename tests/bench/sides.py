"""A checkpoint's folder → the same work done twice on the same weight tensors: here and in transformers.

Each side has `vision()`, `prefill()` and `step(token)`; a step continues the last prefill.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, Glm4vConfig, Glm4vForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from glmflash import Pipeline
from glmflash.config import ModelConfig
from glmflash.engine.inputs import build_prompt, read_pictures
from glmflash.media.patches import still
from glmflash.model import Glm4v, GrowingCache
from glmflash.prepare import question, request
from glmflash.prompt.positions import positions
from glmflash.shapes import ImageSpan


class Work:
    """A picture and a prompt about it, as numbers; both sides are given the same.

    Args:
        pipe: The checkpoint.
        side: Height and width of the picture in pixels.
        length: Tokens of the prompt.
    """

    def __init__(self, pipe: Pipeline, *, side: int, length: int) -> None:
        engine, config = pipe.engine, pipe.engine.model.config
        self.picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        patches = still(self.picture, engine.preprocessor)
        self.rows, self.grid = patches.rows, patches.grid  # (N, 588)
        self.full_rows = as_frames(self.rows, config)  # (N, 1176)
        merge = config.vision.spatial_merge_size
        self.span = ImageSpan(length // 9, self.grid.num_tokens(merge))
        ids = torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(0))
        ids[self.span.start : self.span.start + self.span.length] = config.image_token_id
        self.ids = ids
        where, self.delta = positions(length, [self.span], [self.grid], merge_size=merge)
        self.positions = torch.from_numpy(where)  # (3, N)


def as_frames(rows: Tensor, config: ModelConfig) -> Tensor:
    """A picture as identical frames, as transformers takes it. Shapes: (N, 588) -> (N, 1176)."""
    spread = rows.view(len(rows), config.vision.in_channels, 1, -1)
    return spread.expand(-1, -1, config.vision.temporal_patch_size, -1).flatten(1)


class Ours:
    """glmflash, as `engine.Stream` calls it."""

    def __init__(self, model: Glm4v, work: Work, *, steps: int) -> None:
        self.model, self.work, self.steps = model, work, steps
        self.seen = self.vision()

    def vision(self) -> Tensor:
        """Shapes: -> (tokens, hidden_size)."""
        (tokens,) = self.model.encode_images(self.work.rows, [self.work.grid])
        return tokens

    def prefill(self) -> Tensor:
        """Logits of the last token. Shapes: -> (vocab_size,)."""
        work = self.work
        layers = self.model.config.text.num_hidden_layers
        self.cache = GrowingCache(layers, capacity=len(work.ids) + self.steps)
        embeds = self.model.embed(work.ids, [self.seen], [work.span])
        return self.model(embeds, work.positions, self.cache, rows=torch.tensor([len(work.ids) - 1]))[0]

    def step(self, token: int) -> Tensor:
        """Logits after one more token. Shapes: -> (vocab_size,)."""
        where = torch.full((3, 1), self.cache.length + self.work.delta)
        return self.model(self.model.embed(torch.tensor([token])), where, self.cache)[0]


class Theirs:
    """transformers at its fastest without compiling: SDPA, a growing cache, logits of the last token only.

    What it would work out again at every call, such as positions, is handed to it.
    """

    def __init__(self, model: Glm4vForConditionalGeneration, work: Work) -> None:
        self.model, self.work = model, work
        self.grids = torch.tensor([[work.grid.t, work.grid.h, work.grid.w]])
        self.full_rows = work.full_rows.to(model.dtype)
        self.seen = self.vision()

    def vision(self) -> Tensor:
        """Shapes: -> (tokens, hidden_size)."""
        return self.model.model.visual(self.full_rows, grid_thw=self.grids).pooler_output

    def prefill(self) -> Tensor:
        """Logits of the last token. Shapes: -> (vocab_size,)."""
        self.cache = DynamicCache(config=self.model.config)
        return self._logits(
            input_ids=self.work.ids[None],
            mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=(self.seen,))},
            position_ids=self.work.positions[:, None],
        )

    def step(self, token: int) -> Tensor:
        """Logits after one more token. Shapes: -> (vocab_size,)."""
        where = torch.full((3, 1, 1), self.cache.get_seq_length() + self.work.delta)
        return self._logits(input_ids=torch.tensor([[token]]), position_ids=where)

    def _logits(self, **arguments: object) -> Tensor:
        out = self.model(**arguments, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, 0]


def reference_on_the_same_weights(model: Glm4v, folder: Path) -> Glm4vForConditionalGeneration:
    """transformers' module whose parameters are ours: nothing is copied.

    It is built without memory. Only its rotary frequencies, which no checkpoint holds, are made anew.
    """
    config = Glm4vConfig.from_pretrained(folder)
    config._attn_implementation = "sdpa"
    config.dtype = model.dtype
    with torch.device("meta"):
        reference = Glm4vForConditionalGeneration(config)
    reference.load_state_dict(model.state_dict(), strict=True, assign=True)
    towers = reference.model
    towers.visual.rotary_pos_emb = type(towers.visual.rotary_pos_emb)(config.vision_config)
    towers.language_model.rotary_emb = type(towers.language_model.rotary_emb)(config.text_config)
    assert reference.lm_head.weight.data_ptr() == model.lm_head.weight.data_ptr()
    assert not [name for name, tensor in reference.named_buffers() if tensor.is_meta]
    assert (
        towers.visual.config._attn_implementation
        == towers.language_model.config._attn_implementation
        == "sdpa"
    )
    return reference.eval()


class Generate:
    """transformers' `generate`, greedy, to which every question is new: it keeps nothing from call to call.

    It is handed what our engine would make of the question: ids, and the picture's patches, ready made.

    Args:
        model: On the weights of `pipe`.
        pipe: Lays questions out.
    """

    def __init__(self, model: Glm4vForConditionalGeneration, pipe: Pipeline) -> None:
        self.model, self.pipe = model, pipe

    def __call__(self, text: str, picture: np.ndarray, tokens: int) -> list[int]:
        """Ids of an answer of so many tokens."""
        given = self.inputs(text, picture)
        length = given["input_ids"].shape[1]
        config = GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0, eos_token_id=None)
        return self.model.generate(**given, generation_config=config)[0, length:].tolist()

    def inputs(self, text: str, picture: np.ndarray) -> dict[str, Tensor]:
        """The question about the picture, as `generate` takes it."""
        engine = self.pipe.engine
        asked = request(question(text, images=picture), {}, defaults=engine.generation)
        (patches,) = read_pictures(asked, engine.preprocessor, engine.settings.policy)
        prompt = build_prompt(asked, [patches], tokenizer=engine.tokenizer, config=engine.model.config).prompt
        ids, grid = torch.tensor([prompt.ids]), patches.grid
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == engine.model.config.image_token_id).int(),
            "pixel_values": as_frames(patches.rows, engine.model.config).to(engine.model.dtype),
            "image_grid_thw": torch.tensor([[grid.t, grid.h, grid.w]]),
        }
